# SPDX-License-Identifier: Apache-2.0
"""The node agent alone, under a scripted scheduler: the real shim and keeper, real sandboxes, the real file log."""

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import queue
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid

import pytest

from link_peer import Keyring, Listener, connect, read_log

ROOT = pathlib.Path(__file__).resolve().parents[2]
OWNER = "00000000-0000-4000-8000-00000000000a"


def find_bin():
    for d in [os.environ.get("DEVBOX_BIN"), ROOT / "build/asan/bin", ROOT / "build/release/bin", ROOT / "build/dev/bin"]:
        if d and (pathlib.Path(d) / "devbox-shim").exists():
            return pathlib.Path(d)
    pytest.skip("the daemons are not built (DEVBOX_BIN)")


def find_cache():
    cache = pathlib.Path(os.environ.get("DEVBOX_CACHE") or pathlib.Path.home() / ".cache/devbox")
    runsc = sorted(cache.glob("runsc/*/runsc"))
    if not runsc or not (cache / "images").is_dir():
        pytest.skip("runsc and images are not built (DEVBOX_CACHE)")
    return cache, runsc[-1]


def files_block(files):
    out = b"DBXF" + struct.pack("<I", len(files))
    for path, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        out += struct.pack("<BBHIQ", 0, 0, len(path), 0o644, len(content)) + path.encode() + content
    return out


class Run:
    """One execution as the scheduler and the log see it."""

    def __init__(self, node, process_id, sandbox_id, attempt):
        self.node, self.process_id, self.sandbox_id, self.attempt = node, process_id, sandbox_id, attempt

    def wait(self, timeout=60):
        self.ended = self.node.wait(lambda h: h["op"] == "ended" and h["process_id"] == self.process_id, timeout)
        self.records = [r for r in read_log(self.node.log_dir, self.sandbox_id)
                        if r["process"].hex() == self.process_id.replace("-", "")]
        assert [r["seq"] for r in self.records] == list(range(len(self.records)))
        assert [r["type"] for r in self.records].count("end") == 1 and self.records[-1]["type"] == "end"
        for phase in ("compile", "run"):
            for stream in ("stdout", "stderr"):
                at = 0
                for r in self.records:
                    if (r["type"], r["phase"]) == (stream, phase):
                        assert r["offset"] == at
                        at += len(r["data"])
        self.end = json.loads(self.records[-1]["data"])
        assert self.end == self.ended["outcome"] and self.ended["end_record"] is True
        assert (self.end["status"], self.end["verdict"]) == (self.ended["status"], self.ended["verdict"])
        last = "run" if self.end["run"] else "compile"
        for stream in ("stdout", "stderr"):
            data = self.output(stream, last)
            assert self.end["sha256"][stream] == hashlib.sha256(data).hexdigest()
            if self.end[last]:
                assert self.end[last][stream + "_bytes"] == len(data)
        return self.end

    def output(self, stream="stdout", phase="run"):
        return b"".join(r["data"] for r in self.records if (r["type"], r["phase"]) == (stream, phase))


