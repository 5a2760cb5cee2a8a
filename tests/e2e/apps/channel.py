# A worker on pmr's own channel that misbehaves when files in its folder say so: `credit-PID` has the number of
# connections that it grants, and `garbage-PID` makes it write garbage.
import os, select, socket, struct

pid = os.getpid()
channel = socket.socket(fileno=int(os.environ["PMR_CHANNEL_FD"]))
state = {"credit": 16, "taken": 0, "token": 0}


def say(kind, small=0, index=0, body=b""):
    channel.send(struct.pack("<HHI", kind, small, index) + body)


def tell():
    say(4, 0, 0, struct.pack("<QQQ", state["credit"], state["taken"], state["token"]))


def orders():
    try:
        credit = int(open(f"credit-{pid}").read())
        if credit != state["credit"]:
            state["credit"] = credit
            tell()
            print("credit", credit, flush=True)
        elif not state.setdefault(f"told {credit}", 0):
            print("credit", credit, flush=True)
        state[f"told {credit}"] = 1
    except (FileNotFoundError, ValueError):
        pass
    if os.path.exists(f"garbage-{pid}") and "fool" not in state:
        state["fool"] = True
        for length in [1, 2, 7, 8, 9, 31, 32, 511, 512, 513, 5000]:
            channel.send(os.urandom(1) + b"\xff" + os.urandom(length)[2:] if length > 2 else os.urandom(length))
        socket.send_fds(channel, [b"with files"], [0, 1, 2])
        for kind in range(1, 8):  # cut off, and for things that are not there
            channel.send(struct.pack("<HH", kind, 1))
        say(2, 0, 9, b"nowhere at all")
        say(2, 0, 0, b"127.0.0.1:1")
        say(3, 0, 77)
        say(5, 0, 0, struct.pack("<Q", 1 << 60))
        say(1, 1, 0x31524D50)
        tell()
        print("garbage sent", flush=True)


say(1, int(os.environ.get("VERSION", "1")), 0x31524D50)
say(2, 0, 0, b"127.0.0.1:" + os.environ["PORT"].encode())
tell()
while True:
    orders()
    if not select.select([channel], [], [], 0.02)[0]:
        continue
    packet, files, _, _ = socket.recv_fds(channel, 512, 16)
    if not packet:
        break
    kind, small, index = struct.unpack_from("<HHI", packet)
    if kind == 132:
        state["taken"] = struct.unpack_from("<Q", packet, 8 * small)[0]
    elif kind == 133:
        state["token"] = struct.unpack_from("<Q", packet, 8)[0]
    elif kind == 130:
        print(f"unwelcome: {small} to {index}", flush=True)
        continue
    elif kind == 134:
        say(7)
        continue
    tell()
    for file in files:
        connection = socket.socket(fileno=file)
        connection.setblocking(True)
        connection.recv(4096)
        body = b"%d\n" % pid
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        connection.close()
