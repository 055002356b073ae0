"""What a debugger of the same user gets of a program that waits for its input: a line for each way in.

attach.py PROGRAM [ARGUMENT...]   the program is started by this one, which may do more to it than a stranger might
"""

import ctypes
import errno
import os
import resource
import signal
import subprocess
import sys
import time

# <linux/ptrace.h>
PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 16, 17, 0x4206, 0x4207
PATIENCE_SECONDS = 10

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


def ended(result):
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def stops(pid):
    """Waits until a process that was attached stops, and lets it go on."""
    os.waitpid(pid, os.WUNTRACED)
    assert libc.ptrace(PTRACE_DETACH, pid, None, None) == 0


def ptrace(request, pid):
    result = ended(libc.ptrace(request, pid, None, None))
    if result == "done":
        if request == PTRACE_SEIZE:
            assert libc.ptrace(PTRACE_INTERRUPT, pid, None, None) == 0
        stops(pid)
    return result


def read_by_vectors(pid):
    # Nothing is there. Whether it may be read is asked first: EPERM if not, else EFAULT.
    address = 4096
    buffer = ctypes.create_string_buffer(16)
    ours, theirs = Vector(ctypes.addressof(buffer), 16), Vector(address, 16)
    return ended(libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0))


def open_memory(pid):
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]


def waits(pid):
    """Whether it sleeps: a program that does so has begun."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")")[-1].split()[0] == "S"


# Whoever starts it may want a core dump.
_, most = resource.getrlimit(resource.RLIMIT_CORE)
assert most != 0, "nothing leaves a core dump here: raise ulimit -Hc"
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
deadline = time.monotonic() + PATIENCE_SECONDS
asleep = 0
# Asleep for a while, and not between two steps of its start.
while asleep < 50:
    assert time.monotonic() < deadline, "it does not wait"
    asleep = asleep + 1 if waits(child.pid) else 0
    time.sleep(0.002)

print("PTRACE_SEIZE", ptrace(PTRACE_SEIZE, child.pid))
print("PTRACE_ATTACH", ptrace(PTRACE_ATTACH, child.pid))
print("process_vm_readv", read_by_vectors(child.pid))
print("/proc/PID/mem", open_memory(child.pid))
os.kill(child.pid, signal.SIGABRT)
_, status = os.waitpid(child.pid, 0)
assert os.WTERMSIG(status) == signal.SIGABRT
print("core dump", "written" if os.WCOREDUMP(status) else "none")