class Node:
    """A shim with its keeper, and we are its scheduler."""

    def __init__(self, warm=1, epoch=7):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="devbox-shim-"))
        self.log_dir, self.epoch = self.dir / "log", epoch
        self.bin, (cache, runsc) = find_bin(), find_cache()
        self.keys = Keyring(self.dir / "keys")
        self.node_id = "test-" + uuid.uuid4().hex[:8]
        self.seen, self.inbox, self.hold = [], queue.Queue(), set()
        self.listener = Listener(self.answer)
        self.keeper = self.spawn("keeper", "devbox-shim-keeper", "--socket", self.dir / "keeper.sock", "--listen", "127.0.0.1:0")
        self.args = ["devbox-shim", "--listen", "127.0.0.1:0", "--scheduler", f"ws://127.0.0.1:{self.listener.port}/node",
                     "--node-id", self.node_id, "--keys", self.dir / "keys", "--state-dir", self.dir / "node",
                     "--cache-dir", cache, "--templates-dir", ROOT / "bundles/templates", "--runsc", runsc, "--init", self.bin / "sandbox",
                     "--keeper-socket", self.dir / "keeper.sock", "--output-log", f"file:{self.log_dir}", "--warm", str(warm),
                     "--log-level", "debug", "--drain-ms", "500"]
        self.shim = None

    def spawn(self, name, program, *args):
        with open(self.dir / f"{name}.txt", "ab") as out:
            return subprocess.Popen([str(self.bin / program), *map(str, args)], stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def start(self):
        self.shim = self.spawn("shim", *self.args)
        self.link = self.listener.peers.get(timeout=60)
        self.hello = self.wait(lambda h: h["op"] == "hello", 60)
        self.port = int(self.hello["url"].rsplit(":", 1)[1].split("/")[0])
        deadline = time.monotonic() + 60
        while self.get("/readyz")[0] != 200:
            assert time.monotonic() < deadline and self.shim.poll() is None, self.get("/readyz")
            try:
                self.wait(lambda h: h["op"] == "state", 2)
            except queue.Empty:
                pass
        return self

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def answer(self, header, _blob):
        self.inbox.put(header)
        if header["op"] in self.hold:
            return None
        if header["op"] == "files":  # no record is kept here: what programs make stays theirs
            return {"error": {"kind": "unavail", "message": "not now"}}
        return {"ok": True, "epoch": self.epoch, "heartbeat_ms": 200} if header["op"] == "hello" else {"ok": True}

    def wait(self, predicate, timeout=60):
        """The first message (of those that came and were not waited for) that fits."""
        for i, h in enumerate(self.seen):
            if predicate(h):
                return self.seen.pop(i)
        deadline = time.monotonic() + timeout
        while True:
            h = self.inbox.get(timeout=max(0.01, deadline - time.monotonic()))
            if predicate(h):
                return h
            if h["op"] != "state":
                self.seen.append(h)

    def order(self, template, files, stdin=b"", attempt=1, process_id=None, sandbox_id=None, epoch=None, **request):
        run = Run(self, process_id or str(uuid.uuid4()), sandbox_id or str(uuid.uuid4()), attempt)
        block = files_block(files)
        request = {"template": template, "command": None, "env": {}, "stdin_open": False, "limits": {}, "compile_limits": {},
                   "retry": "never", **request}
        run.answer = self.link.request("start", block + stdin, process_id=run.process_id, sandbox_id=run.sandbox_id,
                                       owner=OWNER, trace="00-trace", accepted_us=int(time.time() * 1e6), request=request,
                                       files_len=len(block), attempt=attempt, epoch=self.epoch if epoch is None else epoch)
        return run

    def run(self, template, files, timeout=60, **kw):
        run = self.order(template, files, **kw)
        assert run.answer.get("ok"), run.answer
        run.wait(timeout)
        return run

    def python(self, code, **kw):
        return self.run("python", {"main.py": code}, **kw)

    def stop(self):
        if self.shim and self.shim.poll() is None:
            self.shim.send_signal(signal.SIGTERM)
            assert self.shim.wait(60) == 0, (self.dir / "shim.txt").read_text()[-3000:]

    def cgroups(self):
        """Of its sandboxes: below each hierarchy (v1), or below the one (v2). Not those made ahead, in which one waits to become runsc."""
        base = pathlib.Path("/sys/fs/cgroup")
        names = (f"devbox-{self.node_id}", f"devbox-{self.node_id}.background")
        found = [p for top in (base, *base.iterdir()) for name in names for p in (top / name).glob("*") if p.is_dir()]
        ahead = {p.name for p in found if self.is_seat(p)}
        return [p for p in found if p.name not in ahead]

    @staticmethod
    def is_seat(cgroup):
        try:
            pids = (cgroup / "cgroup.procs").read_text().split()
            return len(pids) == 1 and b"\0--later\0" in pathlib.Path(f"/proc/{pids[0]}/cmdline").read_bytes()
        except OSError:  # gone meanwhile
            return False

    def leftovers(self):
        found = [str(p) for p in self.cgroups() if p.is_dir()]
        found += [str(p) for p in (self.dir / "node").glob("sandboxes/*")]
        for pid in os.listdir("/proc"):
            try:
                if pid.isdigit() and str(self.dir / "node") in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                    if self.shim is None or int(pid) != self.shim.pid:
                        found.append("pid " + pid)
            except OSError:
                pass
        return found

    def close(self):
        try:
            self.stop()
            assert self.leftovers() == []
            if self.keeper and self.keeper.poll() is None:
                self.keeper.terminate()
                assert self.keeper.wait(60) == 0, (self.dir / "keeper.txt").read_text()[-3000:]
        finally:
            for p in (self.shim, self.keeper):
                if p and p.poll() is None:
                    p.kill()
                    p.wait()
            self.listener.close()
            for p in pathlib.Path("/sys/fs/cgroup").glob(f"*/devbox-{self.node_id}*"):
                try:
                    p.rmdir()
                except OSError:
                    pass
            shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="module")
