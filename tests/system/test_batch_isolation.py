# SPDX-License-Identifier: Apache-2.0
"""`"isolation":"batch"`: executions one after another in the same sandbox. What one leaves is not seen by the next, and none harms
what makes it so. Each story is a batch with one execution at a time: `look`, then what leaves something, then `look` again; looks
must agree. Which sandbox it was is told by the uid: it counts up from 20001 in each."""

import contextlib
import json
import os
import pathlib
import re
import signal
import time
import urllib.request

import pytest

FIRST_UID = 20001

PYTHON_LOOK = r"""
import builtins, ctypes, glob, hashlib, io, json, os, resource, signal, socket, sys, threading, time
s = {}
def tree(root):
    found = []
    for at, folders, files in os.walk(root, onerror=lambda e: found.append(str(e))):
        st = os.lstat(at)
        found.append((at, oct(st.st_mode), sorted(os.listxattr(at)), sorted(folders), sorted(files)))
    return sorted(found, key=str)
for root in ('/tmp', '/var/tmp', '/dev/shm', '/dev/mqueue', '/workspace', '/home/dev', '/run', '/etc/passwd'):
    s['files of ' + root] = tree(root)
s['content'] = hashlib.sha256(b''.join(open(f, 'rb').read() for f in sorted(glob.glob('/home/dev/.[bp]*')))).hexdigest()
s['work'] = (os.stat('/workspace').st_uid == os.getuid(), os.stat('/tmp').st_mtime == os.stat('/var/tmp').st_mtime)
s['mtime'] = [os.stat(p).st_mtime for p in ('/tmp', '/var/tmp', '/dev/shm', '/home/dev')]
s['room'] = os.statvfs('/').f_bavail, os.statvfs('/dev/shm').f_bavail
def processes():
    found = []
    for p in glob.glob('/proc/[0-9]*/cmdline'):
        if p.split('/')[2] != str(os.getpid()):
            try: found.append(open(p).read())
            except OSError: pass
    return sorted(found)
s['processes'] = processes()
s['tasks'] = len(os.listdir('/proc/self/task')), threading.active_count()
for kind in ('shm', 'sem', 'msg'):
    s['ipc ' + kind] = open('/proc/sysvipc/' + kind).read().count('\n') if os.path.exists('/proc/sysvipc/' + kind) else 0
libc = ctypes.CDLL(None, use_errno=True)
s['shmget'] = [libc.shmget(7, 0, 0), libc.semget(7, 0, 0), libc.msgget(7, 0)]
s['mq'] = libc.mq_open(b'/left', os.O_RDONLY)
s['sockets'] = [l.split()[-1] for l in open('/proc/net/unix').read().splitlines()[1:] if '@' in l]
def can_bind():
    t = socket.socket()
    try: t.bind(('127.0.0.1', 8123)); return True
    except OSError as e: return str(e)
    finally: t.close()
s['port'] = can_bind()
s['udp'] = open('/proc/net/udp').read().count('\n')
s['keys'] = [libc.syscall(250, 0, ring, 0) > 0 for ring in (-1, -2, -3, -4, -5)], [libc.syscall(249, b'user', b'left', None, ring) for ring in (-3, -4, -5)]
s['personality'] = libc.personality(0xffffffff), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
s['others'] = [os.getpriority(os.PRIO_USER, os.getuid()), os.getpgid(0) == os.getpid(), signal.getitimer(signal.ITIMER_REAL)]
s['environ'] = sorted(os.environ.items())
s['cwd'] = os.getcwd()
s['umask'] = oct(os.umask(0o22))
s['ids'] = [x - os.getuid() for x in os.getresuid() + os.getresgid()], os.getgroups(), os.getsid(0) == os.getpid()
s['signals'] = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), [repr(signal.getsignal(n)) for n in sorted(signal.valid_signals())]
s['pending'] = sorted(signal.sigpending())
s['timers'] = [signal.getitimer(w) for w in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)]
s['limits'] = [resource.getrlimit(r) for r in range(16)]
s['nice'] = os.nice(0), os.sched_getaffinity(0) == set(range(os.cpu_count()))
s['fds'] = sorted(int(f) for f in os.listdir('/proc/self/fd'))
s['modules'] = sorted(sys.modules)
s['builtins'] = sorted(dir(builtins)), repr(print), repr(open), repr(__import__)
s['patched'] = json.dumps.__module__, json.dumps([1]), os.getpid.__class__.__name__, repr(time.time), hasattr(sys, 'left'), repr(io.TextIOWrapper)
s['path'] = sys.path, [repr(x) for x in sys.meta_path], len(sys.path_hooks), sys.getrecursionlimit(), sys.getswitchinterval()
s['hooks'] = repr(sys.excepthook), repr(sys.gettrace()), sys.flags.optimize
s['prctl'] = libc.prctl(3, 0, 0, 0, 0), open('/proc/self/comm').read()
s['status'] = [l for l in open('/proc/self/status') if l.startswith(('Cap', 'NoNew', 'Seccomp'))]
print(os.getuid(), json.dumps(s), sep='\n')
"""

