# SPDX-License-Identifier: Apache-2.0
"""Package managers in workspaces, as they are, by the sandbox's way to the registry cache; and that nothing else is
to be reached by it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import DevBox, ROOT, free_port
from test_workspaces import Workspace

# The port at which a sandbox finds the cache.
PORT = int(re.search(r"BND_REGISTRY_PORT (\d+)", (ROOT / "bundles/bundles.h").read_text()).group(1))


@pytest.fixture()
def workspace(api):
    made = []

    def make(template):
        made.append(Workspace(api, template=template))
        return made[-1]

    yield make
    for w in made:
        api.call("DELETE", w.path)


def messages(api, run):
    """All that a viewer sees of a process, to its end."""
    s = api.stream(run)
    s.until(lambda m: m.get("process_id") == run["process_id"] and m.get("status") in ("completed", "failed", "cancelled"))
    s.close()
    return [m for m in s.seen if m.get("process_id") == run["process_id"]]


def shell(w, script, timeout=300):
    """What a script prints that must succeed."""
    run = w.start(["bash", "-euc", script], limits={"wall_ms": timeout * 1000})
    end = w.wait(run, timeout=timeout + 30)
    assert end.get("exit_code") == 0, (end, w.output(run)[-2000:], w.output(run, "stderr")[-4000:])
    return w.output(run)


# Of each template: the project's files, what is installed in it and run, how that ends, and what makes the lock file of it.
PROJECTS = {
    "python": ({"main.py": "import flask, markupsafe._speedups, pandas\nprint(flask.__name__, pandas.DataFrame({'a': [1, 2]}).a.sum())\n"},
               "pip install pandas flask", "python3 main.py", "flask 3\n", "pip freeze --user | grep -iE '^(flask|markupsafe)=' >requirements.txt"),
    "node": ({"main.js": "require('express'); require('react'); console.log(require.resolve('vite') ? 'loaded' : '')\n",
              "index.html": "<script type=module src=page.js></script>\n", "page.js": "console.log(typeof import('react'))\n"},
             "npm install --no-audit express react vite @types/node", "npx vite build --logLevel error && ls dist/index.html && node main.js",
             "dist/index.html\nloaded\n", "true"),
    "go": ({"main.go": 'package main\n\nimport "github.com/spf13/cobra"\n\nfunc main() { println((&cobra.Command{Use: "built"}).Name()) }\n'},
           "go mod init example && go get github.com/spf13/cobra", "go build -o main . && ./main 2>&1", "built\n", "go mod download"),
    "rust": ({"Cargo.toml": '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n',
              "src/main.rs": "#[derive(serde::Serialize)]\nstruct A;\nfn takes<T: serde::Serialize>(_: T) {}\n"
                             'fn main() { takes(A); println!("built") }\n'},
             "cargo add serde --features derive", "cargo build && target/debug/app", "built\n", "true"),
}
LOCKS = {"python": ["requirements.txt"], "node": ["package.json", "package-lock.json"], "go": ["go.mod", "go.sum"],
         "rust": ["Cargo.toml", "Cargo.lock"]}


def script(template):
    _, install, run, _, lock = PROJECTS[template]
    return ["bash", "-euc", f"{install}\n{lock}\necho installed\n{run}"]


def begin(api, template, command, files=()):
    w = Workspace(api, template=template)
    for path, content in {**PROJECTS[template][0], **dict(files)}.items():
        w.put(path, content)
    return w, w.start(command, limits={"wall_ms": 600_000})


# With the layer of the lock file alone: pandas takes a minute to install, and is no other proof.
WITH_LAYER = {**{t: p[2] for t, p in PROJECTS.items()}, "python": "python3 -c 'import flask, markupsafe._speedups; print(flask.__name__, 3)'"}


def finish(template, w, run):
    end = w.wait(run, timeout=630)
    out = w.output(run)
    assert end.get("exit_code") == 0, (template, end, out[-2000:], w.output(run, "stderr")[-4000:])
    assert out.endswith(PROJECTS[template][3]), out[-2000:]
    return out


@pytest.fixture(scope="module")
def box():
    """A DevBox with nothing in its cache."""
    state = tempfile.mkdtemp(prefix="devbox-packages-")
    made = DevBox(state, free_port())
    try:
        yield made.up()
    finally:
        made.down()
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="module")
def installed(box):
    """What each template's project printed when it was installed first, all at once, and its lock files."""
    api, got = box.client(), {}
    runs = {t: begin(api, t, script(t)) for t in PROJECTS}
    for template, (w, run) in runs.items():
        out = finish(template, w, run)
        got[template] = out, {path: shell(w, f"cat {path}") for path in LOCKS[template]}, {e["path"] for e in w.tree()}
        api.call("DELETE", w.path)
    return got