def node(request):
    n = Node()
    try:
        n.start()
        yield n
    finally:
        if request.session.testsfailed:
            print((n.dir / "shim.txt").read_text(errors="replace")[-6000:])
        n.close()


@pytest.fixture()
def own_node():
    n = Node(warm=0)
    try:
        yield n.start()
    finally:
        n.close()


def test_hello_world(node):
    r = node.python("print('hello')\n")
    assert (r.end["status"], r.end["verdict"]) == ("completed", "OK")
    assert r.end["compile"] is None and r.end["run"]["exit_code"] == 0 and r.end["run"]["signal"] is None
    assert r.output() == b"hello\n" and r.output("stderr") == b""
    assert r.records[0]["type"] == "status" and json.loads(r.records[0]["data"]) == {"status": "running", "phase": "run"}
    usage = r.end["run"]["usage"]
    assert usage["output_bytes"] == 6 and 0 < usage["cpu_ms"] < 5000 and usage["memory_peak_bytes"] > 0
    assert usage["wall_ms"] > 0 and usage["start_ms"] >= 0 and usage["queued_ms"] >= 0
    assert abs(r.ended["started_us"] / 1e6 - time.time()) < 60
    long = node.python("import time; time.sleep(1)")
    started = node.wait(lambda h: h["op"] == "started" and h["process_id"] == long.process_id)
    assert started["attempt"] == 1 and started["at_us"] == long.ended["started_us"]


def test_the_first_files_and_what_init_needs_for_them(node):
    """Those in the root are made by uid 0 with DAC_OVERRIDE, which is gone soon behind the first program's start."""
    code = """import os, time
for name in 'main.py', 'z', 'z/a':
    st = os.stat(name)
    print(st.st_uid, st.st_gid, oct(st.st_mode))
until = time.monotonic() + 60
while 'CapPrm:\\t00000000002400e1' not in open('/proc/1/status').read() and time.monotonic() < until:
    time.sleep(0.001)
print(time.monotonic() < until)
"""
    files = {"main.py": code, "z/a": "", "b": "x"}
    for run in (node.run("python", files), node.run("python", files, command="exec python3 main.py")):
        assert run.output() == b"1000 1000 0o100644\n1000 1000 0o40755\n1000 1000 0o100644\nTrue\n"


def test_both_streams(node):
    r = node.python("import sys\nfor i in range(300):\n print('o%d' % i)\n print('e%d' % i, file=sys.stderr)\n")
    assert r.output() == b"".join(b"o%d\n" % i for i in range(300))
    assert r.output("stderr") == b"".join(b"e%d\n" % i for i in range(300))


def test_big_writes_are_whole(node):
    r = node.python("print('x' * 3000000)\n")
    assert r.end["verdict"] == "OK" and r.output() == b"x" * 3000000 + b"\n", "one write of an unbuffered python"
    r = node.run("python", {}, command="echo x > /dev/stdout; echo y > /dev/stderr; echo z | tee /proc/self/fd/1; exec 1>&-; sleep 0.2")
    assert r.end["verdict"] == "OK" and sorted(r.output()) == sorted(b"x\nz\nz\n") and r.output("stderr") == b"y\n"
    if "node" in node.hello["templates"]:
        code = "require('fs').writeFileSync('/dev/stdout', 'w\\n'); process.stdout.write('v'.repeat(1000000))\n"
        r = node.run("node", {"main.js": code, "index.js": code})
        assert r.end["verdict"] == "OK" and r.output() == b"w\n" + b"v" * 1000000


def test_count_of_processes_is_exact(node):
    code = ("import os, signal\nn = 1\ntry:\n    while True:\n        if os.fork() == 0: signal.pause()\n        n += 1\n"
            "except OSError: print(n)\n")
    for limit in (1, 64):
        assert node.python(code, limits={"processes": limit}).output() == b"%d\n" % limit