PYTHON_LEAVES = {
    "files": r"""
import os
for root in ('/tmp', '/var/tmp', '/dev/shm', '/workspace', '/home/dev', '/home/dev/.cache'):
    os.makedirs(root + '/a/b/c/.d', exist_ok=True)
    for name in ('x', 'a/y', 'a/b/c/.d/z', '.hidden', 'sp ace\n', 'q' * 255):
        open(f'{root}/{name}', 'w').write('left' * 5000)
    os.symlink('/etc/passwd', root + '/link'); os.symlink(root, root + '/loop'); os.mkfifo(root + '/pipe')
    os.link(root + '/x', root + '/hard')
    os.chmod(root + '/x', 0); os.chmod(root + '/a/b', 0)
    for i in range(300): open(f'{root}/many{i}', 'w')
""",
    "a deep tree": r"""
import os
os.chdir('/tmp')
for i in range(100): os.mkdir('d'); os.chdir('d')
open('x', 'w')
""",
    "attributes": r"""
import os
for root in ('/workspace', '/tmp', '/dev/shm', '/home/dev'):
    try: os.setxattr(root, 'user.left', b'x')
    except OSError as e: print(root, e)
for root in ('/workspace', '/tmp', '/home/dev'):
    for what in (lambda: os.chmod(root, 0o777), lambda: os.utime(root, (5, 5))):
        try: what()
        except OSError as e: print(root, e)
try: os.rmdir('/workspace')
except OSError as e: print(e)
for name in ('.bashrc', '.profile', '.cache'):
    for what in (lambda: os.rename('/home/dev/' + name, '/home/dev/gone'), lambda: os.unlink('/home/dev/' + name), lambda: open('/home/dev/' + name, 'w')):
        try: what(); print('could', name)
        except OSError as e: pass
""",
    "processes": r"""
import os, signal, time
for kind in range(6):
    if os.fork() == 0:
        if kind & 1: os.setsid()
        if os.fork() == 0:
            for n in range(1, 65):
                try: signal.signal(n, signal.SIG_IGN)
                except (OSError, ValueError): pass
            if kind & 2:
                for fd in range(3): os.close(fd)
            if kind & 4: os.setpgid(0, 0)
            while True:
                try: open('/tmp/again', 'w').write('x')
                except OSError: pass
                time.sleep(0.001)
        os._exit(0)
""",
    "a swarm": r"""
import os
for i in range(40):
    if os.fork() == 0:
        while True:
            pid = -1
            try: pid = os.fork()
            except OSError: pass
            if pid > 0: os._exit(0)
""",
    "state of the interpreter": r"""
import builtins, gc, io, json, os, signal, socket, sys, threading, time, types, resource
sys.modules['left'] = types.ModuleType('left'); sys.left = 1
builtins.left = 1; builtins.print = builtins.open = lambda *a, **k: None
json.dumps = lambda *a, **k: 'patched'; time.time = lambda: 0; os.getpid = 5; io.TextIOWrapper = None; builtins.__import__ = None
sys.path.insert(0, '/tmp'); sys.meta_path.clear(); sys.path_hooks.clear(); sys.setrecursionlimit(77); sys.setswitchinterval(1)
sys.excepthook = print; sys.settrace(lambda *a: None)
os.environ['LEFT'] = '1'; os.environ.pop('HOME'); os.putenv('LEFT2', '2'); os.chdir('/tmp'); os.umask(0o777)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); signal.setitimer(signal.ITIMER_REAL, 1000, 1)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20)); os.nice(5)
os.sched_setaffinity(0, {0})
held = [os.open('/dev/null', 0) for _ in range(50)] + [socket.socket(socket.AF_UNIX)]
held[-1].bind('\0left'); held[-1].listen()
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
sys.stdout.close(); gc.disable(); gc.freeze(); os._exit(0)
""",
    "keys, locks and ports": r"""
import ctypes, fcntl, os, signal, socket, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
for ring in (-1, -2, -3, -4, -5): libc.syscall(248, b'user', b'left', b'left', 4, ring)
libc.syscall(250, 1, b'left')
libc.personality(0x0040000); libc.mlockall(3); libc.prctl(36, 1, 0, 0, 0); libc.alarm(1000); signal.signal(signal.SIGALRM, signal.SIG_IGN)
for f in (lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19), lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))):
    try: f()
    except OSError as e: print(e)
held = []
for family, kind, where in ((socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', 8123)), (socket.AF_INET6, socket.SOCK_DGRAM, ('::1', 8123)),
                            (socket.AF_UNIX, socket.SOCK_DGRAM, '\0left2'), (socket.AF_UNIX, socket.SOCK_STREAM, '/tmp/left.sock')):
    try: held.append(socket.socket(family, kind)); held[-1].bind(where)
    except OSError as e: print(where, e)
for path in ('/etc/passwd', '/usr/bin/python3', '/tmp/lock'):
    f = open(path, 'a+' if path.startswith('/tmp') else 'r'); held.append(f)
    try: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e: print(path, e)
held.append(os.memfd_create('left'))
if os.fork() == 0:
    os.setsid()
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    signal.signal(signal.SIGALRM, lambda *a: open('/tmp/cron', 'a').write('left'))
    while True: signal.pause()
""",
    "name spaces": r"""
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
for flags in (0x10000000 | 0x20000000 | 0x00020000, 0x10000000 | 0x08000000 | 0x40000000):  # user with process and mount, with IPC and network
    if os.fork() == 0:
        os.setsid()
        if libc.unshare(flags) == 0:
            libc.mount(b'left', b'/tmp', b'tmpfs', 0, None); libc.shmget(7, 4096, 0o1666); libc.sethostname(b'left', 4)
            for n in (8123,):
                os.system('exec 3<>/dev/tcp/127.0.0.1/8123')
        for i in range(3):
            if os.fork() == 0: time.sleep(1000)
        os._exit(0)
""",
    "stopped and traced": r"""
import ctypes, os, signal
libc = ctypes.CDLL(None)
for traced in (False, True, True):
    told, tells = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        os.setsid()
        child = os.fork()
        if child == 0:
            if traced: libc.ptrace(0, 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            while True: pass
        os.waitpid(child, os.WUNTRACED)
        os.write(tells, b'x')
        os.kill(os.getpid(), signal.SIGSTOP)
    os.read(told, 1)
""",
    "memory": r"""
import mmap, os
held = [mmap.mmap(-1, 60 << 20)]
f = os.open('/dev/shm/held', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 60 << 20); os.unlink('/dev/shm/held')
held += [mmap.mmap(f, 60 << 20), mmap.mmap(f, 60 << 20, mmap.MAP_PRIVATE)]
for m in held:
    for at in range(0, len(m), 4096): m[at] = 1
if os.fork() == 0:
    os.setsid(); os.closerange(0, 3)
    while True: os.sched_yield()
""",
    "a full disk": r"""
import os
for root in ('/tmp', '/dev/shm', '/workspace', '/home/dev'):
    try:
        with open(root + '/full', 'wb', buffering=0) as f:
            for i in range(48): f.write(b'x' * (1 << 20))
    except OSError as e: print(e)
raise SystemExit(3)
""",
    "killed by its limit": "open('/tmp/x', 'w'); open('/dev/shm/x', 'w')\nwhile True: pass\n",
    "killed for its output": "open('/tmp/x', 'w')\nwhile True: print('x' * 100000)\n",
}

