# SPDX-License-Identifier: Apache-2.0
"""Dependency layers: a lock file is installed once, by the real installer in a sandbox of its own, and is there at
once in every sandbox afterwards."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

import pytest
import requests

from conftest import ROOT, DevBox, free_port
from inject import freeze
from link_peer import Keyring
from test_packages import messages, shell, workspace  # noqa: F401 (a fixture)
from test_workspaces import Workspace

MAIN = "import markupsafe\nprint(markupsafe.__file__)\n"
PLACE = r"/home/dev/\.local/lib/python3\.\d+/site-packages/markupsafe/__init__\.py\n"


def fresh(lock):
    """The same lock file, which nobody has ever installed."""
    return f"# {uuid.uuid4()}\n{lock}"


def counted(box, name, result):
    out = box.client(url=next(d["url"] for d in box.status()["daemons"] if d["name"] == "shim")).call("GET", "/metrics").text
    got = re.search(r'^devbox_shim_%s\{result="%s"\} (\d+)' % (name, result), out, re.M)
    return int(got.group(1)) if got else 0


def layers_counted(box, result):
    return counted(box, "layers_total", result)


def in_phase(got, phase):
    return "".join(m["data"] for m in got if m["type"] == "output" and m.get("phase") == phase)


def test_installed_once(api, workspace):
    """The first run shows the installer; the second is of another workspace, and waits for nothing."""
    lock = fresh("MarkupSafe==3.0.2\n")
    ends = []
    for i in range(2):
        w = workspace("python")
        w.put("requirements.txt", lock)
        w.put("main.py", MAIN)
        run = w.start(["python3", "main.py"])
        end = w.wait(run, timeout=120)
        got = messages(api, run)
        assert end["verdict"] == "OK" and re.fullmatch(PLACE, w.output(run)), (end, w.output(run, "stderr"))
        said, status = in_phase(got, "compile"), got[-1]
        if i == 0:
            assert said.startswith("$ pip install ") and "Successfully installed MarkupSafe-3.0.2\n" in said
            assert status["compile"]["verdict"] == "OK"
        else:
            assert said == "" and status["compile"] is None
        ends.append(w)
    # Writable on top, for this sandbox alone.
    out = shell(ends[0], "pip install -q itsdangerous; echo >>~/.local/lib/python3*/site-packages/markupsafe/__init__.py "
                         "'NEW = 1'; python3 -c 'import itsdangerous, markupsafe; print(markupsafe.NEW)'")
    assert out.endswith("1\n")
    out = shell(ends[1], "python3 -c 'import markupsafe; print(hasattr(markupsafe, \"NEW\"))'; pip list --user; "
                         "ls /.layers 2>&1 || true; touch /.layers/x 2>&1 || true")
    assert out.startswith("False\n") and "MarkupSafe" in out and "itsdangerous" not in out
    assert out.count("Permission denied") + out.count("Read-only") == 2, out
    assert ends[1].tree() == ends[1].tree() and {e["path"] for e in ends[1].tree()} == {"main.py", "requirements.txt"}


PACKAGE = {"name": "x", "version": "1.0.0", "scripts": {"postinstall": "exit 7"}, "dependencies": {"semver": "^7.0.0"}}


@pytest.fixture(scope="module")
def npm_lock(devbox):
    w = Workspace(devbox.client(), template="node")
    w.put("package.json", json.dumps(PACKAGE))
    shell(w, "npm install --package-lock-only --ignore-scripts")
    lock = shell(w, "cat package-lock.json")
    w.api.call("DELETE", w.path)
    return lock


def test_npm(workspace, npm_lock):
    w = workspace("node")
    w.put("package.json", json.dumps(PACKAGE))
    w.put("package-lock.json", npm_lock)
    out = shell(w, "node -p 'require.resolve(\"semver\")'; node_modules/.bin/semver 1.2.3; npm ls")
    assert out.startswith("/workspace/node_modules/semver/index.js\n1.2.3\n") and "UNMET" not in out, out
    out = shell(w, "npm install --ignore-scripts left-pad && node -p 'require(\"left-pad\")(1, 3) + !!require(\"semver\")'")
    assert out.endswith("  1true\n")
    assert "node_modules" not in {e["path"].split("/")[0] for e in w.tree()}


IS_LAYER = 'grep -q " /workspace/node_modules " /proc/mounts && test -f node_modules/semver/index.js'


@pytest.mark.parametrize("change", [
    "npm ci --ignore-scripts",
    "rm -rf node_modules && test ! -e node_modules && npm install --ignore-scripts",
    "mv node_modules kept && test -f kept/semver/index.js && test ! -e node_modules && mv kept node_modules",
    "cp -a node_modules new && rm -rf node_modules && mv new node_modules",
    "node -e 'fs.rmSync(\"node_modules\", {recursive: true})' && npm install --ignore-scripts"])
def test_the_folder_of_a_layer_is_like_any(workspace, npm_lock, change):
    """It can be removed and renamed, though something is mounted there; what the user puts in its place stays."""
    w = workspace("node")
    w.put("package.json", json.dumps(PACKAGE))
    w.put("package-lock.json", npm_lock)
    out = shell(w, f"{IS_LAYER}; {change}; node -p '!!require(\"semver\")'")
    assert out.endswith("true\n")
    assert shell(w, "echo 1 >node_modules/mine; node -p '!!require(\"semver\")'; cat node_modules/mine") == "true\n1\n"
    assert shell(w, "rm -rf node_modules; mkdir node_modules; ls -A node_modules") == ""
    assert shell(w, "ls -A node_modules; rmdir node_modules; ls") == "package-lock.json\npackage.json\n"


def test_a_failure_is_the_users(api, workspace):
    """It shows with its log, and the program runs all the same: it may be what mends it."""
    w = workspace("python")
    w.put("requirements.txt", fresh("devbox-has-no-such-package==1.0\n"))
    run = w.start(["sed", "-i", "s/.*/markupsafe/", "requirements.txt"])
    assert w.wait(run, timeout=120)["verdict"] == "OK"
    got = messages(api, run)
    assert "No matching distribution found for devbox-has-no-such-package==1.0" in in_phase(got, "compile")
    assert (got[-1]["verdict"], got[-1]["compile"]["verdict"], got[-1]["compile"]["exit_code"]) == ("OK", "EXIT_CODE", 1)


def test_scripts_run_in_a_sandbox_of_their_own(workspace):
    """What an installation runs sees nothing of the workspace but lock file and manifest."""
    w = workspace("python")
    w.put("secret.txt", "mine")
    w.put("requirements.txt", fresh("MarkupSafe==3.0.2\n"))
    w.put("pip.conf", "[global]\nno-index = true\n")
    out = shell(w, "python3 -c 'import markupsafe; print(markupsafe.__version__)'; cat secret.txt")
    assert out.endswith("3.0.2\nmine")


@pytest.mark.parametrize("lock", ["-r other.txt\n", "-e .\n", "./local\n", "markupsafe @ file:///x\n", "\x00", "--index-url http://x/\nmarkupsafe\n"])
def test_what_reaches_further_makes_no_layer(api, workspace, lock):
    w = workspace("python")
    w.put("requirements.txt", lock)
    run = w.start(["true"])
    assert w.wait(run)["verdict"] == "OK"
    assert messages(api, run)[-1]["compile"] is None


def test_own_installation_is_left_alone(workspace):
    w = workspace("python")
    shell(w, "pip install -q itsdangerous")
    w.put("requirements.txt", fresh("MarkupSafe==3.0.2\n"))
    out = shell(w, "pip list --user")
    assert "itsdangerous" in out and "MarkupSafe" not in out


def test_a_terminal_does_not_wait(workspace):
    w = workspace("python")
    w.put("requirements.txt", fresh("MarkupSafe==3.0.2\n"))
    run = w.start(["echo", "here"], pty={"cols": 80, "rows": 24})
    assert w.wait(run)["verdict"] == "OK" and w.output(run, "pty") == "here\r\n"
    out = shell(w, "python3 -c 'import markupsafe; print(1)'")  # waits for what the terminal began
    assert out.endswith("1\n")


OTHERS = {
    "npm-shrinkwrap.json": ("node", {"package.json": json.dumps(PACKAGE)}, "npm install --ignore-scripts --package-lock-only && npm shrinkwrap", "package.json",
                            "node -p 'require.resolve(\"semver\").slice(0, 24)'", "/workspace/node_modules/\n"),
    "pnpm-lock.yaml": ("node", {"package.json": json.dumps({**PACKAGE, "scripts": {}})}, "npx --yes pnpm@9 install --lockfile-only", "package.json",
                       "node -p 'require.resolve(\"semver\").slice(0, 24)'; node_modules/.bin/semver 1.2.3", "/workspace/node_modules/\n1.2.3\n"),
    "uv.lock": ("python", {"pyproject.toml": '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["jinja2"]\n'},
                "pip install --quiet --target /tmp/uv uv && UV_INDEX_URL=$PIP_INDEX_URL /tmp/uv/bin/uv lock --quiet", "pyproject.toml",
                "python3 -c 'import jinja2, markupsafe; print(jinja2.__name__)'", "jinja2\n"),
}


@pytest.mark.parametrize("lock", OTHERS)
def test_other_lock_files(api, workspace, lock):
    """Made by their own tool, installed without it."""
    template, files, make, manifest, run_line, want = OTHERS[lock]
    first = workspace(template)
    for path, content in files.items():
        first.put(path, content)
    shell(first, make)
    texts = {path: shell(first, f"cat {path}") for path in (manifest, lock)}
    for said in (True, False):
        w = workspace(template)
        for path, content in texts.items():
            w.put(path, content)
        run = w.start(["bash", "-euc", run_line])
        end = w.wait(run, timeout=180)
        compiled = messages(api, run)[-1]["compile"]
        assert end["verdict"] == "OK" and w.output(run) == want, (end, in_phase(messages(api, run), "compile"), w.output(run, "stderr"))
        # Reading the lock file back has made the first one's.
        assert compiled is None or (said and compiled["verdict"] == "OK"), compiled


def test_prewarm(devbox, api, tmp_path):
    """A list becomes layers, in each language; broken off it goes on where it was; and anybody with such a lock file has it at once."""
    name = f"x{uuid.uuid4().hex}"
    entries = [
        {"name": "one", "template": "python", "files": {"requirements.txt": fresh("MarkupSafe==3.0.2\n")}},
        {"name": "two", "template": "node", "files": {"package.json": json.dumps({"name": name, "dependencies": {"semver": "*"}})},
         "prepare": "npm install --package-lock-only --ignore-scripts"},
        {"name": "three", "template": "go", "files": {"go.mod": f"module {name}\n\ngo 1.24\n"}, "prepare": "go get github.com/google/uuid"},
        {"name": "four", "template": "rust", "prepare": "cargo add cfg-if && cargo fetch", "files": {
            "Cargo.toml": f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n', "src/main.rs": "fn main() {}\n"}}]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    command = [str(ROOT / "devbox"), "bundles", "prewarm", str(tmp_path / "list.json"), "--state", str(devbox.state)]

    def made():
        return layers_counted(devbox, "built") + layers_counted(devbox, "pulled")

    def workspaces():
        return {w["id"] for w in api.call("GET", "/api/workspaces?limit=100").json()["items"] if w["name"] == "prewarm"}

    before, others = made(), workspaces()
    with subprocess.Popen(command, env=devbox.env, stdout=subprocess.PIPE, text=True, start_new_session=True, bufsize=0,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as first:  # ours may be ignored
        said = ""
        while "[2/4]" not in said:
            more = os.read(first.stdout.fileno(), 4096).decode()
            assert more, said
            said += more
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait(60) != 0
    assert re.search(r"^\[1/4\] one \.\.\. \d+ s$", said, re.M) and made() == before + 1, said
    for _ in range(2):
        r = subprocess.run(command, env=devbox.env, capture_output=True, text=True, timeout=600)
        assert r.returncode == 0 and re.fullmatch(r"(\[\d/4\] \w+ \.\.\. \d+ s\n){4}", r.stdout), (r.stdout, r.stderr)
        assert made() == before + 4
    assert len(workspaces() - others) <= 1  # that which the first had asked for, and not heard of, when it was broken off
    kept = [json.loads(p.read_text()) for p in (devbox.state / "prewarm").iterdir()]
    for entry in (e for e in kept if name in json.dumps(e)):
        w = Workspace(api, template=entry["template"])
        for path, content in entry["files"].items():
            w.put(path, content)
        run = w.start(["true"])
        assert w.wait(run)["verdict"] == "OK" and messages(api, run)[-1]["compile"] is None
        w.api.call("DELETE", w.path)
    assert made() == before + 4

    (tmp_path / "list.json").write_text(json.dumps([{"name": "bad", "template": "node", "files": {"package.json": "{"}, "prepare": "npm install"}]))
    r = subprocess.run(command, env=devbox.env, capture_output=True, text=True, timeout=600)
    assert r.returncode == 1 and r.stdout == "[1/1] bad ... failed\n" and "1 of 1 failed" in r.stderr, (r.stdout, r.stderr)


def test_many_wait_for_one(own_devbox):
    """Six workspaces with one new lock file: it is installed once. Then the shim dies and the layers stay; then it
    dies amid an installation, and whoever waited goes on without."""
    box = own_devbox.up()
    api = box.client()
    lock = fresh("MarkupSafe==3.0.2\n")
    made = []
    for _ in range(6):
        made.append(Workspace(api))
        made[-1].put("requirements.txt", lock)
        made[-1].put("main.py", MAIN)
    runs = [w.start(["python3", "main.py"]) for w in made]
    for w, run in zip(made, runs):
        assert w.wait(run, timeout=180)["verdict"] == "OK" and re.fullmatch(PLACE, w.output(run))
    assert layers_counted(box, "built") == 1
    for w in made:
        api.call("DELETE", w.path)

    os.kill(box.daemons("shim")[0]["pid"], signal.SIGKILL)
    w = Workspace(api)
    w.put("requirements.txt", lock)
    w.put("main.py", MAIN)
    run = w.start(["python3", "main.py"])
    assert w.wait(run, timeout=120)["verdict"] == "OK" and re.fullmatch(PLACE, w.output(run))
    assert layers_counted(box, "built") == 0 and layers_counted(box, "hit") == 1

    w = Workspace(api)
    w.put("requirements.txt", fresh("numpy\n"))
    run = w.start(["echo", "went on"])
    tmp = box.state / "layers" / "tmp"
    s = api.stream(run)
    while "$ pip" not in s.text(phase="compile"):
        s.next()
    s.close()
    os.kill(box.daemons("shim")[0]["pid"], signal.SIGKILL)
    end = w.wait(run, timeout=120)
    assert end["verdict"] == "OK" and w.output(run) == "went on\n", end
    assert list(tmp.iterdir()) == []
    out = shell(w, "python3 -c 'import numpy; print(numpy.ones(3).sum())'")
    assert out.endswith("3.0\n")


def another_owner(box):
    """A client of somebody who has just registered."""
    who = requests.Session()
    r = who.post(box.url + "/api/auth/register", json={"email": f"{uuid.uuid4().hex}@example.org", "password": "correct horse battery"}, timeout=60)
    r = who.post(box.url + "/api/keys", json={}, headers={"X-CSRF-Token": r.json()["csrf_token"]}, timeout=60)
    return box.client(key=r.json()["key"])


def test_an_owner_has_a_quota(own_devbox):
    """Who has had enough made is told so, and runs on without; others are not touched."""
    own_devbox.env["DEVBOX_SHIM_LAYERS_HOURLY"] = "1"
    box = own_devbox.up()
    lock = fresh("MarkupSafe==3.0.2\n")
    assert "Successfully installed" in run_main(box, lock)
    w = Workspace(box.client())
    w.put("requirements.txt", fresh("MarkupSafe==3.0.2\n"))
    run = w.start(["echo", "went on"])
    assert w.wait(run, timeout=120)["verdict"] == "OK" and w.output(run) == "went on\n"
    said = in_phase(messages(w.api, run), "compile")
    assert re.fullmatch(r"requirements\.txt: dependencies are not installed: 1 layers were made for you within the hour, "
                        r"which is your limit; go on in \d+ min\n", said), said
    assert run_main(box, lock) == ""  # what is there is not counted
    assert "Successfully installed" in run_main(box, fresh("MarkupSafe==3.0.2\n"), another_owner(box))
    assert (layers_counted(box, "refused"), layers_counted(box, "built")) == (1, 2)


def shared(box, result):
    return counted(box, "layers_shared_total", result)


def until(fn):
    deadline = time.monotonic() + 60
    while not fn():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture()
def two(own_devbox):
    """Two nodes with keys in common; the second takes layers from the first one's cache."""
    first, state = own_devbox, tempfile.mkdtemp(prefix="devbox-second-")
    second = DevBox(state, free_port())
    try:
        first.up()
        (second.state / "keys").mkdir(mode=0o700)
        shutil.copy2(first.state / "keys/cluster.key", second.state / "keys/cluster.key")
        second.env |= {"DEVBOX_SHIM_LAYERS_URL": next(d["url"] for d in first.status()["daemons"] if d["name"] == "registry-cache"),
                       "DEVBOX_SHIM_LAYERS_KEYS": str(first.state / "keys/layers.key")}
        yield first, second.up()
    finally:
        second.down()
        shutil.rmtree(state, ignore_errors=True)


