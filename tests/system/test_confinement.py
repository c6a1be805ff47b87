# SPDX-License-Identifier: Apache-2.0
"""What we ourselves may do: each daemon of ./devbox up looked at as it runs, and made to try what it must not."""

import errno
import os
import pathlib
import platform
import re
import signal
import subprocess
import time

import pytest
import requests

from inject import syscall

CAPS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8, "SYS_CHROOT": 18,
        "SYS_ADMIN": 21, "SETFCAP": 31}
SHIM_CAPS = sum(1 << n for n in CAPS.values())
CONFINED = ("gateway", "scheduler", "registry-cache", "shim-keeper")
OPENAT, SOCKET, EXECVE, KILL, PTRACE, MOUNT, CONNECT, FORK, IO_URING_SETUP, FINIT_MODULE = 257, 41, 59, 62, 101, 165, 42, 57, 425, 313
AT_FDCWD = -100
traced = pytest.mark.skipif(platform.machine() != "x86_64", reason="registers of x86_64")


def status(pid):
    return dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def pid_of(devbox, name):
    return devbox.daemons(name)[0]["pid"]


def until(what, timeout=60):
    deadline = time.monotonic() + timeout
    while not (got := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return got


def test_each_is_what_the_table_says(devbox):
    users = {}
    for d in devbox.status()["daemons"]:
        s = status(d["pid"])
        if d["name"] in CONFINED:
            assert s["CapEff"] == s["CapPrm"] == s["CapBnd"] == s["CapInh"] == s["CapAmb"] == "0" * 16, d
            assert (s["NoNewPrivs"], s["Seccomp"]) == ("1", "2"), d
            assert len(set(s["Uid"].split())) == 1 and s["Uid"].split()[0] != "0", d
            assert "0" not in s["Gid"].split() + s["Groups"].split(), d
            users[d["name"]] = s["Uid"].split()[0]
        elif d["name"] == "shim":
            assert int(s["CapBnd"], 16) & ~SHIM_CAPS == 0 and int(s["CapEff"], 16) & ~SHIM_CAPS == 0, s
            assert int(s["CapAmb"], 16) == int(s["CapInh"], 16) == 0
            assert (s["NoNewPrivs"], s["Seccomp"]) == ("1", "2")
        elif d["name"] == "postgres":
            assert s["Uid"].split()[0] != "0" and int(s["CapEff"], 16) == 0
        if d["name"] in (*CONFINED, "shim"):  # memory: no core file, and root alone looks into it
            limits = pathlib.Path(f"/proc/{d['pid']}/limits").read_text()
            assert re.search(r"Max core file size +0 +0 ", limits)
            assert os.stat(f"/proc/{d['pid']}/mem").st_uid == 0
    assert len(set(users.values())) == len(CONFINED)


def test_what_they_see(devbox):
    """Nobody's view has what is another's; nor other processes."""
    state = str(devbox.state)
    own = {"gateway": {"keys", "output", "blobs"}, "scheduler": {"blobs"}, "registry-cache": {"registry", "keys"}, "shim-keeper": set()}
    for name in CONFINED:
        pid = pid_of(devbox, name)
        root = pathlib.Path(f"/proc/{pid}/root")
        there = root / state[1:]
        assert ({p.name for p in there.iterdir()} if there.exists() else set()) == own[name], name
        assert not [p for p in (root / "home", root / "root/.ssh", root / "var", root / "sys", root / "dev/kmsg") if p.exists()]
        keyring = [k for k in (root / "run").glob("devbox-*/ring-*/cluster.key")]
        assert len(keyring) == (name in ("scheduler", "gateway"))
        assert not (there / "keys/cluster.key").exists() and (there / "keys/admin.key").exists() == (name == "gateway")
        mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        writable = {m.split()[4] for m in mounts if m.split()[5].split(",")[0] == "rw" and " devtmpfs " not in m}
        ours = {"gateway": state + "/blobs", "registry-cache": state + "/registry/store"}.get(name, "/tmp")
        assert all(w == "/tmp" or w.startswith(("/dev/", ours, "/run/devbox-")) for w in writable), (name, writable)


def test_a_probe_in_the_gateways_place(devbox):
    """Any program, as that user, in that view."""
    pid, shim = pid_of(devbox, "gateway"), pid_of(devbox, "shim")
    uid = status(pid)["Uid"].split()[0]
    probe = f"""
import os, pathlib
def attempt(what):
    try:
        what()
        return "done"
    except OSError as e:
        return e.strerror
print(attempt(lambda: open({str(devbox.state / 'registry/upstreams.conf')!r})))
print(attempt(lambda: open({str(devbox.state / 'node/lock')!r})))
print(attempt(lambda: open({str(devbox.state / 'keys/new')!r}, "w")))
print(attempt(lambda: open("/etc/shadow")))
print(attempt(lambda: os.kill({shim}, 0)))
print(attempt(lambda: os.setuid(0)))
print(sorted(int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*") if (p / "status").exists()
             and "Uid:\\t0" in (p / "status").read_text()))
"""
    r = subprocess.run(["nsenter", f"--mount=/proc/{pid}/ns/mnt", "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
                        "--no-new-privs", "--bounding-set=-all", "/usr/bin/python3", "-c", probe], capture_output=True, text=True)
    assert r.stdout.splitlines() == ["No such file or directory"] * 2 + ["Permission denied"] * 2 + ["Operation not permitted", "Operation not permitted", "[]"], r


@traced
def test_what_a_gateway_tries(devbox):
    """By the very process: what is not on the list is refused and logged, what it never does is its end."""
    pid = pid_of(devbox, "gateway")
    assert syscall(pid, OPENAT, AT_FDCWD, str(devbox.state / "registry/upstreams.conf"), os.O_RDONLY, 0) == -errno.ENOENT
    assert syscall(pid, OPENAT, AT_FDCWD, "/etc/shadow", os.O_RDONLY, 0) == -errno.EACCES
    assert syscall(pid, SOCKET, 17, 3, 0) == -errno.ENOSYS  # AF_PACKET
    assert syscall(pid, KILL, 1, 0) == -errno.ENOSYS
    assert syscall(pid, FORK) == -errno.ENOSYS
    until(lambda: requests.get(devbox.daemons("gateway")[0]["url"] + "/readyz", timeout=60).status_code == 200)
    before = devbox.daemons("gateway")[0]
    for number, arguments in ((EXECVE, ("/bin/sh", 0, 0)), (PTRACE, (16, 1, 0, 0)), (MOUNT, ("none", "/tmp", "tmpfs", 0, 0))):
        d = until(lambda: [g for g in devbox.daemons("gateway") if g["url"] == before["url"] and g["ready"]])[0]
        assert syscall(d["pid"], number, *arguments) == "SIGSYS", number
        until(lambda: [g for g in devbox.daemons("gateway") if g["url"] == before["url"] and g["pid"] != d["pid"] and g["ready"]])


@traced
def test_what_a_keeper_tries(own_devbox):
    box = own_devbox.up("--no-images", "--gateways", "1")
    pid = pid_of(box, "shim-keeper")
    assert syscall(pid, OPENAT, AT_FDCWD, "/etc/passwd", os.O_RDONLY, 0) == -errno.ENOSYS
    assert syscall(pid, SOCKET, 1, 1, 0) == -errno.ENOSYS
    assert syscall(pid, IO_URING_SETUP, 8, 0) == -errno.ENOSYS
    assert syscall(pid_of(box, "shim"), FINIT_MODULE, 0, "", 0) == -errno.EPERM
    assert syscall(pid, EXECVE, "/bin/sh", 0, 0) == "SIGSYS"
    until(lambda: box.daemons("shim-keeper") and pid_of(box, "shim-keeper") != pid and box.status()["ready"])
    # A state that root owned, as before there were users, is handed over.
    box.down()
    for folder in ("registry/store", "output"):
        for p in [box.state / folder, *(box.state / folder).rglob("*")]:
            os.chown(p, 0, 0)
    box.up("--no-images", "--gateways", "1")
    assert box.client().run("python", {"main.py": "print('on')"})["stdout"] == "on\n"
    assert status(pid_of(box, "registry-cache"))["Uid"].split()[0] == str((box.state / "registry/store").stat().st_uid)


def sockets_of(pid):
    found = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(fd))
        except OSError:
            pass
    return found