# Nobody can take these back without rights that init has not: the sandbox is not used again.
PYTHON_SPOILS = {
    "System V memory": "import ctypes; print(ctypes.CDLL(None).shmget(7, 4096, 0o1666))",
    "a System V semaphore": "import ctypes; print(ctypes.CDLL(None).semget(7, 1, 0o1666))",
    "a System V queue": "import ctypes; print(ctypes.CDLL(None).msgget(7, 0o1666))",
    "a POSIX queue": "import ctypes, os; print(ctypes.CDLL(None).mq_open(b'/left', os.O_CREAT | os.O_RDWR, 0o666, None))",
    "a TCP connection": """
import socket
l = socket.socket(); l.bind(('127.0.0.1', 8123)); l.listen(); c = socket.create_connection(('127.0.0.1', 8123)); a, _ = l.accept(); a.close(); c.recv(1)
""",
    "a tree that is too deep": "import os\nos.chdir('/tmp')\nfor i in range(1000): os.mkdir('d'); os.chdir('d')\n",
}

PYTHON_ATTACK = r"""
import ctypes, glob, json, os, signal
libc, done = ctypes.CDLL(None, use_errno=True), []
others = [int(p.split('/')[2]) for p in glob.glob('/proc/[0-9]*') if p.split('/')[2] != str(os.getpid())]
assert others
for pid in others:
    for n in (*range(1, 65), 0):
        try: os.kill(pid, n); done.append(('signal', pid, n))
        except OSError: pass
    for request in (16, 0x4206):
        if libc.ptrace(request, pid, 0, 0) == 0: done.append(('ptrace', pid))
    for name, mode in (('mem', 'r+b'), ('environ', 'rb'), ('oom_score_adj', 'w')):
        try: open(f'/proc/{pid}/{name}', mode).close(); done.append((name, pid))
        except OSError: pass
    try: done.append(('fds', pid, os.listdir(f'/proc/{pid}/fd'), [os.open(f'/proc/{pid}/fd/{f}', os.O_RDWR) for f in os.listdir(f'/proc/{pid}/fd')]))
    except OSError: pass
    if libc.pidfd_getfd is not None:
        fd = libc.syscall(434, pid, 0)
        if fd >= 0 and libc.syscall(438, fd, 3, 0) >= 0: done.append(('pidfd', pid))
    buf = ctypes.create_string_buffer(8); vec = (ctypes.c_void_p * 2)(ctypes.addressof(buf), 8)
    if libc.process_vm_readv(pid, vec, 1, (ctypes.c_void_p * 2)(0x400000, 8), 1, 0) > 0: done.append(('vm', pid))
for what in (lambda: os.setuid(0), lambda: os.setuid(os.getuid() + 1), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.chown('/tmp', 0, 0),
             lambda: os.open('/usr/bin/python3', os.O_WRONLY), lambda: open('/usr/lib/python3/left.py', 'w'), lambda: open('/etc/x', 'w'), lambda: open('/etc/passwd', 'r+'), lambda: open('/etc/group', 'a'),
             lambda: os.mkdir('/left'), lambda: os.rename('/workspace', '/workspace2'), lambda: open('/dev/left', 'w')):
    try: what(); done.append('could')
    except OSError: pass
print(json.dumps(done))
os.kill(-1, signal.SIGKILL)
"""

