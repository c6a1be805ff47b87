# SPDX-License-Identifier: Apache-2.0
"""./devbox as the contract says: up, run, env, status, down; what dies is started again; nothing is left behind."""

import os
import pathlib
import signal
import time

import requests


def wait_for(what, timeout=60):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        got = what()
        if got:
            return got
        time.sleep(0.05)
    raise AssertionError("did not happen in time")


def test_status(devbox):
    status = devbox.status()
    assert status["ready"] is True and status["version"]
    names = [d["name"] for d in status["daemons"]]
    assert sorted(names) == ["gateway", "gateway", "postgres", "registry-cache", "scheduler", "shim", "shim-keeper"]
    for d in status["daemons"]:
        os.kill(d["pid"], 0)
        assert d["started_at"] and d["restarts"] >= 0
        if d["url"]:
            for page in ("/healthz", "/readyz", "/metrics"):
                assert requests.get(d["url"] + page, timeout=60).status_code == 200, (d, page)
    gateways = devbox.daemons("gateway")
    assert {g["url"] for g in gateways} == {devbox.url, devbox.url.replace(str(devbox.port), str(devbox.port + 1))}
    assert (devbox.state / "keys" / "admin.key").stat().st_mode & 0o777 == 0o600


def test_up_again_is_quick_and_says_the_same(devbox):
    r = devbox.command("up", "--port", str(devbox.port))
    assert r.returncode == 0 and r.stdout.strip().splitlines()[-1] == devbox.url


def test_no_descriptor_of_the_command_is_held(own_devbox):
    """A pipe given to the command sees its end although the daemons live on."""
    r, w = os.pipe()
    own_devbox.command("up", "--port", str(own_devbox.port), pass_fds=(w,), timeout=3000)
    os.close(w)
    os.set_blocking(r, False)
    assert os.read(r, 1) == b""
    os.close(r)


def test_every_gateway_serves_everything(devbox):
    for g in devbox.daemons("gateway"):
        api = devbox.client(url=g["url"])
        assert api.run("python", {"main.py": "print('here')"})["stdout"] == "here\n"


def test_run(devbox, tmp_path):
    hello = tmp_path / "hello.py"
    hello.write_text("import sys\nprint('hello', *sys.argv[1:])\nprint('oops', file=sys.stderr)\nprint(sys.stdin.read())\nsys.exit(5)\n")
    r = devbox.command("run", str(hello), "--", "a", "b c", input="some input")
    assert (r.returncode, r.stdout, r.stderr) == (5, "hello a b c\nsome input\n", "oops\n"), r
    for name, text in (("h.js", "console.log('js')"), ("h.go", "package main\nfunc main() { print(\"go\\n\") }"),
                       ("h.rs", "fn main() { println!(\"rs\"); }")):
        f = tmp_path / name
        f.write_text(text)
        r = devbox.command("run", str(f))
        assert r.returncode == 0 and (r.stdout + r.stderr).strip() == name[2:], r
    folder = tmp_path / "project"
    (folder / "lib").mkdir(parents=True)
    (folder / "main.py").write_text("from lib import x\nprint(x.y)\n")
    (folder / "lib" / "x.py").write_text("y = 42\n")
    r = devbox.command("run", str(folder))
    assert (r.returncode, r.stdout) == (0, "42\n"), r


def test_run_exit_codes(devbox, tmp_path):
    f = tmp_path / "x.py"
    f.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    assert devbox.command("run", str(f)).returncode == 128 + signal.SIGTERM
    f.write_text("while True: print('x' * 100000)\n")
    r = devbox.command("run", str(f))
    assert r.returncode == 124 and "output" in r.stderr.lower()
    assert devbox.command("run", str(tmp_path / "missing.py")).returncode == 125
    (tmp_path / "strange.xyz").write_text("?")
    r = devbox.command("run", str(tmp_path / "strange.xyz"))
    assert r.returncode == 125 and "xyz" in r.stderr


def test_what_dies_is_started_again(own_devbox):
    box = own_devbox.up()
    api = box.client()
    for name in ("gateway", "scheduler", "shim", "shim-keeper", "registry-cache", "postgres"):
        before = box.daemons(name)[0]
        os.kill(before["pid"], signal.SIGKILL)
        wait_for(lambda: [d for d in box.daemons(name) if d["restarts"] == before["restarts"] + 1])
        wait_for(lambda: box.status()["ready"])
        # A gateway may not have noticed yet that its scheduler is another one: 503, try again.
        r = wait_for(lambda: (r := api.submit("python", {"main.py": "print('after')"}, wait=True)).status_code != 503 and r).json()
        assert (r["verdict"], r["stdout"]) == ("OK", "after\n"), (name, r)


def processes_with(word):
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if word in (p / "cmdline").read_text():
                found.append((p.name, (p / "cmdline").read_text()))
        except OSError:
            pass
    return found


def test_nothing_is_left_after_down(own_devbox):
    st = own_devbox.state.stat()
    name = f"devbox-{st.st_dev:x}-{st.st_ino:x}"  # others may run on this machine

    def cgroups():
        return {where for where, _, _ in os.walk("/sys/fs/cgroup") if name in where}  # (glob would raise when one goes meanwhile)

    def mounts():
        text = pathlib.Path("/proc/self/mountinfo").read_text()
        return [line for line in text.splitlines() if str(own_devbox.state) in line or name in line]

    box = own_devbox.up()
    assert cgroups()
    api = box.client()
    a = api.start("python", {"main.py": "import time\nprint('up', flush=True)\ntime.sleep(1000)\n"})
    api.stream(a).until_output("up")
    box.down()
    assert not processes_with(str(box.state))
    assert cgroups() == set() and mounts() == []
    assert not pathlib.Path("/run", name).exists()
    assert box.status() == {"version": None, "ready": False, "daemons": []}
    assert not list((box.state / "node" / "sandboxes").glob("*"))
    # The same state goes on: what ran is told as lost, keys and results are kept.
    box.up()
    assert box.client().wait_end(a["id"])["verdict"] in ("NODE_LOST", "CANCELLED", "INTERNAL")
