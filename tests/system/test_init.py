# SPDX-License-Identifier: Apache-2.0
"""devbox-sandbox-init as PID 1 under the real runsc, driven over its socket: what only gVisor can tell (native tests of
the same program are shim/tests/test_init_client.c)."""

import json
import os
import pathlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import uuid

import pytest

from test_bundles import cache_dir, program  # the same places

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = struct.Struct("<HHIQ")
FILES, START, SIGNAL, KILL_ALL, LIST, ACK, STAT, QUIT = range(1, 9)
READY, STARTED, EXITED, DONE, STATUS, SAW = range(128, 134)
BODY_FD, AGAIN = 1, 2
SAW_DISK_FULL, SAW_PROCESS_MAX, LEFT_OTHERS = 1, 2, 4
DISK = 16 << 20

# What runs inside: one static program that does as its arguments say.
PROBE = r"""
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
static int fill(void)
{
    static char block[65536];
    int fd = open("big", O_CREAT | O_WRONLY, 0644);
    while (write(fd, block, sizeof(block)) > 0)
        ;
    printf("%s\n", strerror(errno));
    return 1;
}
static int bomb(void)
{
    int n = 0;
    for (; n < 500; n++) {
        pid_t pid = fork();
        if (pid < 0)
            break;
        if (pid == 0) {
            setsid(); /* out of the group: only kill-all finds it */
            for (;;)
                pause();
        }
    }
    printf("%d %s\n", n, strerror(errno));
    char c;
    return read(0, &c, 1) < 0 ? 2 : 1; /* /dev/null, or until it is told */
}
static char block[1 << 20];
/* Standard output in as many bytes as asked for, by one write; the bytes count, so that order is seen. */
static int one_write(size_t size)
{
    char *all = malloc(size);
    for (size_t i = 0; i < size; i++)
        all[i] = (char)(i % 251);
    return write(1, all, size) == (ssize_t)size && write(2, all, size) == (ssize_t)size ? 0 : 1;
}
static int flood(void)
{
    signal(SIGPIPE, SIG_DFL);
    while (write(1, block, sizeof(block)) == sizeof(block))
        ;
    return 1;
}
static int count_input(void)
{
    size_t n = 0;
    for (ssize_t r; (r = read(0, block, sizeof(block))) > 0; n += (size_t)r)
        ;
    printf("%zu %d%d%d\n", n, isatty(0), isatty(1), isatty(2));
    return 0;
}
static int reopen(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
    return fd >= 0 && write(fd, "again\n", 6) == 6 && close(fd) == 0 ? 0 : 1;
}
static int who(void)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    printf("%d %d %d %d\n", getuid(), getgid(), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), kill(1, 0));
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, "Cap", 3))
            printf("%s", line);
    for (int fd = 0; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && (!f || fd != fileno(f)))
            printf("fd %d %s\n", fd, fcntl(fd, F_GETFL) & O_NONBLOCK ? "nonblocking" : "blocking");
    return 0;
}
int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(what, "fill"))
        return fill();
    if (!strcmp(what, "bomb"))
        return bomb();
    if (!strcmp(what, "who"))
        return who();
    if (!strcmp(what, "reopen"))
        return reopen("/dev/stdout") || reopen("/dev/stderr") || reopen("/proc/self/fd/1");
    if (!strcmp(what, "one-write"))
        return one_write(strtoul(argv[2], NULL, 10));
    if (!strcmp(what, "flood"))
        return flood();
    if (!strcmp(what, "count-input"))
        return count_input();
    if (!strcmp(what, "leave-flood")) /* a child goes on when the process has ended */
        return fork() == 0 ? flood() : 0;
    if (!strcmp(what, "cat")) {
        char c[4096];
        for (ssize_t n; (n = read(0, c, sizeof(c))) > 0;)
            if (write(1, c, n) != n)
                return 2;
        return 0;
    }
    puts("hello");
    return 3;
}
"""


@pytest.fixture(scope="module")
def runsc():
    r = subprocess.run([ROOT / "bundles" / "get-runsc", "--cache", cache_dir()], stdout=subprocess.PIPE, text=True,
                       timeout=1200)
    assert r.returncode == 0
    return r.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.c").write_text(PROBE)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-Os", "-static", "-o", folder / "probe", folder / "probe.c"], check=True)
    return folder / "probe"


def read_some(fd, size=1 << 20):
    assert select.select([fd], [], [], 60)[0], "nothing comes"
    return os.read(fd, size)


def read_exactly(fd, size):
    data = b""
    while len(data) < size and (piece := read_some(fd, size - len(data))):
        data += piece
    return data


