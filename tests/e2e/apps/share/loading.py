# A program that listens before it can serve: it loads until the file `go` is in its folder. With the file `broken` in
# its place the load fails. What listens notes its pid in the folder.
import os
import socket
import sys
import time
from pathlib import Path

socket_ = socket.socket()
socket_.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
socket_.bind(("127.0.0.1", int(os.environ["PORT"])))
socket_.listen(128)
Path(f"listens-{os.getpid()}").touch()
while not Path("go").exists():
    if Path("broken").exists():
        sys.exit("the load failed")
    time.sleep(0.01)
body = str(os.getpid()).encode()
answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
while True:
    client, _ = socket_.accept()
    with client:
        if client.recv(4096):
            client.sendall(answer)
