# SPDX-License-Identifier: Apache-2.0
"""Makes a Python that was started as `python3 main.py` wait for its program (shim/init/park.c): site imports this, found by
PYTHONPATH, when all is there but the program. When it returns, nothing of it is left, and Python goes on as ever. Anywhere
else (fd 3 is no such socket) it does nothing but make way."""

import sys


def _serve():
    """Returns in children that fork.c made, who are what a process would be that was started to wait. What is there by now is left
    alone by the collector, so that less of it is copied."""
    import gc
    import os
    gc.collect()
    gc.freeze()
    del sys.modules["gc"]
    os.fork()
    os.chdir("/workspace")


def _wait():
    import io
    import os
    if os.environ.get("DEVBOX_FORK"):
        _serve()
    try:
        if os.write(3, b"R") != 1:
            return
    except OSError:
        return
    told = b""
    while True:
        piece = os.read(3, 65536)
        if not piece:
            break
        told += piece
    if not told:
        os._exit(0)
    os.close(3)
    words = told[:-1].split(b"\0")
    count, stdin = map(int, words[0].split())
    args = [os.fsdecode(w) for w in words[1:1 + count]]
    sys.argv += args
    sys.orig_argv += args
    env = dict(w.split(b"=", 1) for w in words[1 + count:])
    for key in [k for k in os.environb if k not in env]:
        del os.environb[key]
    for key, value in env.items():
        if os.environb.get(key) != value:
            os.environb[key] = value
    if not stdin:
        # As Python itself makes it, of what a program without input has there.
        os.close(0)
        os.open("/dev/null", os.O_RDWR)
        os.set_inheritable(0, True)
        old, buffer = sys.stdin, io.open(0, "rb", -1, closefd=False)
        buffer.raw.name = "<stdin>"
        sys.stdin = sys.__stdin__ = io.TextIOWrapper(buffer, old.encoding, old.errors, "\n", old.line_buffering, old.write_through)
        sys.stdin.mode = "r"


def _make_way():
    here = __spec__.origin.rpartition("/")[0]
    while here in sys.path:
        sys.path.remove(here)
    sys.path_importer_cache.pop(here, None)
    del sys.modules[__name__]


_make_way()
try:
    import sitecustomize  # the image's own, if there is one: what comes after us finds that
finally:
    _wait()