def test_runsc_is_told_no_secret(devbox):
    """Neither its environment, nor its words, nor its descriptors have anything of ours."""
    api = devbox.client()
    run = api.start("python", {"main.py": "import time\nprint('up', flush=True)\ntime.sleep(60)\n"})
    api.stream(run).until_output("up")
    secrets = [(devbox.state / f"keys/{k}.key").read_text().split()[-1].encode() for k in ("cluster", "admin")]
    shim = pid_of(devbox, "shim")
    ours = {s for s in sockets_of(shim) if s.startswith("socket:")}
    seen = 0
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (p / "cmdline").read_bytes()
            if b"runsc" not in words.split(b"\0")[0] or str(devbox.state).encode() not in words:
                continue
            environ, files = (p / "environ").read_bytes(), sockets_of(p.name)
        except OSError:
            continue
        seen += 1
        assert not [s for s in secrets if s in environ or s in words]
        names = {e.split(b"=")[0] for e in environ.split(b"\0") if e}
        assert not [n for n in names if n.startswith(b"DEVBOX") or n in (b"HOME", b"PGPASSFILE")], names
        assert not files & ours
        assert not [f for f in files if "/keys/" in f or "/output/" in f or "postgres" in f or "upstreams" in f], files
        inodes = {m.group(1) for f in files if (m := re.match(r"socket:\[(\d+)\]", f))}
        for table in ("tcp", "tcp6", "udp", "udp6"):
            lines = pathlib.Path(f"/proc/{shim}/net/{table}").read_text().splitlines()[1:]
            assert not inodes & {line.split()[9] for line in lines}
    assert seen >= 2  # a sandbox and its gofer at least
    api.call("DELETE", f"/api/executions/{run['id']}")


