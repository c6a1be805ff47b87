# SPDX-License-Identifier: Apache-2.0
"""Images, plans and OCI bundles with the real runsc, below the daemons: bundle-probe shows what bundles-core does, and
tiny-init stands in for the real init. Builds what is missing in the cache first."""

import base64
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import uuid

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "bundles" / "templates"
MIB = 1 << 20


def cache_dir():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("DEVBOX_CACHE") or home + "/devbox")


def program(name):
    builds = [os.environ["DEVBOX_BUILD"]] if os.environ.get("DEVBOX_BUILD") else []
    for build in [*builds, ROOT / "build" / "release", ROOT / "build" / "asan"]:
        path = pathlib.Path(build) / "bin" / name
        if path.exists():
            return path
    pytest.fail(f"{name} is not built; DEVBOX_BUILD may name the build folder")


@pytest.fixture(scope="module")
def runsc():
    r = subprocess.run([ROOT / "bundles" / "get-runsc", "--cache", cache_dir()], stdout=subprocess.PIPE, text=True,
                       timeout=1200)
    assert r.returncode == 0
    return r.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def images():
    r = subprocess.run([ROOT / "bundles" / "build-images", "--cache", cache_dir()], stdout=subprocess.PIPE, text=True,
                       timeout=2400)
    assert r.returncode == 0
    return dict(line.split() for line in r.stdout.splitlines())


