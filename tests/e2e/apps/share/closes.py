# Closes its socket at SIGUSR1 and runs on, like servers that complete their open requests.
import os, select, signal, socket

server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
close, closing = os.pipe()
signal.signal(signal.SIGUSR1, lambda *_: os.write(closing, b"x"))
print("up", flush=True)
while True:
    ready, _, _ = select.select([server, close], [], [])
    if close in ready:
        server.close()
        print("closed", flush=True)
        break
    connection, _ = server.accept()
    connection.sendall(b"%d\n" % os.getpid())
    connection.close()
signal.pause()
