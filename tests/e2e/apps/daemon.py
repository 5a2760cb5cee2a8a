# Daemonizes, and ends while its middle process is exiting: that process has closed its output, leads a session of its
# own, and needs some time to release its memory.
import mmap, os, signal, time

wait, go = os.pipe()
if os.fork():
    os.close(go)
    os.read(wait, 1)
    os._exit(0)
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
middle = os.getpid()
ballast = mmap.mmap(-1, 200 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
ballast.madvise(mmap.MADV_DONTFORK)
for at in range(0, len(ballast), mmap.PAGESIZE):
    ballast[at] = 1
if os.fork():
    os._exit(0)
signal.signal(signal.SIGINT, signal.SIG_IGN)


def is_leaving():
    try:
        with open(f"/proc/{middle}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[6]) & 4
    except OSError:
        return True


while not is_leaving():
    pass
os.close(go)
time.sleep(1000)
