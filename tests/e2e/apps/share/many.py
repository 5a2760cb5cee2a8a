# Listens in all the ways that programs do: IPv4 beside IPv6, both in one socket, UDP, several paths, a port bound by a
# parent for its child, from another thread, and a socket that was shut down and listens again. Answers each request
# with its pid.
import os, socket, threading

base = int(os.environ["PORT"])
pid = b"%d\n" % os.getpid()


def serve(server):
    while True:
        connection, _ = server.accept()
        connection.sendall(pid)
        connection.close()


def tcp(port, address="127.0.0.1", family=socket.AF_INET, proto=0, v6only=None, listen=True):
    server = socket.socket(family, socket.SOCK_STREAM, proto)
    if v6only is not None:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    server.bind((address, port))
    if listen:
        server.listen(5)
    return server


def also(server):
    threading.Thread(target=serve, args=(server,)).start()


also(tcp(base + 1, "0.0.0.0"))
also(tcp(base + 1, "::", socket.AF_INET6, v6only=1))
also(tcp(base + 2, "::", socket.AF_INET6, v6only=0))
try:
    also(tcp(base + 3, proto=262))
except OSError:
    also(tcp(base + 3))

datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", base + 4))


def echo():
    while True:
        _, peer = datagrams.recvfrom(100)
        datagrams.sendto(pid, peer)


threading.Thread(target=echo).start()

parents = tcp(base + 5, listen=False)
if os.fork() == 0:
    parents.listen()
    serve(parents)

again = tcp(base + 6)
again.shutdown(socket.SHUT_RDWR)
again.listen(3)
again.listen(4)
also(again)
threading.Thread(target=lambda: also(tcp(base))).start()