def test_exit_codes_and_signals(node):
    r = node.python("raise SystemExit(3)\n")
    assert (r.end["status"], r.end["verdict"], r.end["run"]["exit_code"]) == ("completed", "EXIT_CODE", 3)
    r = node.python("import os\nos.kill(os.getpid(), 11)\n")
    assert (r.end["status"], r.end["verdict"], r.end["run"]["exit_code"]) == ("completed", "SIGNAL", None)
    assert r.end["run"]["signal"] in (11, "SIGSEGV")


def test_no_entry_file(node):
    r = node.run("python", {"other.py": "x"})
    assert r.end["verdict"] == "EXIT_CODE" and b"main.py" in r.output("stderr")


def test_command_env_and_place(node):
    r = node.run("python", {}, command="pwd; id -u; echo $A $HOME $USER $PYTHONUNBUFFERED; ulimit -n; exit 4",
                 env={"A": "x y"}, limits={"open_files": 77})
    assert r.output() == b"/workspace\n1000\nx y /home/dev dev 1\n77\n" and r.end["run"]["exit_code"] == 4
    r = node.run("python", {"d/x": "1"}, command=["cat", "d/x"])
    assert r.output() == b"1" and r.end["verdict"] == "OK"
    r = node.run("python", {}, command=["no-such-program"])
    assert r.end["verdict"] == "EXIT_CODE" and r.end["run"]["exit_code"] == 127 and b"no-such-program" in r.output("stderr")


def test_stdin(node):
    data = os.urandom(300000)
    code = "import sys, hashlib\nd = sys.stdin.buffer.read()\nprint(len(d), hashlib.sha256(d).hexdigest())\n"
    r = node.python(code, stdin=data)
    assert r.output().decode().split() == ["300000", hashlib.sha256(data).hexdigest()]
    assert node.python(code).output().split()[0] == b"0"
    r = node.python("print('does not read')\n", stdin=data)
    assert r.end["verdict"] == "OK"


def test_input_over_the_link(node):
    run = node.order("python", {"main.py": "import sys\nfor line in sys.stdin: print('got', line, end='')\nprint('end')\n"},
                     stdin=b"a\n", stdin_open=True)
    gw = connect(node.port, "/link", node.keys.token("gateway"))
    assert gw.request("input", b"b\n", process_id=run.process_id)["ok"]
    node.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id)
    assert gw.request("input", b"c\n", process_id=run.process_id)["ok"]
    assert gw.request("input", b"x", process_id=str(uuid.uuid4()))["error"]["kind"] == "not_found"
    assert gw.request("eof", process_id=run.process_id)["ok"]
    assert gw.request("input", b"d\n", process_id=run.process_id)["error"]["kind"] in ("conflict", "not_found")  # it may have ended
    run.wait()
    assert run.output() == b"got a\ngot b\ngot c\nend\n"
    gw.close()


def test_input_that_nobody_reads(node):
    run = node.order("python", {"main.py": "import time\ntime.sleep(60)\n"}, stdin_open=True)
    node.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id)
    gw = connect(node.port, "/link", node.keys.token("gateway"))
    answers = [gw.request("input", bytes(200000), process_id=run.process_id) for _ in range(12)]
    assert answers[0]["ok"] and answers[-1]["error"]["kind"] == "limit"
    node.link.request("cancel", process_id=run.process_id, attempt=1)
    assert run.wait()["verdict"] == "CANCELLED"
    gw.close()


def test_link_is_for_gateways(node):
    for token in ("nonsense", node.keys.token("node:x"), node.keys.token("gateway", lifetime=-1000), node.keys.token("gateway", kind=1)):
        with pytest.raises(ConnectionRefusedError, match="401"):
            connect(node.port, "/link", token)


