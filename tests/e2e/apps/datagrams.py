# Answers each datagram after a delay with its pid and the request, on the inherited socket or on one of its own.
import os
import socket
import time

if "LISTEN_FDS" in os.environ:
    server = socket.socket(fileno=3)
else:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", int(os.environ["PORT"])))
if "NOTIFY_SOCKET" in os.environ:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
while True:
    sent, sender = server.recvfrom(64)
    time.sleep(0.005)
    server.sendto(b"%d %s" % (os.getpid(), sent), sender)