def read_all(fd):
    data = b""
    while piece := read_some(fd):
        data += piece
    os.close(fd)
    return data


def pass_time(box, seconds):
    """Nothing is expected to happen meanwhile."""
    assert not select.select([box.sock], [], [], seconds)[0]


class Box:
    """One sandbox: init from the build, the probe in /bin, 16 MiB of disk."""

    def __init__(self, runsc, probe, where):
        self.id, self.where, self.tag = "init-" + uuid.uuid4().hex[:10], where, 0
        root, disk, init = where / "rootfs", where / "disk", where / "init"
        for d in (disk, init, *(root / n for n in ("bin", "proc", "tmp", "workspace", ".devbox", "dev"))):
            d.mkdir(parents=True)
        shutil.copy(probe, root / "bin" / "probe")
        shutil.copy(program("devbox-sandbox-init"), init / "init")
        os.chown(root / "workspace", 1000, 1000)
        caps = ["CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_CHOWN"]
        spec = {
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/.devbox/init"], "cwd": "/", "env": [],
                        "capabilities": {k: caps for k in ("bounding", "effective", "permitted")},
                        "noNewPrivileges": True},
            "root": {"path": str(root)},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                       {"destination": "/.devbox", "type": "bind", "source": str(init), "options": ["ro"]}],
            "linux": {"namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]},
        }
        (where / "config.json").write_text(json.dumps(spec))
        self.runsc = [runsc, "--root", str(where / "state"), "--network=none", "--ignore-cgroups",
                      f"--overlay2=root:dir={disk},size={DISK}"]
        self.sock, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(60)
        with open(where / "log", "w") as log:
            subprocess.run([*self.runsc, "create", "--bundle", str(where), "--pid-file", str(where / "pid"), self.id],
                           stdin=inner, stdout=log, stderr=log, check=True, timeout=60)
        inner.close()
        subprocess.run([*self.runsc, "start", self.id], check=True, timeout=60)
        op, _, body = self.receive()
        assert op == READY
        magic, version, self.features, self.pid1 = struct.unpack("<IIII", body)
        assert magic == 0x49584244 and version == 1

    def close(self):
        self.sock.close()
        subprocess.run([*self.runsc, "delete", "--force", self.id], capture_output=True, timeout=60)
        # runsc binds a namespace into its state folder and leaves it there
        subprocess.run(["umount", "-l", self.where / "state" / "null-netns"], capture_output=True, timeout=60)

    def send(self, op, body=b"", fds=(), flags=0, length=None):
        self.tag += 1
        head = HEADER.pack(op, flags, self.tag, len(body) if length is None else length)
        socket.send_fds(self.sock, [head + body], list(fds))

    def receive(self):
        data = self.sock.recv(4096)
        op, flags, _, length = HEADER.unpack_from(data)
        assert length == len(data) - HEADER.size
        return op, flags, data[HEADER.size:]

    def start(self, *argv, limits=(), stdin=False, stderr=False, key=None):
        """Returns (key, stdin's end or None, stdout's end); stderr's end is self.stderr."""
        key = key or uuid.uuid4().bytes + bytes(4)
        out, inn, err = os.pipe(), os.pipe() if stdin else None, os.pipe() if stderr else None
        env = [b"PATH=/bin"]
        which = 2 | (1 if stdin else 0) | (4 if stderr else 0)
        body = key + struct.pack("<IIIHHHH", 1000, 1000, which, len(argv), len(env), len(limits), 0o022)
        body += b"".join(struct.pack("<IIQQ", which, 0, n, n) for which, n in limits)
        body += b"".join(s + b"\0" for s in (b"/workspace", *(a.encode() for a in argv), *env))
        theirs = [*inn[:1]] if stdin else []
        theirs += [out[1], *([err[1]] if stderr else [])]
        self.send(START, body, theirs)
        for fd in theirs:
            os.close(fd)
        self.stderr = err[0] if stderr else None
        return key, inn[1] if stdin else None, out[0]

    def started(self):
        op, flags, body = self.receive()
        assert op == STARTED
        return struct.unpack("<IiI", body[20:]), flags

    def exited(self):
        op, flags, body = self.receive()
        while op == SAW:
            op, flags, body = self.receive()
        assert op == EXITED
        status, seen, tasks, *_ = struct.unpack("<iIIQQQQ", body[20:])
        return status, seen, tasks

    def run(self, *argv, **kw):
        """To the exit and the end of the output."""
        key, _, out = self.start(*argv, **kw)
        (pid, error, _), _ = self.started()
        assert error == 0 and pid > 1
        status, seen, tasks = self.exited()
        if seen & LEFT_OTHERS:
            self.kill_all()
        text = read_all(out)
        self.send(ACK, key)
        return status, seen, tasks, text.decode()

    def run_beside(self, other):
        """A short program while `other` runs: its output."""
        key, _, out = self.start("probe")
        assert self.started()[0][1] == 0
        op, _, body = self.receive()
        assert op == EXITED and body[:20] == key != other
        self.send(ACK, key)
        return read_all(out)

    def kill_all(self):
        self.send(KILL_ALL)
        assert self.done()[:2] == (KILL_ALL, 0)

    def ticks(self):
        """Of CPU time, of the whole sandbox's kernel."""
        stat = pathlib.Path(f"/proc/{int((self.where / 'pid').read_text())}/stat").read_text()
        return sum(int(x) for x in stat.rsplit(")", 1)[1].split()[11:13])

    def stat(self):
        self.send(STAT)
        op, _, body = self.receive()
        assert op == STATUS
        return dict(zip(("size", "free", "uptime", "tasks", "running"), struct.unpack("<QQQII", body)))

    def done(self):
        op, _, body = self.receive()
        assert op == DONE
        of, error, value, length, _ = struct.unpack_from("<IiQII", body)
        return of, error, value, body[24:].decode()

    def files(self, entries):
        block = b"DBXF" + struct.pack("<I", len(entries))
        for path, data in entries:
            block += struct.pack("<BBHIQ", 0, 0, len(path), 0, len(data)) + path.encode() + data
        body = struct.pack("<IIII", 1000, 1000, 10, 0) + b"/workspace" + block
        if len(body) < 60000:
            self.send(FILES, body)
        else:
            fd = os.memfd_create("files")
            os.write(fd, body)
            self.send(FILES, b"", [fd], BODY_FD, len(body))
            os.close(fd)
        return self.done()