LIMITS = {
    "cpu": ("while True: pass\n", {"cpu_ms": 1000}, "TIME_LIMIT"),
    "cpu of children": ("import os\nfor _ in range(3):\n    if os.fork() == 0: break\nwhile True: pass\n", {"cpu_ms": 1000}, "TIME_LIMIT"),
    "wall": ("import time\nprint('x')\ntime.sleep(1000)\n", {"wall_ms": 1000}, "WALL_LIMIT"),
    "memory": ("x = bytearray(10**9)\nfor i in range(0, len(x), 4096): x[i] = 1\n", {}, "MEMORY_LIMIT"),
    "memory of children": ("import os\nfor _ in range(4):\n    if os.fork() == 0: break\nx = bytearray(10**8)\n"
                           "for i in range(0, len(x), 4096): x[i] = 1\nimport time\ntime.sleep(20)\n", {}, "MEMORY_LIMIT"),
    "output": ("import os\nwhile True: os.write(1, b'y' * 65536)\n", {"output_bytes": 1000003}, "OUTPUT_LIMIT"),
    "processes": ("import subprocess\np = [subprocess.Popen(['sleep', '9']) for _ in range(99)]\n", {"processes": 20}, "PROCESS_LIMIT"),
    "disk": ("f = open('/tmp/big', 'wb')\nwhile True: f.write(b'x' * 1000000)\n", {"disk_mb": 64}, "DISK_LIMIT"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(node, name):
    code, limits, verdict = LIMITS[name]
    r = node.python(code, limits=limits)
    run = r.end["run"]
    assert (r.end["status"], r.end["verdict"], run["verdict"]) == ("failed", verdict, verdict), r.end
    if verdict == "TIME_LIMIT":
        assert 1000 <= run["usage"]["cpu_ms"] < 3000
    if verdict == "WALL_LIMIT":
        assert 1000 <= run["usage"]["wall_ms"] < 5000 and r.output() == b"x\n"
    if verdict == "OUTPUT_LIMIT":
        assert len(r.output()) + len(r.output("stderr")) == 1000003
    if verdict not in ("DISK_LIMIT", "PROCESS_LIMIT"):
        assert run["exit_code"] is None and run["signal"] is None
    assert node.python("print(1)\n").output() == b"1\n"


def test_fork_bomb_ends(node):
    r = node.python("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n", limits={"cpu_ms": 2000, "wall_ms": 5000, "memory_mb": 1024})
    assert r.end["verdict"] in ("TIME_LIMIT", "WALL_LIMIT", "PROCESS_LIMIT"), r.end


def test_who_copes_is_ok(node):
    r = node.python("try:\n    f = open('/tmp/big', 'wb')\n    while True: f.write(b'x' * 1000000)\nexcept OSError: pass\n", limits={"disk_mb": 32})
    assert r.end["verdict"] == "OK", r.end


def test_what_is_left_behind_is_killed(node):
    t0 = time.monotonic()
    r = node.python("import subprocess\nsubprocess.Popen(['sh', '-c', 'trap \"\" TERM; setsid sleep 1000'])\nprint('main ends')\n")
    assert r.end["verdict"] == "OK" and r.output() == b"main ends\n" and time.monotonic() - t0 < 10


def test_cancel(node):
    run = node.order("python", {"main.py": "import time\nprint('on', flush=True)\ntime.sleep(1000)\n"})
    node.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id)
    assert node.link.request("cancel", process_id=run.process_id, attempt=2)["error"]["kind"] == "not_found"
    assert node.link.request("cancel", process_id=run.process_id, attempt=1)["ok"]
    assert (run.wait()["status"], run.end["verdict"]) == ("cancelled", "CANCELLED")
    at_once = node.order("python", {"main.py": "import time\ntime.sleep(1000)\n"})
    node.link.request("cancel", process_id=at_once.process_id, attempt=1)
    assert at_once.wait()["verdict"] == "CANCELLED"


def test_drop_says_nothing(node):
    run = node.order("python", {"main.py": "import time\ntime.sleep(1000)\n"})
    node.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id)
    assert node.link.request("drop", process_id=run.process_id, attempt=1)["ok"]
    assert node.link.request("cancel", process_id=run.process_id, attempt=1)["error"]["kind"] == "not_found"
    node.python("print(1)\n")
    assert not [h for h in node.seen if h["op"] == "ended" and h["process_id"] == run.process_id]
    assert "end" not in [r["type"] for r in read_log(node.log_dir, run.sandbox_id)]


