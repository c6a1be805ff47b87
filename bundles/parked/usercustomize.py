# SPDX-License-Identifier: Apache-2.0
"""Makes a Python that was started as `python3 main.py` wait for its program (shim/init/park.c): site imports this last, found by
PYTHONPATH, when all is there but the program. When it returns, nothing of it is left, and Python goes on as ever. Anywhere
else (fd 3 is no such socket) it does nothing but make way.

Each system call in there takes 30 us or more when nothing ran before, so what can be made ahead is made before the wait."""

import sys

_WORK = "/workspace"


def _serve():
    """Returns in children that fork.c made, who are what a process would be that was started to wait. What is there by now is left
    alone by the collector, so that less of it is copied."""
    import gc
    import os
    gc.collect()
    gc.freeze()
    del sys.modules["gc"]
    os.fork()
    os.chdir(_WORK)


def _no_input():
    """What stdin is for a program without input, as Python itself makes it of what such a one has there. Most have none: /dev/null
    stands at fd 0 while it waits, and what stood there at fd 4."""
    import io
    import os
    os.dup2(0, 4, False)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    like, buffer = sys.stdin, io.open(0, "rb", -1, closefd=False)
    buffer.raw.name = "<stdin>"
    stdin = io.TextIOWrapper(buffer, like.encoding, like.errors, "\n", like.line_buffering, like.write_through)
    stdin.mode = "r"
    return stdin


def _touch():
    """The compiler has not been needed so far: what it is made of is not in memory before it has compiled something."""
    compile("""import os
from os import path as p


class A(object):
    x: int = 1

    def f(self, a, *b, c=None, **d):
        "Words."
        for i, k in enumerate(b):
            if not k and i > 1 or k in (2, 3):
                continue
            self.x += a[i] * -2 ** 3
        while c:
            c = [n for n in range(9) if n % 2] or {"k": (1,)}
        return lambda q: q


try:
    with open("n") as g:
        print(f"{g.read()!r:>9}", "%d" % len(A().f(1)), end="")
except (OSError, KeyError) as e:
    raise ValueError("no") from e
finally:
    assert True, "yes"
if __name__ == "__main__":
    pass
""", "<touched>", "exec")


def _numbers(head):
    return map(int, head.split())


def _take(told, count):
    """The arguments and the environment become the program's."""
    import os
    words = told.split(b"\0")[:-1]
    args = [os.fsdecode(w) for w in words[:count]]
    sys.argv += args
    sys.orig_argv += args
    env = dict(w.split(b"=", 1) for w in words[count:])
    for key in [k for k in os.environb if k not in env]:
        del os.environb[key]
    for key, value in env.items():
        if os.environb.get(key) != value:
            os.environb[key] = value


def _rehearse():
    """What is done behind the wait is done before it, too, to no effect: then it is in memory. So is room on the stack."""
    import os
    os.environb[b"_"] = b"_"
    _take(b"".join(k + b"=" + v + b"\0" for k, v in os.environb.items() if k != b"_"), sum(_numbers(b"0 0 0 0")))
    deep = []
    for _ in range(200):
        deep = [deep]
    repr(deep)


def _is_plain(path):
    """It is no archive of modules."""
    import os
    try:
        found = os.stat(path)
        if found.st_mode & 0o170000 != 0o100000 or found.st_size > 65536:
            return False
        fd = os.open(path, os.O_RDONLY)
        data = os.read(fd, 65536)
        os.close(fd)
    except OSError:
        return False
    return len(data) == found.st_size and b"PK\5\6" not in data


def _wait():
    import os
    try:
        _touch()
        _rehearse()
        nothing = _no_input()
    except OSError:
        return
    forked = os.environ.get("DEVBOX_FORK")
    if forked:
        _serve()
    try:
        if os.write(3, b"R") != 1:
            return
    except OSError:
        return
    told = os.read(3, 65536)
    if not told:
        os._exit(0)
    head, told = told.split(b"\0", 1)
    size, count, stdin, plain = _numbers(head)
    while len(told) < size:
        piece = os.read(3, 65536)
        if not piece:
            os._exit(0)
        told += piece
    if forked and not stdin:  # a child has at fd 0 what its order says, and nothing at fd 4
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    elif not forked and stdin:
        os.dup2(4, 0)
    if not stdin:
        sys.stdin = sys.__stdin__ = nothing
    os.closerange(3, 5)
    # Whether it is an archive is what Python asks first, in a dozen system calls: the answer is put where it would be remembered.
    path = _WORK + "/" + sys.argv[0]
    if plain or _is_plain(path):
        sys.path_importer_cache[path] = None
    _take(told, count)


def _make_way():
    here = __spec__.origin.rpartition("/")[0]
    while here in sys.path:
        sys.path.remove(here)
    sys.path_importer_cache.pop(here, None)
    del sys.modules[__name__]


_make_way()
try:
    import usercustomize  # the image's own, if there is one: what comes after us finds that
finally:
    _wait()
