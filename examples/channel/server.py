"""A web server that gets its connections from pmr's own channel: exact round robin, several connections at a time.

    PORT=3000 pmr start examples/channel/server.py -i 4

Python 3.9 or later, no packages. The protocol: https://docs.rs/pmr-worker/latest/pmr_worker/protocol
"""
import os, socket, struct, threading
from http.server import BaseHTTPRequestHandler


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5  # for a connection without a request

    def do_GET(self):
        body = b"%d\n" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if draining:  # the client shall open another connection
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


channel = socket.socket(fileno=int(os.environ["PMR_CHANNEL_FD"]))
lock, taken, opened, token, draining = threading.Lock(), 0, 0, 0, False


def say(kind, small=0, index=0, body=b""):
    channel.send(struct.pack("<HHI", kind, small, index) + body)


def tell():  # STATUS, and DRAINED when the last one has ended
    say(4, 0, opened, struct.pack("<QQQ", 16, taken, token))
    if draining and not opened:
        say(7)


def serve(connection):
    global opened
    with connection:
        try:
            Hello(connection, connection.getpeername(), None)
        except OSError:
            pass  # the client has hung up
    with lock:
        opened -= 1
        tell()


say(1, 1, 0x31524D50)  # HELLO
say(2, 0, 0, b"127.0.0.1:" + os.environ.get("PORT", "3000").encode())  # LISTEN
tell()
while True:
    packet, files, _, _ = socket.recv_fds(channel, 512, 16)
    if not packet:
        break  # pmr is gone
    kind, small, index = struct.unpack_from("<HHI", packet)
    with lock:
        if kind == 132:  # CONNECTIONS
            taken, opened = struct.unpack_from("<Q", packet, 8 * small)[0], opened + small
        elif kind == 133:  # SYNC
            token = struct.unpack_from("<Q", packet, 8)[0]
        elif kind == 134:  # DRAIN
            draining = True
        elif kind == 131 and small:  # LISTENING, with an errno
            raise OSError(small, os.strerror(small))
        elif kind == 130:  # UNWELCOME
            raise SystemExit(f"pmr speaks versions {small} to {index}")
        tell()
    for file in files:
        connection = socket.socket(fileno=file)
        connection.setblocking(True)
        threading.Thread(target=serve, args=[connection], daemon=True).start()