def test_twice_is_once(node):
    run = node.order("python", {"main.py": "print('once')\n"})
    again = node.order("python", {"main.py": "print('once')\n"}, process_id=run.process_id, sandbox_id=run.sandbox_id)
    assert again.answer["ok"]
    run.wait()
    late = node.order("python", {"main.py": "print('once')\n"}, process_id=run.process_id, sandbox_id=run.sandbox_id)
    assert late.answer["ok"]
    node.python("print(1)\n")
    assert len([r for r in read_log(node.log_dir, run.sandbox_id) if r["type"] == "end"]) == 1


def test_refusals(node):
    assert node.order("cobol", {}).answer["error"]["kind"] == "not_found"
    assert node.order("python", {}, epoch=node.epoch - 1).answer["error"]["kind"] == "denied"
    bad = node.order("python", {}, env={"1A": "x"}).answer["error"]
    assert (bad["kind"], bad["field"]) == ("invalid", "request.env")
    assert node.order("python", {"../x": "y"}).answer["error"]["kind"] == "invalid"
    assert node.link.request("what")["error"]["kind"] == "invalid"
    assert node.python("print(1)\n").output() == b"1\n"


def test_reports_are_repeated(node):
    node.hold = {"ended"}
    run = node.order("python", {"main.py": "print('x')\n"})
    node.wait(lambda h: h["op"] == "ended" and h["process_id"] == run.process_id)
    node.link.close()  # before anything is answered
    node.hold = set()
    node.link = node.listener.peers.get(timeout=60)
    hello = node.wait(lambda h: h["op"] == "hello")
    assert {"process_id": run.process_id, "attempt": 1, "state": "ended"} in hello["processes"]
    run.wait()


def test_the_time_stands_where_a_template_says(node):
    """Else `go build` throws away the image's cache once the image is a day old, and fails where the cache is another user's."""
    if "go" not in node.hello["templates"]:
        pytest.skip("the image of go is not built")
    r = node.run("go", {"main.go": "package main\nfunc main() {}\n"}, timeout=120,
                 command="cd ~/.cache/go-build; cat trim.txt; stat -c ' %U %a' trim.txt; find . -name '*-d' | wc -l")
    at, owner, mode, entries = r.output().split()
    assert abs(int(at) - time.time()) < 600 and (owner, mode) == (b"dev", b"644") and int(entries) > 100


def test_compile(node):
    if "go" not in node.hello["templates"]:
        pytest.skip("the go image is not built")
    r = node.run("go", {"main.go": "package main\nimport \"fmt\"\nfunc main() { fmt.Println(\"hi\") }\n"}, timeout=120)
    assert r.end["verdict"] == "OK" and r.output() == b"hi\n" and r.end["compile"]["verdict"] == "OK"
    statuses = [json.loads(x["data"])["phase"] for x in r.records if x["type"] == "status"]
    assert statuses == ["compile", "run"]
    r = node.run("go", {"main.go": "package main\nfunc main() { this is not go }\n"}, timeout=120)
    assert (r.end["status"], r.end["verdict"], r.end["run"]) == ("failed", "COMPILE_ERROR", None)
    assert r.end["compile"]["verdict"] == "EXIT_CODE" and b"main.go" in r.output("stderr", "compile") + r.output("stdout", "compile")
    r = node.run("go", {"main.go": "package main\nfunc main() {}\n"}, compile_limits={"wall_ms": 20}, timeout=120)
    assert (r.end["verdict"], r.end["compile"]["verdict"]) == ("COMPILE_ERROR", "WALL_LIMIT")


