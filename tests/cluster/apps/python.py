# Python's own server, unmodified: a connection for each request, a thread for each connection. The same questions and
# releases as work.cjs.
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MB = 1 << 20
PID = b'%d\n' % os.getpid()
LARGE = PID + b'x' * (16 * MB)
release = open('release').read().strip()
kept = []


def work():
    time.sleep(0.03)
    return PID


def long():
    time.sleep(2)
    return PID


def grow():
    kept.append(b'x' * (400 * MB))
    return PID


ANSWERS = {'/': lambda: PID, '/work': work, '/large': lambda: LARGE, '/long': long, '/grow': grow}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = ANSWERS[self.path]()
        self.send_response(503 if release == 'sick' else 200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def handle_error(self, request, client):
        pass  # the client has gone


def die():
    print('this release dies: out of file descriptors', file=sys.stderr, flush=True)
    os._exit(9)


print(f'boot of release {release}', flush=True)
if release == 'crash':
    print('this release is broken: no such table: users', file=sys.stderr)
    sys.exit(7)
if release == 'mute':
    while True:
        time.sleep(1)
if release == 'dying':
    timer = threading.Timer(5, die)
    timer.daemon = True
    timer.start()
server = Server(('0.0.0.0', int(os.environ['PORT'])), Handler)
if os.environ['GRACEFUL'] == 'yes':
    signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=server.shutdown).start())
if release != 'sick':
    print('ready to serve', flush=True)
server.serve_forever()