SUPERUSER = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
OWNERS = ("select distinct pg_get_userbyid(o) from (select relowner o from pg_class where relnamespace = 'public'::regnamespace "
          "union all select proowner from pg_proc where pronamespace = 'public'::regnamespace) x")


def psql(devbox, sql, *before, user="devbox"):
    args = pathlib.Path(f"/proc/{pid_of(devbox, 'scheduler')}/cmdline").read_text().split("\0")
    conninfo = next(a for a in args if a.startswith("--database=")).split("=", 1)[1]
    assert "user=devbox" in conninfo
    return subprocess.run([*before, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", conninfo.replace("user=devbox", f"user={user}"), "-c", sql],
                          capture_output=True, text=True, cwd="/")


def test_what_the_database_lets_them(own_devbox):
    """The daemons own what is theirs and may nothing beyond; what the superuser made before there was that role becomes theirs."""
    own_devbox.up()
    assert psql(own_devbox, "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls from pg_roles "
                            "where rolname = current_user").stdout == "f\n"
    assert "Peer authentication failed" in psql(own_devbox, "select 1", user="postgres").stderr
    assert psql(own_devbox, "copy (select 1) to program 'true'").returncode != 0
    assert psql(own_devbox, OWNERS).stdout == "devbox\n"
    r = psql(own_devbox, "alter table batches owner to postgres; alter function sandbox_role owner to postgres; "
                         "create table of_before (a bigserial, b int generated always as identity)", *SUPERUSER, user="postgres")
    assert r.returncode == 0, r.stderr
    own_devbox.down()
    (own_devbox.state / "postgres/cluster/devbox-role").unlink()
    own_devbox.up()
    assert psql(own_devbox, OWNERS).stdout == "devbox\n"
    assert own_devbox.client().run("python", {"main.py": "print(1)"})["verdict"] == "OK"