def rss_kb(pid):
    return int(next(x for x in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS")).split()[1])


def test_flood_with_flat_memory(node):
    node.python("print(1)\n")
    before = rss_kb(node.shim.pid), rss_kb(node.keeper.pid)
    r = node.python("import os\nb = bytes(range(256)) * 256\nfor _ in range(1600): os.write(1, b)\n", limits={"output_bytes": 200 << 20}, timeout=120)
    assert r.end["verdict"] == "OK" and r.end["run"]["stdout_bytes"] == 1600 * 65536
    assert r.output() == bytes(range(256)) * 256 * 1600
    assert rss_kb(node.shim.pid) - before[0] < 32 << 10 and rss_kb(node.keeper.pid) - before[1] < 16 << 10


def kill_all_in(cgroups):
    """A sandbox has one in each hierarchy, and goes from all of them when it is killed by the first."""
    for group in cgroups:
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def test_lost_sandbox_is_internal(own_node):
    run = own_node.order("python", {"main.py": "import time\nprint('x' * 100000, flush=True)\ntime.sleep(1000)\n"})
    deadline = time.monotonic() + 60
    while sum(len(r["data"]) for r in read_log(own_node.log_dir, run.sandbox_id) if r["type"] == "stdout") < 100001:
        assert time.monotonic() < deadline
        own_node.wait(lambda h: h["op"] in ("state", "started"))
    t0 = time.monotonic()
    kill_all_in(own_node.cgroups())
    assert (run.wait()["status"], run.end["verdict"]) == ("failed", "INTERNAL")
    assert run.output() == b"x" * 100000 + b"\n" and time.monotonic() - t0 < 20
    assert own_node.python("print(1)\n").output() == b"1\n"


def test_lost_keeper(own_node):
    run = own_node.order("python", {"main.py": "import time\nprint('on', flush=True)\ntime.sleep(1000)\n"})
    own_node.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id)
    own_node.keeper.kill()
    own_node.keeper.wait()
    assert (run.wait()["status"], run.end["verdict"]) == ("failed", "NODE_LOST")
    own_node.keeper = own_node.spawn("keeper", "devbox-shim-keeper", "--socket", own_node.dir / "keeper.sock", "--listen", "127.0.0.1:0")
    deadline = time.monotonic() + 60
    while own_node.get("/readyz")[0] != 200:
        assert time.monotonic() < deadline
        own_node.wait(lambda h: h["op"] == "state")
    assert own_node.python("print(1)\n").output() == b"1\n"


def test_killed_with_its_keeper_leaves_nothing(own_node):
    """(Alone, a killed shim loses nothing: test_adoption.py.)"""
    run = own_node.order("python", {"main.py": "import time\ntime.sleep(1000)\n"})
    own_node.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id)
    for p in (own_node.shim, own_node.keeper):
        p.kill()
        p.wait()
    own_node.keeper = own_node.spawn("keeper", "devbox-shim-keeper", "--socket", own_node.dir / "keeper.sock", "--listen", "127.0.0.1:0")
    own_node.start()
    assert own_node.hello["processes"] == []
    deadline = time.monotonic() + 60  # the probe's own sandbox is on its way out
    while own_node.leftovers():
        assert time.monotonic() < deadline, own_node.leftovers()
        own_node.wait(lambda h: h["op"] == "state")
    assert own_node.python("print(1)\n").output() == b"1\n"


def test_drain_ends_what_runs(own_node):
    run = own_node.order("python", {"main.py": "import time\nprint('on', flush=True)\ntime.sleep(1000)\n"})
    own_node.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id)
    own_node.stop()
    assert (run.wait()["status"], run.end["verdict"]) == ("failed", "NODE_LOST")
    assert own_node.leftovers() == []


def test_what_the_machine_lacks():
    """It is said at the start and at /readyz, with what follows; and what is there is told, too."""
    n = Node(warm=0)
    try:
        n.shim = subprocess.Popen(["setpriv", "--bounding-set=-sys_chroot", "--", n.bin / "devbox-shim", *map(str, n.args[1:])],
                                  stdout=open(n.dir / "shim.txt", "ab"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        n.link = n.listener.peers.get(timeout=60)
        n.hello = n.wait(lambda h: h["op"] == "hello", 60)
        n.port = int(n.hello["url"].rsplit(":", 1)[1].split("/")[0])
        deadline = time.monotonic() + 60
        while "cannot make a sandbox" not in (said := n.get("/readyz"))[1]:
            assert time.monotonic() < deadline and said[0] == 503, said
            time.sleep(0.05)
        assert "; this machine lacks cap_sys_chroot (runsc can lock no sandbox in)" in said[1], said
        assert "cap_sys_admin" not in said[1]
        assert 'lvl=err mod=shim node=%s msg="this machine lacks cap_sys_chroot: ' % n.node_id in (n.dir / "shim.txt").read_text()
        metrics = n.get("/metrics")[1]
        assert 'devbox_shim_host{has="cap_sys_chroot"} 0' in metrics and 'devbox_shim_host{has="cgroups"} 1' in metrics
    finally:
        n.close()
