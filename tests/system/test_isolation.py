# SPDX-License-Identifier: Apache-2.0
"""What a program inside can see and touch."""

import os
import pathlib


def inside(api, code, template="python", **kw):
    r = api.run(template, {"main.py": code}, **kw)
    assert r["verdict"] in ("OK", "EXIT_CODE"), r
    return r["stdout"]


def test_identity(api):
    out = inside(api, "import os\nprint(os.getuid(), os.getgid(), os.getgroups())\nprint(open('/proc/self/status').read())\n")
    assert out.startswith("1000 1000 ")
    for line in out.splitlines():
        if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb")):
            assert int(line.split()[1], 16) == 0, line


def test_no_privilege_to_gain(api):
    out = inside(api, """
import os, subprocess
for f in (lambda: os.setuid(0), lambda: os.chown('/etc/passwd', 1000, 1000), lambda: os.mknod('/tmp/d', 0o60666, 0x800),
          lambda: os.chroot('/tmp'), lambda: os.kill(1, 9)):
    try:
        f()
        print('could')
    except OSError as e:
        print('refused', e.errno)
print(subprocess.run(['sh', '-c', 'mount -t tmpfs x /mnt; su -c id; unshare -Ur id'], capture_output=True).returncode)
""")
    assert "could" not in out and "refused" in out


def test_no_network(api):
    out = inside(api, """
import socket
for host, port in (('1.1.1.1', 53), ('127.0.0.1', 5432), ('169.254.169.254', 80), ('10.0.0.1', 80), ('8.8.8.8', 443)):
    s = socket.socket()
    s.settimeout(2)
    try:
        s.connect((host, port))
        print('CONNECTED', host)
    except OSError as e:
        print('no', host)
try:
    print('RESOLVED', socket.gethostbyname('localhost.example.com'))
except OSError:
    print('no name')
print(open('/proc/net/dev').read())
""")
    assert "CONNECTED" not in out and "RESOLVED" not in out
    devices = [line.split(":")[0].strip() for line in out.splitlines() if ":" in line]
    assert set(devices) <= {"lo"}, devices


def test_no_listener_of_the_host(devbox, api):
    """The host's own ports (the gateway's) are not the sandbox's."""
    out = inside(api, f"import socket\ns = socket.socket()\ns.settimeout(2)\nprint(s.connect_ex(('127.0.0.1', {devbox.port})))\n")
    assert out.strip() != "0"


def test_no_host_file(api, tmp_path):
    secret = tmp_path / "canary"
    secret.write_text("canary-secret")
    out = inside(api, f"""
import os
for p in ({str(secret)!r}, '/var/lib/devbox', '/root/.ssh', '/proc/1/environ', '/dev/mem', '/dev/kmsg', '/dev/vda'):
    try:
        print('READ', p, open(p, 'rb').read(100))
    except OSError:
        print('no', p)
print(os.uname())
print(os.listdir('/'))
for l in open('/proc/self/mountinfo'): print(l, end='')
print(dict(os.environ))
for fd in os.listdir('/proc/self/fd'):
    try: print('fd', fd, os.readlink('/proc/self/fd/' + fd))
    except OSError: pass
""")
    assert "READ" not in out and "canary-secret" not in out
    assert os.uname().nodename not in out or os.uname().nodename == "devbox"
    assert "DEVBOX_" not in out
    state_words = [str(tmp_path), "devbox-test-", "admin.key"]
    assert not [w for w in state_words if w in out.replace(str(secret), "")], out


def test_image_is_read_only_and_nothing_stays(api):
    write = "open('/tmp/left', 'w').write('x')\nopen('left', 'w').write('x')\n"
    inside(api, write + "try:\n    open('/usr/bin/python3', 'ab')\nexcept OSError as e:\n    print(e)\n")
    out = inside(api, "import os\nprint(os.path.exists('/tmp/left'), os.path.exists('left'), sorted(os.listdir('.')))\n")
    assert out == "False False ['main.py']\n"


def test_only_standard_descriptors(api):
    out = inside(api, "import os\nprint(sorted(int(x) for x in os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))\n")
    assert out == "[0, 1, 2] 4\n"  # and the one listdir itself holds


def test_children_do_not_outlive_the_run(devbox, api):
    """A program that leaves a daemon behind: nothing of it is left on the host."""
    before = {p for p in os.listdir("/proc") if p.isdigit()}
    r = api.run("python", {"main.py": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    os.close(1); os.close(2)\n    time.sleep(1000)\nprint('left')\n"})
    assert r["verdict"] == "OK" and r["stdout"] == "left\n", r
    assert before
    assert not list(pathlib.Path("/tmp").glob("*.sandbox-leftover"))
