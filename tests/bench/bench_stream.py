# SPDX-License-Identifier: Apache-2.0
"""The way of output: how late it is, how much of it there is, how many may look, what one costs who only waits."""

import base64
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse

from benchlib import ROOT, DevBox, Http, Rows, Stream, is_end, machine_facts, median, percentile, say, wait_for

ENDED = '"status":"completed"'  # stands in the last message of a stream, and nowhere before
LIMITS = {"DEVBOX_GATEWAY_MAX_OUTPUT_BYTES": str(1 << 30), "DEVBOX_GATEWAY_MAX_WALL_MS": "300000",
          "DEVBOX_GATEWAY_MAX_CPU_MS": "300000"}
BINARY = "Sec-WebSocket-Protocol: devbox.bin.v1\r\n"
WS_SERVER = """
const { WebSocketServer } = require('ws');
const [viewers, blocks, size, marker] = process.argv.slice(1);
const server = new WebSocketServer({ host: '127.0.0.1', port: 0 }, () => console.error(server.address().port));
function send(k) {
    let left = server.clients.size;
    const text = Buffer.alloc(+size, 'x');
    if (k === blocks - 1)
        text.write(marker, size - marker.length);
    for (const c of server.clients)
        c.send(text, { binary: false }, () => { if (--left === 0 && k + 1 < blocks) setImmediate(send, k + 1); });
}
process.stdin.once('data', () => send(0));
process.stdin.on('end', () => process.exit(0));
"""


