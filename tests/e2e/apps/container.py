# Runs a command under Docker's default profile: container.py [--ptrace] COMMAND... It takes root, on x86-64.
#
# Fourteen capabilities are left. The calls below, which the profile ties to other capabilities, are refused. `clone3`
# fails with ENOSYS, because a filter cannot read its flags. `--ptrace` stands for `docker run --cap-add SYS_PTRACE`.
import ctypes
import os
import struct
import sys

KEPT = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,"
    "audit_write,setfcap"
).split(",")
PIDFD_GETFD, KCMP, CLONE3, EPERM, ENOSYS = 438, 312, 435, 1, 38
REFUSED = [
    155, 163, 164, 165, 166, 167, 169, 175, 176, 179, 212,  # pivot_root, acct, settimeofday, mount .. lookup_dcookie
    237, 239, 248, 249, 250, 272, 279, 298, 304, 308, 313,  # mbind .. keyctl, unshare .. setns, finit_module
    321, 323, 425, 426, 427, 428, 429, 430, 432, 433,  # bpf, userfaultfd, io_uring_*, mounts
]  # fmt: skip

words = sys.argv[1:]
if words[0] == "--ptrace":
    words, KEPT = words[1:], KEPT + ["sys_ptrace"]
else:
    REFUSED += [PIDFD_GETFD, KCMP]
LOAD, EQUAL, RETURN, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
lines = [(LOAD, 0, 0, 0)]
for number, errno in [(number, EPERM) for number in REFUSED] + [(CLONE3, ENOSYS)]:
    lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | errno)]
lines.append((RETURN, 0, 0, ALLOW))
code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in lines))
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(lines), ctypes.addressof(code)))
PR_SET_SECCOMP, FILTER = 22, 2
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0):
    raise OSError(ctypes.get_errno(), "the filter is refused")
bounding = ",".join(["-all"] + ["+" + name for name in KEPT])
os.execvp("setpriv", ["setpriv", "--bounding-set", bounding, "--inh-caps", "-all", *words])