class Sandboxes:
    def __init__(self, runsc, tmp):
        self.runsc, self.tmp = runsc, tmp
        self.init = tmp / "init"
        self.init.mkdir()
        shutil.copy(program("tiny-init"), self.init / "init")

    def run(self, template, *argv, timeout=60, **options):
        """Runs argv as tiny-init does (its user, /workspace) in a new sandbox; None as an option leaves it out."""
        sb = "t" + uuid.uuid4().hex[:12]
        work = self.tmp / sb
        for d in ("overlay", "root"):
            (work / d).mkdir(parents=True)
        keys = {"cache": cache_dir(), "templates": TEMPLATES, "template": template, "work": work, "runsc": self.runsc,
                "init": self.init, "id": sb, **options}
        r = subprocess.run([program("bundle-probe"), "bundle", *(f"{k}={v}" for k, v in keys.items()), "--",
                            *argv], stdout=subprocess.PIPE, timeout=30)
        assert r.returncode == 0
        args = r.stdout.decode().split("\0")[:-1]
        try:
            r = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               timeout=timeout)
            out = r.stdout.decode(errors="replace")
            if r.returncode == 128:
                out += (work / "log").read_text()
            # The file of the writable layer is unlinked from the start.
            assert list((work / "overlay").iterdir()) == []
            return r.returncode, out
        finally:
            subprocess.run([*args[:args.index("run")], "delete", "--force", sb], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
            subprocess.run([program("bundle-probe"), "release", work / "root"], check=True, timeout=30)
            shutil.rmtree(work)

    def sh(self, template, line, **options):
        return self.run(template, "bash", "-c", line, **options)


@pytest.fixture(scope="module")
def sandboxes(runsc, images, tmp_path_factory):
    return Sandboxes(runsc, tmp_path_factory.mktemp("bundles"))


def test_identity_and_privileges(sandboxes):
    rc, out = sandboxes.sh("python", "id; hostname; pwd; grep -E '^(Cap|NoNewPrivs)' /proc/self/status; "
                           "grep CapEff /proc/1/status; ls /.devbox; stat -c '%U %a' /workspace /tmp")
    assert rc == 0, out
    assert "uid=1000(dev) gid=1000(dev) groups=1000(dev)\ndevbox\n/workspace\n" in out
    fields = re.findall(r"(\w+):\t(\w+)", out)
    own = dict(fields[:-1])
    for cap_set in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(own[cap_set], 16) == 0
    assert own["NoNewPrivs"] == "1"
    # CHOWN 0, DAC_OVERRIDE 1 (which init gives up: test_shim.py), KILL 5, SETGID 6, SETUID 7, SYS_CHROOT 18, SYS_ADMIN 21, no other
    assert int(fields[-1][1], 16) == 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 18 | 1 << 21
    assert out.endswith("init\ndev 755\nroot 1777\n")


def test_fewer_capabilities(sandboxes):
    rc, out = sandboxes.run("python", "--root", "grep", "CapBnd", "/proc/self/status", caps=4)
    assert (rc, int(out.split()[-1], 16)) == (0, 1 << 6)


def test_files_of_the_system_are_out_of_reach(sandboxes):
    rc, out = sandboxes.sh("python", "for f in /etc/passwd /usr/bin/python3 /.devbox/init /dev/x /x /usr/x; do "
                           "echo x 2>/dev/null >$f && echo WROTE $f; done; rm -rf /usr/bin 2>/dev/null; "
                           "test -x /usr/bin/python3; cat /etc/shadow || echo denied")
    assert rc == 0 and "WROTE" not in out and "denied" in out, out


def test_init_folder_is_read_only_for_root_too(sandboxes):
    before = os.stat(sandboxes.init / "init").st_mtime_ns
    rc, out = sandboxes.run("python", "--root", "sh", "-c", "echo x >/.devbox/init; echo x >/.devbox/y")
    assert "Read-only file system" in out
    assert os.listdir(sandboxes.init) == ["init"]
    assert os.stat(sandboxes.init / "init").st_mtime_ns == before


def test_no_network(sandboxes):
    code = """
import socket
def attempt(family, address):
    s = socket.socket(family); s.settimeout(5)
    try: s.connect(address); return 'CONNECTED'
    except OSError as e: return type(e).__name__ + str(e.errno)
print(attempt(socket.AF_INET, ('192.0.2.1', 80)), attempt(socket.AF_INET6, ('2001:db8::1', 80)))
try: print(socket.getaddrinfo('example.com', 80))
except socket.gaierror as e: print('no name')
l = socket.create_server(('127.0.0.1', 0)); socket.create_connection(l.getsockname()); print('loopback')
print(sorted(n for _, n in socket.if_nameindex()))
"""
    rc, out = sandboxes.run("python", "python3", "-c", code)
    assert rc == 0, out
    assert "CONNECTED" not in out
    assert out.splitlines()[1:] == ["no name", "loopback", "['lo']"]


def test_disk_is_bounded_in_all_places_together(sandboxes):
    rc, out = sandboxes.sh("python", "df -B1 --output=size / | tail -1; dd if=/dev/zero of=/tmp/a bs=1M count=20; "
                           "dd if=/dev/zero of=/workspace/b bs=1M count=20; dd if=/dev/zero of=/home/dev/c bs=1M count=20; "
                           "rm /tmp/a; dd if=/dev/zero of=/tmp/d bs=1M count=10 && echo ok again; "
                           "dd if=/dev/zero of=/dev/shm/e bs=1M count=20", disk=32 * MIB, shm=8 * MIB)
    assert out.split()[0] == str(32 * MIB), out
    assert out.count("No space left on device") == 3, out
    assert "ok again" in out
    assert out.count("20971520 bytes") == 1


def test_disk_is_not_memory(sandboxes):
    """Twice as much written as the sandbox has memory: it lives, and reads it back."""
    name = "/devbox-test-" + uuid.uuid4().hex[:8]
    rc, out = sandboxes.sh("python", "dd if=/dev/zero of=/tmp/a bs=1M count=256 && sha1sum /tmp/a | cut -c1-8",
                           disk=300 * MIB, memory=128 * MIB, cgroup=name, timeout=120)
    assert rc == 0, out
    assert "268435456 bytes" in out
    assert out.splitlines()[-1] == hashlib.sha1(bytes(256 * MIB)).hexdigest()[:8]


def test_memory_limit_ends_what_takes_too_much(sandboxes):
    name = "/devbox-test-" + uuid.uuid4().hex[:8]
    rc, out = sandboxes.run("python", "python3", "-c", "b = bytearray(300 << 20); print('SURVIVED')",
                            memory=128 * MIB, cgroup=name, timeout=120)
    assert rc != 0 and "SURVIVED" not in out


def test_sandboxes_begin_fresh(sandboxes, images):
    before = subprocess.check_output(["sha256sum", images["python"]])
    rc, out = sandboxes.sh("python", "touch /workspace/left /tmp/left /home/dev/left; ls -A /workspace /tmp")
    assert rc == 0 and out.count("left") == 2
    rc, out = sandboxes.sh("python", "ls -A /workspace; find / -xdev -name left 2>/dev/null; true")
    assert (rc, out) == (0, "")
    assert subprocess.check_output(["sha256sum", images["python"]]) == before


def test_layer_store_is_entered_but_not_listed(sandboxes, tmp_path):
    os.chmod(tmp_path, 0o711)
    (tmp_path / "k3y").mkdir(mode=0o755)
    (tmp_path / "k3y" / "mod.py").write_text("print('from a layer')")
    for p in tmp_path.parents:
        if p.stat().st_uid == os.getuid() and p != pathlib.Path("/"):
            p.chmod(p.stat().st_mode | 0o111)
    rc, out = sandboxes.sh("python", "ln -s /.layers/k3y deps && python3 deps/mod.py; ls /.layers; "
                           "touch /.layers/k3y/x /.layers/x; echo end", layers=tmp_path)
    lines = out.splitlines()
    assert lines[0] == "from a layer", out
    assert "cannot open directory '/.layers'" in out
    assert os.listdir(tmp_path / "k3y") == ["mod.py"] and os.listdir(tmp_path) == ["k3y"]


PROGRAMS = {
    "python": {"main.py": "import sys, zlib, ssl, sqlite3; print('hello', 6 * 7); sys.exit(3)"},
    "node": {"package.json": '{"main": "lib/start.js"}', "lib/start.js": "console.log('hello', 6 * 7); process.exit(3)"},
    "go": {"x.go": 'package main\nimport ("fmt"; "os"; "net/http")\nvar _ = http.MethodGet\n'
                   'func main() { fmt.Println("hello", 6*7); os.Exit(3) }\n'},
    "rust": {"main.rs": 'fn main() { println!("hello {}", 6 * 7); std::process::exit(3) }'},
    "rust cargo": {"Cargo.toml": '[package]\nname = "some-thing"\nversion = "0.1.0"\nedition = "2021"\n',
                   "src/main.rs": 'fn main() { println!("hello {}", 6 * 7); std::process::exit(3) }'},
}


def planned(template, files, folder, *command):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    r = subprocess.run([program("bundle-probe"), "plan", TEMPLATES, template, folder, *command],
                       stdout=subprocess.PIPE, text=True, timeout=30)
    assert r.returncode == 0
    return json.loads(r.stdout)


@pytest.mark.parametrize("case", PROGRAMS)
def test_template_compiles_and_runs(sandboxes, case, tmp_path):
    template = case.split()[0]
    plan = planned(template, PROGRAMS[case], tmp_path)
    script = ""
    for path, text in {**PROGRAMS[case], **plan["extra"]}.items():
        data = base64.b64encode(text.encode()).decode()
        script += f"mkdir -p $(dirname {path}) && echo {data} | base64 -d >{path} || exit 90\n"
    env = "env -i " + " ".join(map(shlex.quote, plan["env"])) + " "
    if plan["compile"]:
        script += f"{env} {shlex.join(plan['compile'])} || exit 91\ntest -x main || exit 92\n"
    script += f"{env} {shlex.join(plan['run'])}"
    rc, out = sandboxes.sh(template, script, timeout=120)
    assert (rc, out) == (3, "hello 42\n")


def test_go_takes_the_standard_library_from_the_image(sandboxes, tmp_path):
    plan = planned("go", PROGRAMS["go"], tmp_path)
    text = base64.b64encode(PROGRAMS["go"]["x.go"].encode()).decode()
    env = "export " + " ".join(map(shlex.quote, plan["env"]))
    rc, out = sandboxes.sh("go", f"{env}; echo {text} | base64 -d >x.go; printf 'module app\\n' >go.mod; "
                           "go build -v -o main . 2>&1; echo --; df -k --output=used / | tail -1", timeout=120)
    assert rc == 0, out
    compiled, used = out.split("--\n")
    assert compiled == "app\n"  # -v names every package that had to be compiled
    assert int(used) < 32 << 10, "cache entries were copied up"


def test_what_people_expect_in_a_terminal(sandboxes, images):
    tools = "bash ls ps top less vi nano curl git tar gzip xz unzip diff find grep sed awk kill"
    for template in images:
        rc, out = sandboxes.sh(template, f"export HOME=/home/dev LANG=C.UTF-8; for t in {tools}; do command -v $t >/dev/null || echo missing $t; done; "
                               "git init -q . && git config user.email a@b && git config user.name a && echo 1 >x && "
                               "git add x && git commit -qm x && git log --oneline | wc -l; date +%Z; locale charmap")
        assert (rc, out) == (0, "1\nUTC\nUTF-8\n"), template


def test_get_runsc_words():
    env = {**os.environ, "DEVBOX_RUNSC": "/bin/false"}
    r = subprocess.run([ROOT / "bundles" / "get-runsc", "--cache", cache_dir()], env=env, capture_output=True, text=True)
    assert r.returncode != 0 and "DEVBOX_RUNSC" in r.stderr and r.stdout == ""


def test_operators_own_runsc_wins(runsc, tmp_path):
    env = {**os.environ, "DEVBOX_RUNSC": runsc}
    r = subprocess.run([ROOT / "bundles" / "get-runsc", "--cache", tmp_path], env=env, capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout.splitlines()[-1] == os.path.realpath(runsc)
    assert os.listdir(tmp_path) == []


def test_verify_finds_a_changed_image(images, tmp_path):
    (tmp_path / "images").mkdir()
    manifest = json.loads((cache_dir() / "images" / "python.json").read_text())
    (tmp_path / "images" / "python.json").write_text(json.dumps(manifest))
    (tmp_path / "images" / (manifest["digest"] + ".erofs")).write_bytes(b"not it")
    r = subprocess.run([ROOT / "bundles" / "build-images", "--cache", tmp_path, "--verify"], capture_output=True, text=True)
    assert r.returncode == 1 and "python: BROKEN" in r.stderr


def parts_of_builds(tmp_path):
    """What the cache has downloaded and unpacked, in a cache that has no image."""
    for d in ("debs", "build"):
        (tmp_path / d).mkdir()
    for deb in (cache_dir() / "debs").iterdir():
        shutil.copy(deb, tmp_path / "debs")
    for base in (cache_dir() / "build").glob("base-*"):
        subprocess.check_call(["cp", "-a", base, tmp_path / "build"])


def test_a_template_with_packages_of_its_own(sandboxes, tmp_path):
    """A language, and beside it what Debian has."""
    parts_of_builds(tmp_path)
    template = {"name": "lua", "title": "Lua", "order": 9, "warm": 0, "packages": ["lua5.4", "tree"],
                "entries": [{"file": "main.lua", "run": ["lua5.4", "main.lua"]}]}
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "lua.json").write_text(json.dumps(template))
    r = subprocess.run([ROOT / "bundles" / "build-images", "--cache", tmp_path, "--templates", tmp_path / "templates"], capture_output=True,
                       text=True, timeout=900)
    assert r.returncode == 0, r.stderr
    rc, out = sandboxes.sh("lua", "touch a; tree --noreport; lua5.4 -e 'print(1 + 1)'", cache=tmp_path, templates=tmp_path / "templates")
    assert rc == 0 and out.split("\n")[0] == "." and out.endswith("a\n2\n"), out
    assert sandboxes.sh("python", "tree")[0] == 127


def test_killed_build_leaves_nothing_that_looks_finished(images, tmp_path):
    """Killed once it is at work, the next one removes what is left and carries on; downloads are shared with the cache."""
    parts_of_builds(tmp_path)
    command = [ROOT / "bundles" / "build-images", "--cache", tmp_path, "--template", "python"]
    p = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in p.stderr:
        if "installing packages" in line:
            p.send_signal(signal.SIGKILL)
            break
    # End of its output: everything that it started has died with it.
    p.communicate(timeout=60)
    assert not list((tmp_path / "images").iterdir())
    assert list((tmp_path / "build").glob("tmp.*"))
    r = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert r.returncode == 0, r.stderr
    assert not list((tmp_path / "build").glob("tmp.*"))
    name, path = r.stdout.split()
    assert (name, pathlib.Path(path).name) == ("python", pathlib.Path(images["python"]).name), "not reproducible"
