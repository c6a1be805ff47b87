# SPDX-License-Identifier: Apache-2.0
"""The registry cache against nginx's proxy_cache (one worker) and Verdaccio: the same artefacts from the same origin, in turns."""

import hashlib
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time

from benchlib import ROOT, Rows, machine_facts, median, say, wait_for
from peers import HOME, Nginx, Peer, curl, install, wrk

sys.path.insert(0, str(ROOT / "tests" / "system"))
from registry_fixture import Upstream  # noqa: E402

SIZES = {"1 KB": 1000, "90 KB": 90_000, "1 MB": 1_000_000}
WAITERS = 1000


def install_verdaccio():
    """By npm, into the cache folder, once."""
    if not (HOME / "verdaccio" / "node_modules" / "verdaccio").exists():
        say("fetching Verdaccio")
        (HOME / "verdaccio").mkdir(parents=True, exist_ok=True)
        (HOME / "verdaccio" / "package.json").write_text('{"private":true,"overrides":{"node-fetch":"2.7.0"}}')  # not every mirror has its tag "cjs"
        subprocess.run(["npm", "install", "verdaccio@6", "--no-audit", "--no-fund"], cwd=HOME / "verdaccio", check=True, stdout=subprocess.DEVNULL)


class Ours(Peer):
    prefix = "/npm"

    def command(self, origin):
        build = pathlib.Path(os.environ.get("DEVBOX_BUILD") or ROOT / "build" / "release")
        (self.dir / "upstreams").write_text(f"npm {origin}/npm\n")
        return [build / "bin" / "devbox-registry-cache", f"--listen=127.0.0.1:{self.port}", f"--dir={self.dir / 'store'}",
                f"--upstreams={self.dir / 'upstreams'}"]


class Proxy(Nginx):
    server = """location / {
      proxy_pass ORIGIN/npm/; proxy_cache c; proxy_cache_valid 200 1d; proxy_cache_lock on; proxy_cache_lock_timeout 60s;
      proxy_cache_lock_age 60s; proxy_http_version 1.1; proxy_set_header Connection "";
    }"""


class Verdaccio(Peer):
    def command(self, origin):
        (self.dir / "config.yaml").write_text(f"""
storage: {self.dir}/storage
uplinks: {{ origin: {{ url: "{origin}/npm/", maxage: 1d, cache: true }} }}
packages: {{ "**": {{ access: $all, proxy: origin }} }}
log: {{ type: stdout, format: json, level: error }}
""")
        return ["node", HOME / "verdaccio" / "node_modules" / "verdaccio" / "bin" / "verdaccio", "--config", self.dir / "config.yaml",
                "--listen", f"127.0.0.1:{self.port}"]


def compare(rows, name, path, ours, peers, rounds, headers=(), **how):
    """Requests/s and p99 side by side; peers: (peer, word, goal of the rate, goal of p99)."""
    for p in [ours, *(x[0] for x in peers)]:
        for _ in range(3):
            curl(p.url(path), "-o", "/dev/null", *[w for h in headers for w in ("-H", h)])
        wrk(p.url(path), headers, **how)
    for peer, word, rate_goal, late_goal in peers:
        a, b = [], []
        for _ in range(rounds):
            a.append(wrk(ours.url(path), headers, **how))
            b.append(wrk(peer.url(path), headers, **how))
        rows.add(f"{name}, ÷ {word}", median([x[0] for x in a]), median([x[0] for x in b]), "req/s", rate_goal, at_least=True)
        rows.add(f"{name}, p99, ÷ {word}", median([x[1] for x in a]), median([x[1] for x in b]), "ms", late_goal)