@pytest.fixture
def box(runsc, probe, tmp_path):
    b = Box(runsc, probe, tmp_path)
    yield b
    b.close()


def test_identity(box):
    assert box.pid1 == 1 and box.features == 7
    status, seen, _, text = box.run("probe", "who")
    lines = text.splitlines()
    assert status == 0 and seen == 0
    assert lines[0] == "1000 1000 1 -1", "user, no_new_privs, and no signal reaches init"
    assert [line.split()[1].strip("0") for line in lines if line.startswith("Cap") and "Bnd" not in line] == [""] * 4
    assert [line for line in lines if line.startswith("fd")] == [f"fd {i} blocking" for i in range(3)]
    key, _, out = box.start("probe", "reopen", stderr=True)
    assert box.started()[0][1] == 0
    assert box.exited()[0] == 0, "/dev/stdout may be opened anew by who does not own it"
    assert read_all(out) == b"again\nagain\n" and read_all(box.stderr) == b"again\n"


def test_exit_stdin_and_repeats(box):
    status, _, _, text = box.run("probe")
    assert status == 3 << 8 and text == "hello\n"
    key, inn, out = box.start("probe", "cat", stdin=True)
    assert box.started()[0][1] == 0
    os.write(inn, b"a line\n")
    assert os.read(out, 100) == b"a line\n"
    again, _, out2 = box.start("probe", key=key)
    assert box.started()[1] == AGAIN and os.read(out2, 1) == b"", "a known key starts nothing"
    os.close(inn)
    assert box.exited()[0] == 0 and os.read(out, 1) == b""
    box.send(LIST)
    assert [box.receive()[:2] for _ in range(4)] == [(READY, AGAIN), (STARTED, AGAIN), (EXITED, AGAIN), (DONE, 0)]
    box.send(ACK, key)
    box.send(LIST)
    assert [box.receive()[0] for _ in range(2)] == [READY, DONE]
    box.start("nothing")
    assert box.started()[0] == (0, 2, 6), "ENOENT at exec"


def test_disk_limit(box):
    st = box.stat()
    assert st["size"] == DISK and st["running"] == 0 and st["tasks"] == 0
    status, seen, _, text = box.run("probe", "fill")
    assert status == 1 << 8 and seen == SAW_DISK_FULL and text == "No space left on device\n"
    assert box.stat()["free"] == 0
    assert box.files([("main.py", b"x" * 100000)])[1] == 28


@pytest.mark.parametrize("limit", [1, 2, 20])
def test_process_limit_is_exact(box, limit):
    status, seen, tasks, text = box.run("probe", "bomb", limits=[(6, limit)])
    assert status == 1 << 8 and seen & SAW_PROCESS_MAX and tasks == limit
    assert text == f"{limit - 1} Resource temporarily unavailable\n", "the main process is one of them"
    assert box.stat()["tasks"] == 0
    assert box.run("probe")[0] == 3 << 8