NODE_LOOK = r"""
const fs = require('fs'), s = {};
const tree = (d) => fs.readdirSync(d).sort().map((n) => [n, ...(fs.lstatSync(d + '/' + n).isDirectory() ? tree(d + '/' + n) : [])]);
for (const d of ['/tmp', '/var/tmp', '/dev/shm', '/workspace', '/home/dev']) s[d] = tree(d);
s.processes = fs.readdirSync('/proc').filter((n) => /^\d+$/.test(n) && +n !== process.pid).map((n) => { try { return fs.readFileSync(`/proc/${n}/cmdline`, 'utf8'); } catch { return ''; } }).filter((c) => c).sort();
s.env = Object.entries(process.env).sort();
s.cwd = process.cwd();
s.umask = process.umask();
s.fds = fs.readdirSync('/proc/self/fd').length;
s.limits = fs.readFileSync('/proc/self/limits', 'utf8');
s.status = fs.readFileSync('/proc/self/status', 'utf8').split('\n').filter((l) => /^(Cap...|NoNewPrivs|Sig(Blk|Ign|Cgt)):/.test(l));
s.globals = Object.getOwnPropertyNames(globalThis).sort();
s.patched = [String(JSON.stringify), String(fs.readFileSync).length, Object.keys(require.cache)];
console.log(process.getuid() + '\n' + JSON.stringify(s));
"""
NODE_LEAVES = {
    "files": "const fs = require('fs'); for (const d of ['/tmp', '/var/tmp', '/dev/shm', '/workspace', '/home/dev']) { fs.mkdirSync(d + '/a/b', {recursive: true}); fs.writeFileSync(d + '/a/b/x', 'left'); fs.chmodSync(d + '/a', 0); }",
    "processes": "const {spawn} = require('child_process'); for (let i = 0; i < 3; i++) spawn('sh', ['-c', 'trap \"\" TERM HUP; while :; do echo >/tmp/left; sleep 0.01; done'], {detached: true, stdio: 'ignore'}).unref();",
    "state": "globalThis.left = 1; JSON.stringify = () => 'patched'; require('fs').readFileSync = null; process.env.LEFT = 1; process.chdir('/tmp'); process.umask(0o777); require('net').createServer().listen('\\0left'); setTimeout(() => process.exit(), 50);",
}