def run_main(box, lock, api=None):
    """What the installer says before MAIN runs in a new workspace."""
    w = Workspace(api or box.client())
    w.put("requirements.txt", lock)
    w.put("main.py", MAIN)
    run = w.start(["python3", "main.py"])
    end = w.wait(run, timeout=180)
    said = in_phase(messages(w.api, run), "compile")
    out = w.output(run)
    w.api.call("DELETE", w.path)
    assert end["verdict"] == "OK" and re.fullmatch(PLACE, out), (end, out)
    return said


def test_nodes_share_layers(two):
    """What one node made another takes; and nothing that the cluster's keys have not sealed, or that is not what was sealed."""
    first, second = two
    maker = Keyring.of(first.state / "keys/layers.key")  # what the cache itself holds
    cache = first.client(url=second.env["DEVBOX_SHIM_LAYERS_URL"], key=maker.token("node:thief"))

    def made_by_first():
        """A lock that the first node has made and put, and where its map stands."""
        lock, had = fresh("MarkupSafe==3.0.2\n"), shared(first, "pushed")
        before = set(os.listdir(first.state / "layers/index"))
        assert "$ pip" in run_main(first, lock)
        until(lambda: shared(first, "pushed") == had + 1)
        return lock, "/layers/" + (set(os.listdir(first.state / "layers/index")) - before).pop()

    lock, at = made_by_first()
    assert run_main(second, lock) == ""
    assert (layers_counted(second, "pulled"), layers_counted(second, "built"), shared(second, "pulled")) == (1, 0, 1)
    good = cache.call("GET", at).json()
    assert run_main(second, lock) == "" and layers_counted(second, "hit") == 1

    # Whoever has the cache's own key, but not the cluster's: another layer's map under this key.
    lock, at = made_by_first()
    assert cache.call("PUT", at, json=good).status_code == 201
    assert "$ pip" in run_main(second, lock)
    # Its own words with another digest; parts that are not what they are called cannot be put.
    lock, at = made_by_first()
    assert cache.call("PUT", at, json={**cache.call("GET", at).json(), "sha256": "0" * 64}).status_code == 201
    assert "$ pip" in run_main(second, lock)
    # Its seal, and a part in the place of another.
    lock, at = made_by_first()
    blob = os.urandom(cache.call("GET", at).json()["size"])
    digest = hashlib.sha256(blob).hexdigest()
    assert cache.call("PUT", "/blobs/sha256/" + digest, data=blob).status_code == 201
    assert cache.call("PUT", at, json={**cache.call("GET", at).json(), "parts": [digest]}).status_code == 201
    assert "$ pip" in run_main(second, lock)
    assert (layers_counted(second, "pulled"), layers_counted(second, "built"), shared(second, "failed")) == (1, 3, 2)
    # The cache is away: so it is made here.
    freeze(first.daemons("registry-cache")[0]["pid"])
    try:
        assert "$ pip" in run_main(second, fresh("MarkupSafe==3.0.2\n"))
    finally:
        os.kill(first.daemons("registry-cache")[0]["pid"], signal.SIGCONT)