def test_a_maximum_is_told_at_once(box):
    key, inn, out = box.start("probe", "bomb", limits=[(6, 20)], stdin=True)
    assert box.started()[0][1] == 0
    op, flags, body = box.receive()
    assert (op, flags, body) == (SAW, 0, key + struct.pack("<I", SAW_PROCESS_MAX)), "while it runs"
    box.send(LIST)
    assert [box.receive()[:2] for _ in range(4)] == [(READY, AGAIN), (STARTED, AGAIN), (SAW, AGAIN), (DONE, 0)]
    os.write(inn, b"x")
    op, _, body = box.receive()
    assert op == EXITED and struct.unpack("<iI", body[20:28]) == (1 << 8, SAW_PROCESS_MAX | LEFT_OTHERS)
    box.kill_all()
    assert read_all(out) == b"19 Resource temporarily unavailable\n"


def pattern(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("size", [1, 4096, 65537, 3_000_000])
def test_a_write_is_never_short(box, size):
    key, _, out = box.start("probe", "one-write", str(size), stderr=True)
    assert box.started()[0][1] == 0
    if size > 1 << 20:
        pass_time(box, 0.1)  # nobody reads: it waits
    assert read_exactly(out, size) == pattern(size) and read_all(box.stderr) == pattern(size)
    assert read_all(out) == b""
    assert box.exited()[0] == 0


def test_big_input(box):
    key, inn, out = box.start("probe", "count-input", stdin=True, stderr=True)
    assert box.started()[0][1] == 0
    with os.fdopen(inn, "wb", 0) as f:
        for _ in range(46):
            assert f.write(bytes(65536)) == 65536
    assert read_all(out) == b"%d 000\n" % (46 * 65536) and box.exited()[0] == 0
    os.close(box.stderr)


def test_back_pressure_and_fairness(box):
    key, _, out = box.start("probe", "flood")
    assert box.started()[0][1] == 0
    pass_time(box, 1.2)
    before = box.ticks()
    pass_time(box, 1)
    assert box.ticks() - before <= 20, "who waits for room uses no CPU"
    others = [box.run_beside(key) for _ in range(3)]
    assert others == [b"hello\n"] * 3, "a full stream holds nobody else up"
    os.close(out)
    assert box.exited()[0] == signal.SIGPIPE, "the host's end broke"


def test_output_is_drained_after_the_end(box):
    key, _, out = box.start("probe", "leave-flood")
    assert box.started()[0][1] == 0
    status, seen, _ = box.exited()
    assert status == 0 and seen == LEFT_OTHERS
    box.send(ACK, key)
    assert len(read_exactly(out, 1000)) == 1000
    box.kill_all()
    assert len(read_all(out)) > 65536, "what was written comes, and then the end"
    assert box.stat()["tasks"] == 0


def test_signal(box):
    key, inn, out = box.start("probe", "cat", stdin=True)
    box.started()
    box.send(SIGNAL, key + struct.pack("<II", signal.SIGTERM, 1))
    answers = sorted(box.receive()[0] for _ in range(2))
    assert answers == [EXITED, DONE]


def test_files(box):
    assert box.files([("a/b/main.txt", b"content"), ("top", b"")]) == (FILES, 0, 2, "")
    assert box.files([(f"d{i % 10}/f{i}", b"y" * 1000) for i in range(1000)]) == (FILES, 0, 1000, "")
    of, error, count, _ = box.files([("ok", b"1"), ("../escape", b"2")])
    assert of == FILES and error != 0 and count == 1


def test_it_brings_no_data_along():
    """What is set in the program's data from the start is memory of each sandbox, although nobody uses it."""
    out = subprocess.run(["size", program("devbox-sandbox-init")], check=True, capture_output=True, text=True).stdout
    assert int(out.splitlines()[1].split()[1]) < 64 << 10, out


def test_idle_costs_nothing_and_eof_ends_it(box):
    assert box.run("probe")[0] == 3 << 8
    box.stat()
    used = []
    while not used or (used[-1] > 1 and len(used) < 10):  # its runtime may still tidy up, now and then
        before = box.ticks()
        pass_time(box, 2)
        used.append(box.ticks() - before)
    assert used[-1] <= 1, f"a warm sandbox uses no CPU: {used} ticks"
    fd = os.pidfd_open(int((box.where / "pid").read_text()))
    box.sock.close()
    assert select.select([fd], [], [], 60)[0], "init ends with its socket, and the sandbox with init"
    os.close(fd)