GO = r"""
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"syscall"
)

func main() {
	roots := []string{"/tmp", "/var/tmp", "/dev/shm", "/workspace", "/home/dev"}
	if os.Getenv("LEAVE") != "" {
		for _, d := range roots {
			fmt.Println(os.MkdirAll(d+"/left/x", 0700), os.WriteFile(d+"/left/x/y", []byte("left"), 0), os.Chmod(d+"/left", 0))
		}
		c := exec.Command("sh", "-c", "trap '' TERM HUP; while :; do echo >/tmp/again; sleep 0.01; done")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		fmt.Println(c.Start())
		return
	}
	fmt.Println(os.Getuid())
	var found []string
	for _, d := range roots {
		filepath.Walk(d, func(p string, i os.FileInfo, err error) error {
			if err != nil || i.IsDir() && filepath.Base(p) == "go-build" { // what the compiler of this execution has just made
				return filepath.SkipDir
			}
			found = append(found, p, i.Mode().String())
			return nil
		})
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	old := syscall.Umask(022)
	env := os.Environ()
	sort.Strings(env)
	fmt.Println(found, len(processes), env, old)
}
"""


def run(api, template, executions, **fields):
    """The results of a batch that runs one at a time, in order."""
    r = api.call("POST", "/api/batches", json={"template": template, "executions": executions, "isolation": "batch", "max_parallel": 1, **fields})
    assert r.status_code == 202, r.text
    path = f"/api/batches/{r.json()['id']}"
    import requests

    with requests.get(api.url + path + "/results", headers={**api.http.headers, "Accept": "application/x-ndjson"}, stream=True, timeout=240) as lines:
        results = sorted((json.loads(line) for line in lines.iter_lines()), key=lambda r: r["index"])
    assert [r["index"] for r in results] == list(range(len(executions)))
    return results


def looked(r):
    assert r["verdict"] == "OK", r
    uid, rest = r["stdout"].split("\n", 1)
    return int(uid), rest


