#!/usr/bin/env python3
# A server that inherits its socket, as from systemd, and reports when it is ready. It needs no package.
#
#   pmr start examples/activated.py -i 4 --listen tcp://0.0.0.0:3000 --wait-ready
#
# With `--idle-timeout 5m` its processes stop after five minutes without a client, and the next client starts one.
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def notify(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "client"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/work":
            time.sleep(float(os.environ.get("WORK_TAKES", "0.03")))
        if self.path == "/hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        body = f"{os.getpid()}\n".encode()
        if self.path == "/env":
            names = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NODE_UNIQUE_ID"]
            body = " ".join(f"{name}={os.environ.get(name)}" for name in names).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, given):
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = given

    def get_request(self):
        connection, address = self.socket.accept()
        return connection, address or "unix"


if os.environ.get("LISTEN_PID") != str(os.getpid()):
    raise SystemExit("started without a socket: use --listen")
watchdog = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6


def stay_awake():
    while True:
        notify("WATCHDOG=1")
        time.sleep(watchdog / 3)


if watchdog:
    threading.Thread(target=stay_awake, daemon=True).start()
time.sleep(float(os.environ.get("START_TAKES", "0")))
servers = [Server(socket.socket(fileno=3 + number)) for number in range(int(os.environ["LISTEN_FDS"]))]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
notify(f"READY=1\nSTATUS=serving as {os.getpid()}")
servers[0].serve_forever()
