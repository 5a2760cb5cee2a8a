# A server that shares its port by itself, with SO_REUSEPORT.
import os, socket

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind(("127.0.0.1", int(os.environ["PORT"])))
server.listen()
while True:
    connection, _ = server.accept()
    asked = b""
    while not asked.endswith(b"\r\n\r\n") and (more := connection.recv(1000)):
        asked += more
    if asked:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d\n" % os.getpid())
    connection.close()