def same(a, b, why):
    if a != b:
        x, y = json.loads(a), json.loads(b)
        assert x == y, (why, {k: (x[k], y[k]) for k in x if x[k] != y[k]})


def stories(look, leaves, name, **limits):
    body = {"files": [{"path": name, "content": look}]}
    out = [body]
    for program in leaves.values():
        out += [{"files": [{"path": name, "content": program}], "limits": {"cpu_ms": 3000, "disk_mb": 64, **limits}}, body]
    for item in out:
        item.setdefault("limits", {"disk_mb": 64, **limits})
    return out


def test_python_leaves_nothing(api):
    results = run(api, "python", stories(PYTHON_LOOK, PYTHON_LEAVES, "main.py"))
    uid, first = looked(results[0])
    assert uid == FIRST_UID
    for i, story in enumerate(PYTHON_LEAVES):
        left = results[2 * i + 1]
        assert left["verdict"] in ("OK", "EXIT_CODE", "TIME_LIMIT", "OUTPUT_LIMIT", "DISK_LIMIT", "PROCESS_LIMIT"), (story, left)
        assert "could" not in left["stdout"], (story, left["stdout"])
        uid, again = looked(results[2 * i + 2])
        same(again, first, story)
        if story not in ("a swarm", "name spaces"):  # they may not end in the time that init is given
            assert uid != FIRST_UID, (story, "it was a new sandbox")
    full = results[2 * list(PYTHON_LEAVES).index("a full disk") + 1]
    assert full["verdict"] == "DISK_LIMIT", full


def test_python_spoils(api):
    """What cannot be undone for certain costs the sandbox."""
    results = run(api, "python", stories(PYTHON_LOOK, PYTHON_SPOILS, "main.py"))
    first = looked(results[0])[1]
    for i, story in enumerate(PYTHON_SPOILS):
        left = results[2 * i + 1]
        assert left["verdict"] == "OK" and not left["stdout"].startswith("-1"), (story, left)
        uid, again = looked(results[2 * i + 2])
        same(again, first, story)
        assert uid == FIRST_UID, story


def test_python_attacks(api):
    """Neither the server that forks, nor init, nor another's identity is within reach."""
    results = run(api, "python", stories(PYTHON_LOOK, {"1": PYTHON_ATTACK, "2": PYTHON_ATTACK}, "main.py"))
    first = looked(results[0])[1]
    for i in (1, 3):
        assert json.loads(results[i]["stdout"]) == [], results[i]
        uid, again = looked(results[i + 1])
        same(again, first, "attack")
        assert uid == FIRST_UID + i + 1  # the same sandbox, and its server lives


def test_python_as_ever(api):
    """Input, arguments, environment, a shell, a flag: with the server or around it, as alone."""
    program = "import os, sys; print(sys.argv, os.environ.get('A'), sys.stdin.read(), __name__, __file__, sys.orig_argv, os.environ['HOME'], os.getcwd())"
    items = [{}, {"stdin": "x\ny"}, {"command": ["python3", "main.py", "a", "\u00e9"]}, {"env": {"A": "b=c"}}, {"env": {"PYTHONOPTIMIZE": "1"}},
             {"command": "python3 -u main.py | tr a-z A-Z; exit 3"}, {"command": ["python3", "-u", "main.py"]}, {"command": ["/nowhere"]}]
    batch = run(api, "python", items, files=[{"path": "main.py", "content": program}])
    for item, got in zip(items, batch):
        alone = api.run("python", {"main.py": program}, **item)
        for key in ("verdict", "exit_code", "stdout", "stderr"):
            assert got[key] == alone[key], (item, key)


