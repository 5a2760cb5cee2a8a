# Binds sockets that pmr must not share, and some that it must. Prints the outcome of each, then serves on PORT.
import os, socket, sys, time

port = int(os.environ["PORT"])
private = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(f"own-{os.getpid()}.sock")
unix.listen()
client = socket.socket(socket.AF_UNIX)
client.connect(f"own-{os.getpid()}.sock")
client = socket.create_connection(private.getsockname())
client.close()
try:
    other = socket.create_server(("127.0.0.1", int(os.environ["OTHER"])))
    print("other: mine")
except OSError as error:
    print("other:", error.errno)
probe = socket.create_server(("127.0.0.1", port))
probe.close()
server = socket.create_server(("127.0.0.1", port))
try:
    socket.create_server(("127.0.0.1", port))
    print("twice: possible")
except OSError as error:
    print("twice:", error.errno)
sys.stdout.flush()
while True:
    connection, _ = server.accept()
    asked = b""
    while not asked.endswith(b"\r\n\r\n") and (more := connection.recv(1000)):
        asked += more
    if asked:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d\n" % os.getpid())
    connection.close()