@pytest.fixture(scope="module")
def cut(box, installed):
    """The same, with nobody behind its cache any more."""
    (box.state / "registry/upstreams.conf").write_text("".join(
        f"{eco} {scheme}http://127.0.0.1:1/{end}\n" for eco, scheme, end in
        [("npm", "", ""), ("pypi", "", "simple"), ("go", "", ""), ("crates", "sparse+", "")]))
    old = box.daemons("registry-cache")[0]["pid"]
    os.kill(old, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while [d["pid"] for d in box.daemons("registry-cache")] in ([], [old]) or not box.status()["ready"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return box


@pytest.mark.parametrize("template", PROJECTS)
def test_installers(installed, template):
    """As they are, on real packages with native code, scopes and transitive trees; and nothing of ours in the project."""
    out, locks, tree = installed[template]
    said = {"python": "Successfully installed", "node": "added ", "go": "", "rust": ""}
    assert said[template] in out
    assert {"python": "MarkupSafe==", "node": "@types/node", "go": "github.com/spf13/pflag ", "rust": 'name = "serde_derive"'}[template] in locks[LOCKS[template][-1]]
    assert not {p for p in tree if p.split("/")[0].startswith(".") or "devbox" in p}, tree


def all_at_once(api, command, files=None):
    """Each project in a new workspace: what it printed, and the process's last word."""
    runs, got = {t: begin(api, t, command(t), files[t] if files else ()) for t in PROJECTS}, {}
    for t, (w, run) in runs.items():
        got[t] = finish(t, w, run), messages(api, run)[-1]
        api.call("DELETE", w.path)
    return got


@pytest.fixture(scope="module")
def again(cut):
    return all_at_once(cut.client(), script)


@pytest.fixture(scope="module")
def layered(cut, installed):
    """Twice by its lock file alone, which makes a layer, and then has it."""
    locks = {t: installed[t][1] for t in PROJECTS}
    return [all_at_once(cut.client(), lambda t: ["bash", "-euc", WITH_LAYER[t]], locks) for _ in range(2)]


@pytest.mark.parametrize("template", PROJECTS)
def test_offline_from_the_second_time(again, template):
    assert "installed\n" in again[template][0]


@pytest.mark.parametrize("template", PROJECTS)
def test_layers_without_upstream(layered, template):
    """Made from the cache alone; the next one has it at once."""
    made, had = (turn[template][1]["compile"] for turn in layered)
    assert made["verdict"] == "OK" and had is None, (made, had)


PROBE = r"""
import errno, json, os, socket, stat, struct, sys, urllib.request, urllib.error

with open("targets.json") as f:
    given = json.load(f)

def attempt(family, kind, address, protocol=0):
    try:
        s = socket.socket(family, kind, protocol)
    except OSError as e:
        return errno.errorcode[e.errno]
    with s:
        s.settimeout(2)
        try:
            s.connect(address)
            if kind != socket.SOCK_STREAM:
                s.send(b"x")
            return ""
        except OSError as e:
            return errno.errorcode.get(e.errno, "timeout")

def connects(family, address):
    return not attempt(family, socket.SOCK_STREAM, address)

def status(path, host="127.0.0.1:%d" % given["cache"]):
    rq = urllib.request.Request("http://127.0.0.1:%d" % given["cache"] + path, headers={"Host": host})
    try:
        return urllib.request.urlopen(rq, timeout=30).status
    except urllib.error.HTTPError as e:
        return e.code

def raw(data):
    s = socket.create_connection(("127.0.0.1", given["cache"]), timeout=30)
    s.sendall(data)
    got = b""
    while True:
        more = s.recv(65536)
        if not more:
            return got.decode("latin-1")
        got += more

def resolves(name):
    try:
        socket.getaddrinfo(name, 80)
        return True
    except OSError:
        return False

def sockets_of_files():
    for folder, _, names in os.walk("/"):
        if not folder.startswith(("/proc", "/sys")):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if stat.S_ISSOCK(os.lstat(path).st_mode):
                        yield path
                except OSError:
                    pass

def makes(family, kind, protocol=0):
    try:
        socket.socket(family, kind, protocol).close()
        return True
    except OSError:
        return False

v4 = given["addresses4"] + ["10.0.0.1", "10.0.2.2", "192.168.0.1", "172.17.0.1", "127.0.0.2", "0.0.0.0", "255.255.255.255", "224.0.0.1",
      "169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "1.1.1.1", "8.8.8.8"]
v6 = given["addresses6"] + ["2606:4700:4700::1111", "fe80::1", "fd00:ec2::254", "ff02::1", "::ffff:1.1.1.1"]
usual = [22, 53, 80, 443, 2375, 5432, 6443, 9092, 10250]
print(json.dumps({
    "ports": [p for p in range(1, 65536) if connects(socket.AF_INET, ("127.0.0.1", p))],
    "ports6": [p for p in given["ports"] + usual if connects(socket.AF_INET6, ("::1", p))],
    "addresses": [(a, p) for a in v4 for p in usual + given["ports"] + ([] if a in ("127.0.0.2", "0.0.0.0") else [given["cache"]])
                  if connects(socket.AF_INET, (a, p))],
    "six": [(a, p) for a in v6 for p in usual + given["ports"] if connects(socket.AF_INET6, (a, p))],
    "udp": [a for a in v4[:-6] + ["1.1.1.1", "8.8.8.8"] for p in (53, 123, 161) if a not in ("127.0.0.2", "0.0.0.0")
            and not attempt(socket.AF_INET, socket.SOCK_DGRAM, (a, p))],
    "names": [n for n in ["example.com", "example.org", "host.docker.internal", "metadata.google.internal", "kubernetes.default.svc", "host"]
              if resolves(n)],
    "abstract": [a for a in given["abstract"] if connects(socket.AF_UNIX, "\0" + a)],
    "unix": [p for p in [*sockets_of_files(), *given["sockets"]] if connects(socket.AF_UNIX, p)],
    "vsock": [c for c in (0, 1, 2, 3) if hasattr(socket, "AF_VSOCK") and not attempt(socket.AF_VSOCK, socket.SOCK_STREAM, (c, 1024))],
    "raw": [n for n, x in {"icmp": (socket.AF_INET, socket.SOCK_RAW, 1), "ip": (socket.AF_INET, socket.SOCK_RAW, 255), "icmp6": (socket.AF_INET6,
            socket.SOCK_RAW, 58), "packet": (socket.AF_PACKET, socket.SOCK_RAW, 768), "link": (socket.AF_PACKET, socket.SOCK_DGRAM, 768)}.items() if makes(*x)],
    "interfaces": [n for _, n in socket.if_nameindex()],
    "routes": [x.split()[:2] for x in open("/proc/net/route").read().splitlines()[1:]],
    "good": status("/pypi/simple/flask/"),
    "other": {p: status(p) for p in ["/metrics", "/healthz", "/readyz", "/admin", "/blobs/sha256/" + "0" * 64, "/layers/" + "0" * 64, "/",
                                     "/..", "/npm/../metrics", "/npm/%2e%2e/metrics", "//metrics"]},
    "hosts": [status("/pypi/simple/flask/", h) for h in ("127.0.0.1:%d" % p for p in given["ports"])],
    "proxy": raw(b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").split("\r\n")[0],
    "tunnel": raw(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nConnection: close\r\n\r\n").split("\r\n")[0],
    "put": raw(b"PUT /layers/" + b"0" * 64 + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").split("\r\n")[0],
}))
"""
# What another sandbox listens on, all at once; it says so and waits.
OTHER = r"""
import socket, sys, time
held = []
def listens(family, address):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.bind(address)
    s.listen(8)
    held.append(s)
listens(socket.AF_INET, ("0.0.0.0", int(sys.argv[1])))
listens(socket.AF_INET6, ("::", int(sys.argv[1]) + 1))
listens(socket.AF_UNIX, "\0" + sys.argv[2])
listens(socket.AF_UNIX, "/tmp/" + sys.argv[2])
listens(socket.AF_UNIX, "/dev/shm/" + sys.argv[2])
print("listens", flush=True)
sys.stdin.read()
"""


def words(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_reaches_nothing_else(devbox, workspace):
    """The list of what was tried, from one sandbox beside another that listens and a host that runs all of this."""
    other, name = workspace("python"), "devbox-other-sandbox"
    other.put("other.py", OTHER)
    listener = other.start(["python3", "other.py", "18080", name])
    s = other.api.stream(listener)
    s.until_output("listens\n")
    held = socket.socket(socket.AF_UNIX)
    held.bind("\0devbox-host")
    held.listen()
    daemons = [int(d["url"].rsplit(":", 1)[1].split("/")[0]) for d in devbox.status()["daemons"] if d.get("url")]
    given = {"cache": PORT, "ports": sorted({*daemons, 18080, 18081}), "abstract": [name, "devbox-host"],
             "addresses4": [a for a in words("hostname", "-I") if "." in a], "addresses6": [a for a in words("hostname", "-I") if ":" in a],
             "sockets": [f"/tmp/{name}", f"/dev/shm/{name}", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket",
                         *(f"{d}/{f}" for d in (devbox.state, "/run", "/.layers") for f in ("registry.sock", "keeper.sock"))]}
    assert len(daemons) >= 4, daemons
    w = workspace("python")
    w.put("probe.py", PROBE)
    w.put("targets.json", json.dumps(given))
    got = json.loads(shell(w, "python3 probe.py"))
    held.close()
    s.close()
    assert got.pop("ports") == [PORT] and got.pop("good") == 200 and got.pop("interfaces") == ["lo"], got
    assert set(got.pop("other").values()) <= {400, 404}, got
    assert set(got.pop("hosts")) == {200}  # whatever Host says, it is the cache that answers
    for answer in (got.pop("proxy"), got.pop("tunnel"), got.pop("put")):
        assert answer.split(" ")[1][0] == "4", answer
    assert {k: v for k, v in got.items() if v} == {}


def test_many_connections(workspace):
    """Those beyond the bound are closed, the others go on, and those that come later are served."""
    w = workspace("python")
    w.put("many.py", f"PORT = {PORT}\n" + r"""
import socket, urllib.request
held = [socket.create_connection(("127.0.0.1", PORT), timeout=30) for _ in range(200)]
kept = 0
for s in held:
    try:
        s.sendall(b"GET /pypi/simple/flask/ HTTP/1.1\r\nHost: x\r\n\r\n")
        kept += s.recv(12) == b"HTTP/1.1 200"
    except OSError:
        pass
for s in held:
    s.close()
print(kept)
while True:
    try:
        print(urllib.request.urlopen(f"http://127.0.0.1:{PORT}/pypi/simple/flask/", timeout=30).status)
        break
    except OSError:
        pass
""")
    kept, after = map(int, shell(w, "python3 many.py").split())
    assert 1 <= kept <= 64 and after == 200


def test_single_use_has_none(api):
    """An execution has neither the port nor the variables."""
    r = api.run("python", {"main.py": "import os, socket\ns = socket.socket()\n"
                           f"print(s.connect_ex(('127.0.0.1', {PORT})), 'PIP_INDEX_URL' in os.environ)\n"})
    assert r["stdout"] == "111 False\n", r


def test_shim_killed(own_devbox):
    """The way stays for what the next shim adopts; what was on it is cut."""
    box = own_devbox.up()
    w = Workspace(box.client())
    w.put("wait.py", f"PORT = {PORT}\n" + r"""
import socket, time, urllib.request
s = socket.create_connection(("127.0.0.1", PORT), timeout=120)
s.sendall(b"GET /pypi/simple/flask/ HTTP/1.1\r\nHost: x\r\n\r\n")
print(s.recv(12).decode(), flush=True)
while s.recv(65536):
    pass
print("cut", flush=True)
while True:
    try:
        print(urllib.request.urlopen(f"http://127.0.0.1:{PORT}/pypi/simple/flask/", timeout=30).status)
        break
    except OSError:
        time.sleep(0.1)
""")
    run = w.start(["python3", "wait.py"], limits={"wall_ms": 120000})
    deadline = time.monotonic() + 60
    while "200" not in w.output(run):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(box.daemons("shim")[0]["pid"], signal.SIGKILL)
    end = w.wait(run, timeout=120)
    assert end["exit_code"] == 0 and w.output(run) == "HTTP/1.1 200\ncut\n200\n", (end, w.output(run))
