# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a DevBox of their own, raw clients that add little to what they measure, rows."""

import argparse
import base64
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


def say(text):
    print(text, file=sys.stderr, flush=True)


def median(values):
    return statistics.median(values)


def percentile(values, p):
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * p // 100) - 1))]


def wait_for(what, timeout, why, every=0.005):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        got = what()
        if got:
            return got
        time.sleep(every)
    raise RuntimeError(f"not within {timeout} s: {why}")


class Rows:
    """Collects rows; prints them as JSON lines at once, or as a table at the end."""

    def __init__(self, description, more=None):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--json", action="store_true", help="one object a line")
        parser.add_argument("--rounds", type=int, default=0, help="fewer or more of each measurement")
        if more:
            more(parser)
        self.args = parser.parse_args()
        self.rows = []

    def add(self, name, ours, other, unit, goal=None, of="ratio", at_least=False):
        """of: what the goal bounds, "ratio" or "ours"; from above, or from below."""
        ratio = ours / other if other else None
        value = ratio if of == "ratio" else ours
        holds = goal is None or (value is not None and (value >= goal if at_least else value <= goal))
        row = {"name": name, "ours": round(ours, 3), "other": round(other, 3) if other is not None else None, "unit": unit,
               "ratio": round(ratio, 4) if ratio is not None else None, "goal": goal, "holds": holds}
        self.rows.append(row)
        if self.args.json:
            print(json.dumps(row), flush=True)

    def done(self):
        if self.args.json:
            return
        width = max(len(r["name"]) for r in self.rows)
        print(f"{'':{width}}  {'ours':>9} {'other':>9} {'unit':<5} {'ratio':>7} {'goal':>6}  holds")
        for r in self.rows:
            cells = ["-" if r[k] is None else str(r[k]) for k in ("ours", "other", "ratio", "goal")]
            print(f"{r['name']:{width}}  {cells[0]:>9} {cells[1]:>9} {r['unit']:<5} {cells[2]:>7} {cells[3]:>6}  "
                  f"{'yes' if r['holds'] else 'NO'}")


def machine_facts():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal"))) // 1024
    cgroup = "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1"
    say(f"machine: {os.cpu_count()} x {cpu}, {memory} MiB, Linux {platform.release()}, cgroup {cgroup}, "
        f"load {' '.join(f'{x:.2f}' for x in os.getloadavg())}")


def free_ports(count):
    for base in range(24000 + os.getpid() % 4000, 32000, count):
        held = []
        try:
            for port in range(base, base + count):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no free ports")


