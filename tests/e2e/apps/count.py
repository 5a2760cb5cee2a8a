# Numbers its lines, so that lost and duplicated lines show.
import os
import sys
import time

pause = float(sys.argv[1]) if len(sys.argv) > 1 else 0.01
number = 0
while True:
    number += 1
    # One write, which no signal interrupts.
    os.write(1, f"{os.getpid()} {number}\n".encode())
    time.sleep(pause)