def herd(origin, peer, name, data):
    """How often the origin is asked when many ask at once for what is not there."""
    path = f"/npm/{name}/-/{name}-1.0.0.tgz"
    gate = threading.Event()
    origin.npm(name, {"1.0.0": data})

    def page(_):
        gate.wait(60)
        return 200, {"Cache-Control": "max-age=3600"}, data

    origin.pages[path] = page
    socks = []
    for _ in range(WAITERS):
        s = socket.create_connection(("127.0.0.1", peer.port))
        s.settimeout(90)
        s.sendall(f"GET {peer.prefix}/{name}/-/{name}-1.0.0.tgz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        socks.append(s)
    wait_for(lambda: origin.counts.get(path), 60, "the origin is asked")
    gate.set()
    for s in socks:
        got = hashlib.sha256()
        head = b""
        while b"\r\n\r\n" not in head:
            head += s.recv(65536)
        got.update(head.split(b"\r\n\r\n", 1)[1])
        while piece := s.recv(1 << 16):
            got.update(piece)
        if got.digest() != hashlib.sha256(data).digest():
            raise RuntimeError(f"{type(peer).__name__}: a waiter got something else")
        s.close()
    return origin.counts[path]


def first_byte(url):
    return float(curl(url, "-o", "/dev/null", "-w", "%{time_starttransfer}")) * 1000


def first_byte_of_misses(origin, ours, count):
    """Through us and direct, of an origin that takes 30 ms to answer; the package's metadata is known."""
    data = os.urandom(200_000)

    def page(_):
        time.sleep(0.03)
        return 200, {}, data

    for kind in ("a", "b"):
        origin.npm(f"late-{kind}", {f"1.0.{i}": data for i in range(count)})
    through, direct = [], []
    first_byte(ours.url("/late-a/-/late-a-1.0.0.tgz"))
    for i in range(1, count):
        for kind, into, base in (("a", through, ours.url("")), ("b", direct, origin.url + "/npm")):
            path = f"/late-{kind}/-/late-{kind}-1.0.{i}.tgz"
            origin.pages["/npm" + path] = page
            into.append(first_byte(base + path))
    return median(through), median(direct)


def main():
    rows = Rows(__doc__)
    rounds = rows.args.rounds or 3
    install()
    install_verdaccio()
    machine_facts()
    origin = Upstream()
    rng = random.Random(1)
    for name, size in SIZES.items():
        origin.npm("t" + name.replace(" ", "").lower(), {"1.0.0": rng.randbytes(size)})
    origin.npm("large", {f"1.{i}.0": b"x" for i in range(2000)})
    doc = json.loads(origin.pages["/npm/large"][2])
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(3, 10))) for _ in range(2000)]
    for v in doc["versions"].values():
        v.update(description=" ".join(rng.choices(words, k=20)), license="MIT", gitHead=rng.randbytes(20).hex(),
                 dependencies={rng.choice(words): f"^{rng.randrange(9)}.{rng.randrange(30)}.0" for _ in range(20)},
                 maintainers=[{"name": w, "email": w + "@example.org"} for w in rng.choices(words, k=4)])
    origin.pages["/npm/large"] = (200, {"Content-Type": "application/json", "Cache-Control": "max-age=86400"}, json.dumps(doc).encode())
    say(f"the packument has {len(origin.pages['/npm/large'][2])} bytes")
    peers = []
    try:
        ours, nginx, verdaccio = peers = [Ours(origin.url), Proxy(origin.url), Verdaccio(origin.url)]
        for name in SIZES:
            pkg = "t" + name.replace(" ", "").lower()
            compare(rows, f"tarball of {name}", f"/{pkg}/-/{pkg}-1.0.0.tgz", ours,
                    [(nginx, "nginx", 1.0, 1.0), (verdaccio, "Verdaccio", 35 if SIZES[name] < 500_000 else None, None)], rounds)
        compare(rows, "large packument", "/large", ours, [(verdaccio, "Verdaccio", 35, None)], rounds,
                ["Accept-Encoding: gzip", "Accept: application/json"], seconds=6, connections=8)
        data = rng.randbytes(500_000)
        rows.add(f"origin asked by {WAITERS} misses at once", herd(origin, ours, "herd-a", data), herd(origin, nginx, "herd-b", data), "times", 1, of="ours")
        rows.add("first byte of a miss, ÷ direct", *first_byte_of_misses(origin, ours, 15), "ms", 1.1)
    finally:
        for p in peers:
            p.close()
        origin.close()
    rows.done()


if __name__ == "__main__":
    main()
