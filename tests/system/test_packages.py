# SPDX-License-Identifier: Apache-2.0
"""Package managers in workspaces, as they are, by the sandbox's way to the registry cache; and that nothing else is
to be reached by it."""

import json
import os
import signal
import time

import pytest

from test_workspaces import Workspace


@pytest.fixture()
def workspace(api):
    made = []

    def make(template):
        made.append(Workspace(api, template=template))
        return made[-1]

    yield make
    for w in made:
        api.call("DELETE", w.path)


def shell(w, script, timeout=300):
    """What a script prints that must succeed."""
    run = w.start(["bash", "-euc", script], limits={"wall_ms": timeout * 1000})
    end = w.wait(run, timeout=timeout + 30)
    assert end.get("exit_code") == 0, (end, w.output(run)[-2000:], w.output(run, "stderr")[-4000:])
    return w.output(run)


def test_pip(workspace):
    w = workspace("python")
    out = shell(w, "pip install flask && python3 -c 'import flask, markupsafe._speedups; print(flask.__name__)'")
    assert "Successfully installed" in out and out.endswith("flask\n")
    assert w.tree() == []  # nothing of ours in the project


def test_npm(workspace):
    w = workspace("node")
    out = shell(w, "npm install express @types/node && node -e 'console.log(typeof require(\"express\"))'")
    assert "added" in out and out.endswith("function\n")
    lock = json.loads(shell(w, "cat package-lock.json"))
    assert len(lock["packages"]) > 20


def test_go(workspace):
    w = workspace("go")
    w.put("main.go", 'package main\n\nimport "github.com/spf13/cobra"\n\n'
                     'func main() { println((&cobra.Command{Use: "built"}).Name()) }\n')
    script = "go mod init example && go get github.com/spf13/cobra && go build -o main . && ./main 2>&1"
    assert shell(w, script).endswith("built\n")
    assert "github.com/spf13/pflag " in shell(w, "cat go.sum")


def test_cargo(workspace):
    w = workspace("rust")
    w.put("Cargo.toml", '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n')
    w.put("src/main.rs", "#[derive(serde::Serialize)]\nstruct A;\nfn takes<T: serde::Serialize>(_: T) {}\n"
                         'fn main() { takes(A); println!("built") }\n')
    assert shell(w, "cargo add serde --features derive && cargo build && target/debug/app").endswith("built\n")


PROBE = r"""
import json, socket, urllib.request, urllib.error

def connects(family, address):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(2)
    try:
        s.connect(address)
        return True
    except OSError:
        return False
    finally:
        s.close()

def status(path, host="127.0.0.1:7981"):
    rq = urllib.request.Request("http://127.0.0.1:7981" + path, headers={"Host": host})
    try:
        return urllib.request.urlopen(rq, timeout=30).status
    except urllib.error.HTTPError as e:
        return e.code

def raw(data):
    s = socket.create_connection(("127.0.0.1", 7981), timeout=30)
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

def udp(address):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.sendto(b"x", address)
        return True
    except OSError:
        return False

print(json.dumps({
    "ports": [p for p in range(1, 65536) if connects(socket.AF_INET, ("127.0.0.1", p))],
    "addresses": [a for a in ["10.0.0.1", "192.168.0.1", "172.17.0.1", "169.254.169.254", "1.1.1.1", "8.8.8.8"]
                  for p in (53, 80, 443, 7981) if connects(socket.AF_INET, (a, p))],
    "six": [a for a in ["2606:4700:4700::1111", "fe80::1"] if connects(socket.AF_INET6, (a, 443))],
    "udp": [a for a in ["1.1.1.1", "8.8.8.8"] if udp((a, 53))],
    "names": [n for n in ["example.com", "example.org", "host.docker.internal"] if resolves(n)],
    "good": status("/pypi/simple/flask/"),
    "other": {p: status(p) for p in ["/metrics", "/healthz", "/readyz", "/admin", "/blobs/sha256/" + "0" * 64, "/", "/..", "/npm/../metrics"]},
    "proxy": raw(b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").split("\r\n")[0],
    "tunnel": raw(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nConnection: close\r\n\r\n").split("\r\n")[0],
}))
"""


def test_reaches_nothing_else(workspace):
    w = workspace("python")
    w.put("probe.py", PROBE)
    got = json.loads(shell(w, "python3 probe.py"))
    assert got["ports"] == [7981] and got["good"] == 200
    assert got["addresses"] == got["six"] == got["udp"] == got["names"] == []
    assert set(got["other"].values()) <= {400, 404}, got["other"]
    for answer in (got["proxy"], got["tunnel"]):
        assert answer.split(" ")[1][0] == "4", got


def test_many_connections(workspace):
    """Those beyond the bound are closed, the others go on, and those that come later are served."""
    w = workspace("python")
    w.put("many.py", r"""
import socket, urllib.request
held = [socket.create_connection(("127.0.0.1", 7981), timeout=30) for _ in range(200)]
kept = 0
for s in held:
    try:
        s.sendall(b"GET /pypi/simple/flask/ HTTP/1.1\r\nHost: 127.0.0.1:7981\r\n\r\n")
        kept += s.recv(12) == b"HTTP/1.1 200"
    except OSError:
        pass
for s in held:
    s.close()
print(kept)
while True:
    try:
        print(urllib.request.urlopen("http://127.0.0.1:7981/pypi/simple/flask/", timeout=30).status)
        break
    except OSError:
        pass
""")
    kept, after = map(int, shell(w, "python3 many.py").split())
    assert 1 <= kept <= 64 and after == 200


def test_single_use_has_none(api):
    """An execution has neither the port nor the variables."""
    r = api.run("python", {"main.py": "import os, socket\ns = socket.socket()\n"
                           "print(s.connect_ex(('127.0.0.1', 7981)), 'PIP_INDEX_URL' in os.environ)\n"})
    assert r["stdout"] == "111 False\n", r


def test_shim_killed(own_devbox):
    """The way stays for what the next shim adopts; what was on it is cut."""
    box = own_devbox.up()
    w = Workspace(box.client())
    w.put("wait.py", r"""
import socket, time, urllib.request
s = socket.create_connection(("127.0.0.1", 7981), timeout=120)
s.sendall(b"GET /pypi/simple/flask/ HTTP/1.1\r\nHost: 127.0.0.1:7981\r\n\r\n")
print(s.recv(12).decode(), flush=True)
while s.recv(65536):
    pass
print("cut", flush=True)
while True:
    try:
        print(urllib.request.urlopen("http://127.0.0.1:7981/pypi/simple/flask/", timeout=30).status)
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