def test_what_was_given_is_gone(api):
    """Input that nobody read, memory up to the limit, output and errors up to a line without an end."""
    def program(text, **item):
        return {"files": [{"path": "main.py", "content": f"import os, sys\n{text}\nprint(os.getuid(), flush=True)"}], **item}

    read, fill = program("assert sys.stdin.read() == ''"), program("held = bytearray(b'x') * (200 << 20)")
    items = [program("pass", stdin="left\n" * 100000), read, program("sys.stdin.readline()", stdin="left\nleft"), read, fill, fill,
             program("os.write(1, b'left'); os.write(2, b'left'); os.dup2(1, 9); os.fork() or os.execlp('sleep', 'sleep', '1000')"), read]
    for i, r in enumerate(run(api, "python", items)):
        assert r["verdict"] == "OK", (i, r)
        assert (r["stdout"].removeprefix("left"), r["stderr"]) == (f"{FIRST_UID + i}\n", "left" if i == 6 else ""), (i, r)


def test_node_leaves_nothing(api):
    results = run(api, "node", stories(NODE_LOOK, NODE_LEAVES, "main.js"))
    uid, first = looked(results[0])
    assert uid == FIRST_UID
    for i, story in enumerate(NODE_LEAVES):
        assert results[2 * i + 1]["verdict"] == "OK", (story, results[2 * i + 1])
        uid, again = looked(results[2 * i + 2])
        same(again, first, story)
        assert uid == FIRST_UID + 2 * i + 2, story


def test_go_leaves_nothing(api):
    results = run(api, "go", [{}, {"env": {"LEAVE": "1"}}, {}], files=[{"path": "main.go", "content": GO}])
    assert results[1]["verdict"] == "OK", results[1]
    (uid, first), (later, again) = looked(results[0]), looked(results[2])
    assert (uid, later) == (FIRST_UID, FIRST_UID + 2)
    assert again == first


def test_each_batch_has_its_own(api):
    look = [{"files": [{"path": "main.py", "content": "import os; print(os.getuid())"}]}] * 3
    for _ in range(2):
        assert [int(r["stdout"]) for r in run(api, "python", look)] == [FIRST_UID, FIRST_UID + 1, FIRST_UID + 2]


def test_chance_is_not_inherited(api):
    """Whoever is forked from one interpreter draws other numbers than its brothers."""
    program = "import os, random, secrets, tempfile, uuid; print(random.random(), os.urandom(9).hex(), secrets.token_hex(9), uuid.uuid4(), tempfile.mkdtemp())"
    drawn = [r["stdout"].split() for r in run(api, "python", [{"files": [{"path": "main.py", "content": program}]}] * 4)]
    assert all(len(set(column)) == 4 for column in zip(*drawn)), drawn


def test_everyone_has_a_name(api):
    """Whatever uid it is: programs ask for the user's name and home by it."""
    python = {"files": [{"path": "main.py", "content": """
import getpass, grp, os, pwd
me, us = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
del os.environ['HOME']
print(me.pw_uid, me.pw_gid, us.gr_gid)
print(me.pw_name, me.pw_dir, us.gr_name, os.path.expanduser('~'), getpass.getuser(), [p.pw_name for p in pwd.getpwall()], os.stat('/etc/passwd').st_uid)
try: open('/etc/passwd', 'r+')
except PermissionError: print('cannot')
"""}]}
    results = run(api, "python", [python] * 3 + [{"files": [{"path": "main.py", "content": ""}], "command": "id -un; id -gn; cd; pwd"}])
    alone = api.run("python", {"main.py": python["files"][0]["content"]})["stdout"].split("\n", 1)
    for i, r in enumerate(results[:3]):
        numbers, rest = r["stdout"].split("\n", 1)
        assert numbers.split() == [str(FIRST_UID + i)] * 3, r
        assert rest == alone[1] and "cannot" in rest, r
    assert results[3]["stdout"] == "dev\ndev\n/home/dev\n"
    node = {"files": [{"path": "main.js", "content": "const u = require('os').userInfo(); console.log(u.uid, u.gid, u.username, u.homedir, u.shell)"}]}
    for i, r in enumerate(run(api, "node", [node] * 2)):
        assert r["stdout"] == f"{FIRST_UID + i} {FIRST_UID + i} dev /home/dev /bin/bash\n", r


