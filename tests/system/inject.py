# SPDX-License-Identifier: Apache-2.0
"""What is done to a living process from outside: it stands still, or makes a system call of our choosing (by ptrace), as its attacker would."""

import ctypes
import errno
import os
import signal
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PEEK, POKE, SINGLESTEP, GETREGS, SETREGS, ATTACH, DETACH = 2, 5, 9, 12, 13, 16, 17
NAMES = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs").split()
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


class Regs(ctypes.Structure):
    _fields_ = [(n, ctypes.c_ulonglong) for n in NAMES]


def ptrace(what, pid, addr=0, data=0):
    ctypes.set_errno(0)
    r = libc.ptrace(what, pid, addr, data)
    if r == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), f"ptrace {what}")
    return r


def stands(pid, task):
    try:
        with open(f"/proc/{pid}/task/{task}/stat") as f:
            return f.read().rpartition(") ")[2][0] in "TZX"
    except FileNotFoundError:
        return True


def freeze(pid):
    """Stops it, and returns when each of its threads has: on a busy machine one serves on for a while behind the signal."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while not all(stands(pid, t) for t in os.listdir(f"/proc/{pid}/task")):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def poke(pid, at, data):
    data += b"\0" * (8 - len(data) % 8)
    for i in range(0, len(data), 8):
        ptrace(POKE, pid, at + i, int.from_bytes(data[i:i + 8], "little"))


def stop_in_call(pid):
    """Stopped while it waits in a system call; its registers."""
    regs = Regs()
    for _ in range(1000):
        ptrace(ATTACH, pid)
        os.waitpid(pid, 0)
        ptrace(GETREGS, pid, 0, ctypes.addressof(regs))
        if ptrace(PEEK, pid, regs.rip - 2) & 0xFFFF == 0x050F:
            return regs
        ptrace(DETACH, pid)
        time.sleep(0.01)
    raise AssertionError("it never waits")


def steps(pid):
    """What the call at rip returned; the name of the signal when the process died of it."""
    regs, refused = Regs(), False
    while True:
        ptrace(SINGLESTEP, pid)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            return signal.Signals(os.WTERMSIG(status)).name
        if os.WSTOPSIG(status) == signal.SIGSYS:  # its handler would answer; so do we
            refused = True
        elif os.WSTOPSIG(status) == signal.SIGTRAP:
            ptrace(GETREGS, pid, 0, ctypes.addressof(regs))
            return -errno.ENOSYS if refused else ctypes.c_longlong(regs.rax).value


def syscall(pid, number, *arguments):
    """What the call returned in that process (a negative errno when it failed), or the name of the signal that it died of.
    A str among the arguments is put below its stack. The process goes on as if nothing had been."""
    before = stop_in_call(pid)
    regs = Regs.from_buffer_copy(before)
    at, values = before.rsp - 4096, []
    for a in arguments:
        if isinstance(a, str):
            poke(pid, at, a.encode())
            values.append(at)
            at -= 1024
        else:
            values.append(a & (2**64 - 1))
    for name, value in zip(ARGUMENTS, values):
        setattr(regs, name, value)
    regs.rax, regs.orig_rax, regs.rip = number, 2**64 - 1, before.rip - 2
    ptrace(SETREGS, pid, 0, ctypes.addressof(regs))
    result = steps(pid)
    if not isinstance(result, str):
        ptrace(SETREGS, pid, 0, ctypes.addressof(before))
        ptrace(DETACH, pid)
    return result