class DevBox:
    """One of its own, on a state folder that is removed behind it. options: of up; settings: of its daemons, as environment."""

    def __init__(self, *options, **settings):
        self.options, self.settings = options, settings

    def __enter__(self):
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="devbox-bench-"))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DEVBOX_") or k in ("DEVBOX_CACHE", "DEVBOX_BUILD")}
        self.env |= self.settings
        try:
            self.url = self.command("up", "--port", str(free_ports(2)), *self.options).strip().splitlines()[-1]
            env = dict(line.split("=", 1) for line in self.command("env").split())
            self.key = env["DEVBOX_API_KEY"]
            self.daemons = json.loads(self.command("status", "--json"))["daemons"]
            self.shim = next(d["url"] for d in self.daemons if d["name"] == "shim")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run([ROOT / "devbox", "down", "--state", self.state], env=self.env, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        shutil.rmtree(self.state, ignore_errors=True)

    def command(self, *args):
        r = subprocess.run([ROOT / "devbox", *args, "--state", self.state], env=self.env, stdout=subprocess.PIPE, text=True)
        if r.returncode:
            raise RuntimeError(f"./devbox {args[0]} failed with {r.returncode}")
        return r.stdout

    def metrics(self):
        """{name{labels}: value} of the shim."""
        with urllib.request.urlopen(self.shim + "/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and not line.startswith("#")}

    def wait_warm(self, template):
        """Until the pool has as many as it ever has, and nothing else goes on."""
        most = json.loads((ROOT / "bundles" / "templates" / f"{template}.json").read_text())["warm"]

        def calm():
            m = self.metrics()
            busy = sum(m.get(f'devbox_shim_sandboxes{{state="{s}"}}', 0) for s in ("provisioning", "assigned", "running", "terminating"))
            return not busy and m.get(f'devbox_shim_pool_warm{{template="{template}"}}', 0) >= most

        wait_for(calm, 120, f"the pool of {template} is full and calm")
        time.sleep(0.2)  # a runtime that has just come up goes on for a moment with its own affairs


def read_headers(reader):
    """(status, {name: value}) of one HTTP answer."""
    status = int(reader.readline().split()[1])
    headers = {}
    for line in iter(reader.readline, b"\r\n"):
        if not line:
            raise ConnectionError("closed in the middle of an answer")
        name, value = line.decode().split(":", 1)
        headers[name.strip().lower()] = value.strip()
    return status, headers


class Http:
    """One kept connection."""

    def __init__(self, url, key):
        at = urllib.parse.urlsplit(url)
        self.host = at.netloc
        self.key = key
        self.sock = socket.create_connection((at.hostname, at.port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.sock.makefile("rb")

    def call(self, method, path, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.sock.sendall((f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.key}\r\n"
                           f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data)
        status, headers = read_headers(self.reader)
        answer = self.reader.read(int(headers.get("content-length", 0)))
        if status >= 300:
            raise RuntimeError(f"{path}: {status} {answer.decode()}")
        return json.loads(answer) if answer else None

    def post(self, path, body):
        return self.call("POST", path, body)

    def get(self, path):
        return self.call("GET", path)

    def delete(self, path):
        return self.call("DELETE", path)

    def close(self):
        self.reader.close()
        self.sock.close()


class Stream:
    """A WebSocket that only reads whole text messages; the server sends no fragments."""

    def __init__(self, url, accepted):
        at = urllib.parse.urlsplit(url)
        self.sock = socket.create_connection((at.hostname, at.port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.sock.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall((f"GET /api/stream/{accepted['sandbox_id']}?token={urllib.parse.quote(accepted['stream_token'])} HTTP/1.1\r\n"
                           f"Host: {at.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                           "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        status, _ = read_headers(self.reader)
        if status != 101:
            raise RuntimeError(f"the stream was refused with {status}")

    def next(self):
        while True:
            head = self.reader.read(2)
            if len(head) < 2:
                raise ConnectionError("the stream was closed")
            size = head[1] & 127
            if size >= 126:
                form = ">H" if size == 126 else ">Q"
                size = struct.unpack(form, self.reader.read(struct.calcsize(form)))[0]
            data = self.reader.read(size)
            self.read_ns = time.time_ns()  # of the last frame, before it is looked into
            if head[0] & 15 == 1:
                return json.loads(data)

    def until(self, wanted):
        while True:
            message = self.next()
            if wanted(message):
                return message

    def close(self):
        self.reader.close()
        self.sock.close()


def is_output(message):
    return message["type"] == "output"


def is_end(message):
    return message["type"] == "status" and message["status"] in ("completed", "failed", "cancelled")


class Runsc:
    """The runsc that DevBox uses, by itself: with the flags and the config.json of a sandbox that runs."""

    def __init__(self, box, template):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="devbox-bench-runsc-"))
        self.count = 0
        cache = pathlib.Path(os.environ.get("DEVBOX_CACHE") or pathlib.Path.home() / ".cache" / "devbox")
        digest = json.loads((cache / "images" / f"{template}.json").read_text())["digest"]
        configs = [p for p in (box.state / "node" / "sandboxes").glob("*/config.json") if digest in p.read_text()]
        if not configs:
            raise RuntimeError(f"no sandbox of {template} runs")
        self.config = json.loads(configs[0].read_text())
        self.config_dir = str(configs[0].parent)
        words = self.command_line(configs[0].parent.name)
        own = re.compile(r"--(root|log|log-fd|overlay2|debug|debug-log|profile)(=|$)")
        self.flags = [w for w in words[: words.index("boot")] if w.startswith("--") and not own.match(w)]
        self.path = (box.state / "logs" / "runsc.path").read_text().splitlines()[-1]
        say(f"runsc: {subprocess.check_output([self.path, '--version'], text=True).splitlines()[0]}; flags {' '.join(sorted(self.flags))}")

    @staticmethod
    def command_line(sandbox_id):
        for p in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = p.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if "boot" in words and sandbox_id in words:
                return words
        raise RuntimeError("the sandbox's process is gone")

    def bundle(self, args):
        """(name, the words before runsc's command) of a new bundle whose process is args."""
        self.count += 1
        name = f"bench-{os.getpid()}-{self.count}"
        folder = self.dir / name
        (folder / "overlay").mkdir(parents=True)
        (folder / "rootfs").mkdir()
        config = json.loads(json.dumps(self.config))
        config["process"]["args"] = args
        config["linux"]["cgroupsPath"] = f"/devbox-bench-{os.getpid()}/{name}"
        config["annotations"]["dev.gvisor.spec.rootfs.overlay"] = f"dir={folder}/overlay"
        for mount in config["mounts"]:
            if mount["source"].startswith(self.config_dir + "/"):  # of that sandbox alone, and gone with it
                mount["source"] = str(folder / mount["source"][len(self.config_dir) + 1:])
                pathlib.Path(mount["source"]).mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        return name, [self.path, *self.flags, f"--root={self.dir}/root", f"--overlay2=root:dir={folder}/overlay", f"--log={folder}/log"]

    def call(self, words, *args):
        subprocess.run([*words, *args], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def start(self, args):
        """A sandbox that goes on; returns what exec needs."""
        name, words = self.bundle(args)
        self.call(words, "create", "--bundle", str(self.dir / name), name)
        self.call(words, "start", name)
        return name, words

    def end(self, sandbox):
        name, words = sandbox
        self.call(words, "delete", "--force", name)

    def exec_first_byte(self, sandbox, args):
        """Seconds from the call of `runsc exec` to the first byte that its program writes."""
        name, words = sandbox
        r, w = os.pipe()
        begin = time.perf_counter()
        p = subprocess.Popen([*words, "exec", "--user=1000:1000", name, *args], stdin=subprocess.DEVNULL, stdout=w)
        os.close(w)
        first = os.read(r, 1)
        took = time.perf_counter() - begin
        while os.read(r, 65536):
            pass
        os.close(r)
        if p.wait() or not first:
            raise RuntimeError(f"runsc exec ended with {p.returncode}")
        return took

    def run(self, args):
        """Seconds of `runsc run` of a bundle that does args, to its end."""
        name, words = self.bundle(args)
        begin = time.perf_counter()
        self.call(words, "run", "--bundle", str(self.dir / name), name)
        return time.perf_counter() - begin

    def close(self):
        # runsc mounts an empty network namespace there and leaves it.
        subprocess.run(["umount", str(self.dir / "root" / "null-netns")], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)
        for group in pathlib.Path("/sys/fs/cgroup").glob(f"**/devbox-bench-{os.getpid()}"):
            for d in [*sorted(group.glob("**/*/"), reverse=True), group]:
                try:
                    d.rmdir()
                except OSError:
                    pass