def test_a_shim_dies_and_another_is_put_in_its_place(own_devbox):
    """Who runs goes on, and is told once, whether it may be run again or not; its sandbox is not used again, others are."""
    box = own_devbox.up("--gateways", "1")
    api = box.client()
    program = "import os, time; print('in', flush=True); time.sleep(8); print(os.getuid())"
    r = api.call("POST", "/api/batches", json={"template": "python", "executions": [{}] * 6, "isolation": "batch", "max_parallel": 2, "retry": "never",
                                               "files": [{"path": "main.py", "content": program}]})
    path = f"/api/batches/{r.json()['id']}"

    def counts():
        b = api.call("GET", path + "?limit=0").json()
        return b["status"], b["counts"]

    for already, signo in ((0, signal.SIGKILL), (2, signal.SIGHUP)):
        deadline = time.monotonic() + 120
        while True:  # both places are taken by programs that run, and will for a while
            status, c = counts()
            ended = c["completed"] + c["failed"]
            if c["running"] == 2 and ended >= already:
                break
            assert time.monotonic() < deadline and status == "running", (status, c)
            time.sleep(0.05)
        shim = box.daemons("shim")[0]["pid"]
        os.kill(shim, signo)
        while not [d for d in box.daemons("shim") if d["pid"] != shim]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    deadline = time.monotonic() + 180
    while counts()[0] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    results = api.call("GET", path).json()["results"]
    assert sorted(r["index"] for r in results) == list(range(6))
    assert {r["verdict"] for r in results} == {"OK"}, results
    assert all(re.fullmatch(r"in\n2000\d\n", r["stdout"]) for r in results), results


def test_its_sandboxes_end(api, devbox):
    """Idle ones do not stay."""
    run(api, "python", [{"files": [{"path": "main.py", "content": "pass"}]}] * 2)
    shim = next(d["url"] for d in devbox.status()["daemons"] if d["name"] == "shim")

    def claimed():
        text = urllib.request.urlopen(shim + "/metrics", timeout=60).read().decode()
        return sum(float(m) for m in re.findall(r'devbox_shim_sandboxes\{state="(?:running|idle|assigned)"\} (\S+)', text))

    deadline = time.monotonic() + 60
    while claimed():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_uses_up_nobodys_share(own_devbox):
    """Sandboxes of batches stand beside those that somebody waits for, not among them, and all together are what the kernel runs when
    nobody else wants to."""
    api = own_devbox.up("--gateways", "1").client()
    st = own_devbox.state.stat()
    name = f"devbox-{st.st_dev:x}-{st.st_ino:x}"

    def used(part):
        """Is it idle, and are the sandboxes in it that have processes?"""
        (top,) = [p for p in (pathlib.Path("/sys/fs/cgroup/cpu", part), pathlib.Path("/sys/fs/cgroup", part)) if p.is_dir()]
        inside = []
        for p in top.iterdir():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if p.is_dir() and (p / "cgroup.procs").read_text():
                    inside.append((p / "cpu.idle").read_text())
        return (top / "cpu.idle").read_text(), inside

    def until(what, timeout=60):
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def is_idle():
        """They weighed more for a while if they got nothing when they began."""
        top, theirs = used(name + ".background")
        return theirs and {top, *theirs} == {"1\n"}

    loop = {"template": "python", "executions": [{}] * 40, "max_parallel": 2, "files": [{"path": "main.py", "content": "while True: pass\n"}]}
    for isolation in ("batch", "execution"):
        path = f"/api/batches/{api.call('POST', '/api/batches', json={**loop, 'isolation': isolation}).json()['id']}"
        until(lambda: api.call("GET", path + "?limit=0").json()["counts"]["running"] == 2)
        until(is_idle)
        a = api.start("python", {"main.py": "import time\nprint('in', flush=True)\ntime.sleep(20)\n"})
        api.stream(a).until_output("in")
        front, ours = used(name)
        assert ours and {front, *ours} == {"0\n"}
        for what in (path, f"/api/executions/{a['id']}"):
            assert api.call("DELETE", what).status_code < 300
        until(lambda: api.call("GET", path + "?limit=0").json()["status"] != "running" and not used(name + ".background")[1])