class Peer:
    """The compiled stream_peer.c."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="devbox-bench-peer-"))
        self.path = self.dir / "peer"
        subprocess.run(["gcc", "-O2", "-static", "-o", self.path, ROOT / "tests" / "bench" / "stream_peer.c"], check=True)
        self.content = base64.b64encode(self.path.read_bytes()).decode()

    def start(self, *args, **kw):
        return subprocess.Popen([self.path, *map(str, args)], stdout=subprocess.PIPE, **{"stdin": subprocess.PIPE, **kw})

    def serve(self, *args, **kw):
        """(process, port) of one that tells its port."""
        p = self.start(*args, stderr=subprocess.PIPE, **kw)
        return p, int(p.stderr.readline())

    def in_sandbox(self, http, *args, **limits):
        """An execution of it; it waits for a line."""
        return http.post("/api/executions", {
            "template": "python", "files": [{"path": "peer", "content_base64": self.content}],
            "command": f"chmod +x peer && exec ./peer {' '.join(map(str, args))}", "limits": {"wall_ms": 300000, **limits}})

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def go(sock, accepted):
    """The line it waits for, as a masked text frame."""
    data = json.dumps({"type": "input", "process_id": accepted["process_id"], "data": "\n"}).encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
    sock.sendall(b"\x81" + length + bytes(4) + data)


# --- latency ---


def ticks_through_us(peer, box, http, count, interval_us):
    """[(sent ns, counter, read ns)]; the time is taken when the message is read, before it is looked into."""
    accepted = peer.in_sandbox(http, "tick", count, interval_us)
    stream = Stream(box.url, accepted)
    stream.until(lambda m: m["type"] == "status" and m["status"] == "running")
    go(stream.sock, accepted)
    got = []
    while True:
        m = stream.next()
        if is_end(m):
            break
        if m["type"] == "output":
            got += [(*map(int, line.split()), stream.read_ns) for line in m["data"].splitlines()]
    stream.close()
    if m["verdict"] != "OK" or len(got) != count:
        raise RuntimeError(f"{len(got)} of {count} lines: {m}")
    return got


def ticks_raw(peer, count, interval_us):
    """The same through a pipe and a process that sends what it reads over a TCP connection."""
    tick = peer.start("tick", count, interval_us)
    relay, port = peer.serve("relay", stdin=tick.stdout)
    tick.stdout.close()
    sock = socket.create_connection(("127.0.0.1", port))
    tick.stdin.write(b"\n")
    tick.stdin.flush()
    got = []
    while data := sock.recv(65536):
        at = time.time_ns()
        got += [(*map(int, line.split()), at) for line in data.splitlines()]
    sock.close()
    tick.stdin.close()
    tick.wait()
    relay.wait()
    return got


def clock_error_us(peer, box, http):
    """How far the sandbox's wall clock is from the host's at the same value of the processor's counter: the host's is
    read before and behind, and interpolated."""
    before = ticks_raw(peer, 100, 2000)
    inside = ticks_through_us(peer, box, http, 300, 2000)
    behind = ticks_raw(peer, 100, 2000)
    (t0, c0, _), (t1, c1, _) = before[-1], behind[0]
    return [(t - (t0 + (c - c0) * (t1 - t0) / (c1 - c0))) / 1000 for t, c, _ in inside]


def latencies(peer, box, http, count):
    """(ours, raw) in ms, in turns."""
    ours, raw = [], []
    for _ in range(4):
        ours += [(at - t) / 1e6 for t, _, at in ticks_through_us(peer, box, http, count // 4, 10000)]
        raw += [(at - t) / 1e6 for t, _, at in ticks_raw(peer, count // 4, 10000)]
    return ours, raw


def bench_latency(peer, box, http, rows, log, count, goals):
    error = clock_error_us(peer, box, http)
    say(f"clocks: wall time in the sandbox less the host's, by the processor's counter, {len(error)} readings over "
        f"0.6 s: {percentile(error, 5):.1f} .. {percentile(error, 95):.1f} us (5 .. 95 %), median {median(error):.1f}")
    ours, raw = latencies(peer, box, http, count)
    say(f"latency on {log}: {count} lines, one write() each 10 ms with its time in it (gVisor; then natively), to the message read by a client; "
        "raw: pipe, a process that reads and sends, TCP over loopback")
    for p, goal in zip((50, 99), goals):
        rows.add(f"latency on {log}, p{p}: DevBox, raw relay", percentile(ours, p), percentile(raw, p), "ms", goal=goal, of="ours")


def bench_loops(peer, box, http, rows, count):
    """Latency while executions burn all processors."""
    loops = [http.post("/api/executions", {"template": "python", "files": [{"path": "loop.py", "content": "while True:\n    pass\n"}],
                                           "command": "python3 loop.py", "limits": {"wall_ms": 300000, "cpu_ms": 300000}})
             for _ in range(os.cpu_count())]
    for loop in loops:
        wait_for(lambda: http.get(f"/api/executions/{loop['id']}")["status"] == "running", 60, "a loop runs")
    ours, raw = latencies(peer, box, http, count)
    for loop in loops:
        http.delete(f"/api/executions/{loop['id']}")
    for p in (50, 99):
        rows.add(f"latency beside {len(loops)} loops, p{p}: DevBox, raw relay", percentile(ours, p), percentile(raw, p), "ms")


# --- volume ---


def read_frames(sock, on_last):
    """Reads frames until one whose beginning on_last accepts; returns when it was read."""
    buf, view = bytearray(4 << 20), None
    have = 0
    view = memoryview(buf)
    while True:
        n = sock.recv_into(view[have:])
        if not n:
            raise ConnectionError("the stream was closed")
        have += n
        at = 0
        while have - at >= 2:
            size, head = buf[at + 1] & 127, 2
            if size >= 126:
                head = 4 if size == 126 else 10
                if have - at < head:
                    break
                size = int.from_bytes(buf[at + 2:at + head], "big")
            if have - at < head + size:
                break
            if on_last(bytes(buf[at + head:at + min(head + size, head + 120)])):
                return time.perf_counter()
            at += head + size
        buf[:have - at] = buf[at:have]
        have -= at


def is_end_record(data):
    return data[0] == 0xDB and data[2] == 5


def is_end_text(data):
    return data.startswith(b'{"type":"status"') and ENDED.encode() in data


def volume_through_us(peer, box, http, blocks, binary):
    size = blocks * 65536
    accepted = peer.in_sandbox(http, "blast", blocks, 65536, output_bytes=1 << 30)
    sock = upgrade(box.url, accepted, BINARY if binary else "")
    begin = time.perf_counter()
    go(sock, accepted)
    end = read_frames(sock, is_end_record if binary else is_end_text)
    sock.close()
    result = http.get(f"/api/executions/{accepted['id']}")
    if result["verdict"] != "OK" or result["usage"]["output_bytes"] != size:
        raise RuntimeError(f"volume: {result['verdict']}, {result['usage']}")
    return size / (end - begin) / 1e6


def volume_raw(peer, blocks):
    blast = peer.start("blast", blocks, 65536)
    relay, port = peer.serve("relay", stdin=blast.stdout)
    blast.stdout.close()
    sock = socket.create_connection(("127.0.0.1", port))
    begin = time.perf_counter()
    blast.stdin.write(b"\n")
    blast.stdin.flush()
    buf, got = bytearray(4 << 20), 0
    while n := sock.recv_into(buf):
        got += n
    took = time.perf_counter() - begin
    sock.close()
    blast.stdin.close()
    blast.wait()
    relay.wait()
    if got != blocks * 65536:
        raise RuntimeError(f"the relay gave {got} bytes")
    return got / took / 1e6


def bench_volume(peer, box, http, rows, rounds):
    blocks, values = 4096, {True: [], False: [], "raw": []}
    for _ in range(rounds):
        for binary in (True, False):
            values[binary].append(volume_through_us(peer, box, http, blocks, binary))
        values["raw"].append(volume_raw(peer, blocks))
    say(f"volume: {rounds} times {blocks} write()s of 64 KiB in the sandbox, from the line it waits for to the last message; raw: the relay again")
    raw = median(values["raw"])
    rows.add("volume, binary: DevBox, raw relay", median(values[True]), raw, "MB/s", goal=200, of="ours", at_least=True)
    rows.add("volume, JSON: DevBox, raw relay", median(values[False]), raw, "MB/s", goal=200, of="ours", at_least=True)


# --- many viewers ---


def request(url, accepted, extra=""):
    at = urllib.parse.urlsplit(url)
    key = base64.b64encode(os.urandom(16)).decode()
    return (f"GET /api/stream/{accepted['sandbox_id']}?token={urllib.parse.quote(accepted['stream_token'])} HTTP/1.1\r\n"
            f"Host: {at.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Version: 13\r\n{extra}\r\n")


def upgrade(url, accepted, extra=""):
    at = urllib.parse.urlsplit(url)
    sock = socket.create_connection((at.hostname, at.port), timeout=120)
    sock.sendall(request(url, accepted, extra).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError("the upgrade was refused")
        head += byte
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(head.decode())
    return sock


def gateways(box):
    return [d for d in box.daemons if d["name"] == "gateway"]


def sink(peer, viewers, ports, ask):
    p = peer.start("sink", viewers, ",".join(map(str, ports)), ask, ENDED)
    if p.stdout.readline() != b"ready\n":
        raise RuntimeError("the viewers could not connect")
    return p


def wait_sink(p, begin, payload):
    """MB/s of payload to all viewers together."""
    word, at, _ = p.stdout.readline().split()
    if word != b"done":
        raise RuntimeError("a viewer was lost")
    p.stdin.close()
    p.wait()
    return payload / (int(at) / 1e9 - begin) / 1e6


def fanout_ours(peer, box, http, viewers, blocks, size, protocol=""):
    accepted = peer.in_sandbox(http, "blast", blocks, size)
    stream = Stream(box.url, accepted)
    stream.until(lambda m: m["type"] == "status" and m["status"] == "running")
    ports = [urllib.parse.urlsplit(g["url"]).port for g in gateways(box)]
    p = sink(peer, viewers, ports, request(box.url, accepted, protocol))
    begin = time.monotonic()
    go(stream.sock, accepted)
    value = wait_sink(p, begin, viewers * blocks * size)
    stream.close()
    return value


def fanout_server(peer, server, port, viewers, blocks, size, ask):
    p = sink(peer, viewers, [port], ask)
    begin = time.monotonic()
    server.stdin.write(b"\n")
    server.stdin.flush()
    value = wait_sink(p, begin, viewers * blocks * size)
    server.stdin.close()
    server.wait()
    return value


def fanout_raw(peer, viewers, blocks, size):
    return fanout_server(peer, *peer.serve("fanout", viewers, blocks, size, ENDED), viewers, blocks, size, "")


class Ws:
    """A broadcast of node's `ws`, which npm fetches; None in `folder` where it cannot."""

    ASK = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"

    def __init__(self):
        self.folder = pathlib.Path(os.environ.get("DEVBOX_CACHE") or pathlib.Path.home() / ".cache" / "devbox") / "bench-ws"
        if not (self.folder / "node_modules" / "ws").is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "ws"], cwd=self.folder, check=True)
            except (OSError, subprocess.CalledProcessError) as e:
                say(f"node ws: not measured, npm did not fetch it: {e}")
                self.folder = None

    def serve(self, viewers, blocks, size):
        p = subprocess.Popen(["node", "-e", WS_SERVER, *map(str, (viewers, blocks, size)), ENDED], cwd=self.folder,
                             stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        return p, int(p.stderr.readline())


def bench_fanout(peer, box, http, rows, ws, rounds):
    for size, blocks in ((256, 1000), (16384, 64)):
        values = {"ours": [], "binary": [], "raw": [], "ws": []}
        for _ in range(rounds):
            values["binary"].append(fanout_ours(peer, box, http, 1000, blocks, size, BINARY))
            values["ours"].append(fanout_ours(peer, box, http, 1000, blocks, size))
            values["raw"].append(fanout_raw(peer, 1000, blocks, size))
            if ws.folder:
                values["ws"].append(fanout_server(peer, *ws.serve(1000, blocks, size), 1000, blocks, size, Ws.ASK))
        say(f"fan-out: {rounds} times {blocks} write()s of {size} bytes to 1,000 viewers (ours: over two gateways, who put together what "
            "comes fast; the others: a message each), from the start to the last byte at the last viewer")
        for protocol, ours in (("JSON", median(values["ours"])), ("binary", median(values["binary"]))):
            name = f"1 to 1,000 viewers, {size} B, {protocol}: DevBox"
            rows.add(f"{name}, raw send() loop", ours, median(values["raw"]), "MB/s", goal=1.0, at_least=True)
            if ws.folder:
                rows.add(f"{name}, node ws", ours, median(values["ws"]), "MB/s")


# --- those who only wait ---


def memory_kib(pids):
    """Once it stands still."""
    last = []

    def still():
        last.append(sum(map(pss_kib, pids)))
        time.sleep(0.3)
        return len(last) > 3 and max(last[-3:]) - min(last[-3:]) < 256

    wait_for(still, 60, "the memory of idle servers stands still")
    return last[-1]


def pss_kib(pid):
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def bench_idle(peer, box, http, rows, ws, viewers):
    accepted = peer.in_sandbox(http, "blast", 1, 64)
    pids = [g["pid"] for g in gateways(box)]
    ports = [urllib.parse.urlsplit(g["url"]).port for g in gateways(box)]
    before = memory_kib(pids)
    p = sink(peer, viewers, ports, request(box.url, accepted))
    ours = (memory_kib(pids) - before) / viewers
    p.kill()
    p.wait()
    http.delete(f"/api/executions/{accepted['id']}")
    other = None
    if ws.folder:
        server, port = ws.serve(viewers, 1, 64)
        before = memory_kib([server.pid])
        p = sink(peer, viewers, [port], Ws.ASK)
        other = (memory_kib([server.pid]) - before) / viewers
        p.kill()
        p.wait()
        server.stdin.close()
        server.wait()
    say(f"idle: {viewers} open streams of one program that writes nothing; growth of both gateways together (Pss), a stream; other: node ws in one process")
    rows.add("an idle stream: DevBox, node ws", ours, other, "KiB")


def main():
    rows = Rows(__doc__)
    machine_facts()
    peer, ws = Peer(), Ws()
    lines = 4 * (rows.args.rounds or 50) * 5
    try:
        with DevBox(**LIMITS) as box:
            http = Http(box.url, box.key)
            box.wait_warm("python")
            bench_latency(peer, box, http, rows, "files", lines, (0.5, 2.0))
            bench_loops(peer, box, http, rows, lines)
            bench_volume(peer, box, http, rows, min(rows.args.rounds or 3, 10))
            bench_fanout(peer, box, http, rows, ws, min(rows.args.rounds or 3, 10))
            bench_idle(peer, box, http, rows, ws, 10000)
            http.close()
        with DevBox("--kafka", **LIMITS) as box:
            http = Http(box.url, box.key)
            box.wait_warm("python")
            bench_latency(peer, box, http, rows, "Kafka", lines, (None, None))
            http.close()
    finally:
        peer.close()
    rows.done()


if __name__ == "__main__":
    main()
