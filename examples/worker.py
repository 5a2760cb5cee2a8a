# A background worker in Python: it does a piece of work at intervals, and completes the current one before it exits.
#
#   pmr start examples/worker.py --name worker -- --every 0.5
import argparse
import signal
import threading

arguments = argparse.ArgumentParser()
arguments.add_argument("--every", type=float, default=5.0, help="seconds between two pieces of work")
every = arguments.parse_args().every

leaving = threading.Event()
for name in (signal.SIGINT, signal.SIGTERM):
    signal.signal(name, lambda *_: leaving.set())

pieces = 0
print("worker ready", flush=True)
while not leaving.wait(every):
    pieces += 1
    print(f"piece {pieces} done", flush=True)
print(f"worker leaves after {pieces} pieces", flush=True)
