# A server with a health check at /healthz: 500 if RELEASE is sick, or while the file SICK/PID exists. It binds PORT, or
# accepts on the inherited socket.
import os, socket, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sick = os.environ["RELEASE"] == "sick"
if sick:
    print("this release is sick", file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        ill = sick or os.path.exists(os.path.join(os.environ["SICK"], str(os.getpid())))
        status = b"500 Ill" if ill and self.path == "/healthz" else b"200 OK"
        body = b"%d\n" % os.getpid()
        self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    def log_message(self, *_):
        pass


given = "LISTEN_FDS" in os.environ
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler, bind_and_activate=not given)
if given:
    server.socket = socket.socket(fileno=3)
try:
    server.serve_forever()
except KeyboardInterrupt:
    pass
