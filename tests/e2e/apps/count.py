# Numbers its lines: one that is lost or comes twice shows.
import os
import sys
import time

pause = float(sys.argv[1]) if len(sys.argv) > 1 else 0.01
number = 0
while True:
    number += 1
    # In one piece, whatever signal comes.
    os.write(1, f"{os.getpid()} {number}\n".encode())
    time.sleep(pause)
