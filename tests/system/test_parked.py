# SPDX-License-Identifier: Apache-2.0
"""A program that a parked interpreter becomes (bundles/parked, shim/init/park.c) beside the same one started plainly: what
is compared, and what differs. The plain start is `env python3 main.py`: another command, after whose exec all is the same."""

import base64
import json
import re

import pytest

PLAIN = {"python": ["/usr/bin/env", "python3", "main.py"], "node": ["/usr/bin/env", "node", "main.js"]}
PARKED = {"python": ["python3", "main.py"], "node": ["node", "main.js"]}
MAIN = {"python": "main.py", "node": "main.js"}
# The one place that keeps what a process was started with tells the two apart.
MARK = {"python": "print('PYTHONPATH=/.devbox/parked' in open('/proc/self/environ').read())\n",
        "node": "console.log(require('fs').readFileSync('/proc/self/environ', 'utf8').includes('/.devbox/parked'))\n"}


def run(api, template, files, plain, args=(), **kw):
    files = files if isinstance(files, dict) else {MAIN[template]: files}
    entries = [{"path": p, "content": c} if isinstance(c, str) else {"path": p, "content_base64": base64.b64encode(c).decode()}
               for p, c in files.items()]
    body = {"template": template, "files": entries, "command": [*(PLAIN if plain else PARKED)[template], *args], **kw}
    r = api.call("POST", "/api/executions?wait=true", json=body)
    assert r.status_code == 200, r.text
    return r.json()


def both(api, template, files, **kw):
    return run(api, template, files, False, **kw), run(api, template, files, True, **kw)


@pytest.mark.parametrize("template", PARKED)
def test_when_it_is_used(api, template):
    other = {"python": {"other.py": MARK["python"]}, "node": {"other.js": MARK["node"]}}[template]
    word = {"python": ("True", "False"), "node": ("true", "false")}[template]
    start_up = {"python": {"PYTHONOPTIMIZE": "1"}, "node": {"NODE_ENV": "x"}}[template]
    files = {MAIN[template]: MARK[template]}
    flag = {"python": ["python3", "-u", "main.py"], "node": ["node", "--no-warnings", "main.js"]}[template]
    cases = {
        "as the template runs it": (files, {}, word[0]),
        "its command": (files, {"command": PARKED[template]}, word[0]),
        "with arguments": (files, {"command": [*PARKED[template], "a", ""]}, word[0]),
        "with a variable": (files, {"env": {"A": "b"}}, word[0]),
        "with input": (files, {"stdin": "x"}, word[0]),
        "with a variable of the start": (files, {"env": start_up}, word[1]),
        "with a flag": (files, {"command": flag}, word[1]),
        "by a shell": (files, {"command": " ".join(PARKED[template])}, word[1]),
        "another file": (other, {"command": [PARKED[template][0], *other]}, word[1]),
    }
    for name, (what, kw, expected) in cases.items():
        r = api.run(template, what, **kw)
        assert (r["verdict"], r["stdout"].strip()) == ("OK", expected), (name, r)


PYTHON_STATE = r"""
import atexit, json, os, resource, signal, stat, sys, threading
import __main__
s = {}
s['argv'] = [sys.argv, sys.orig_argv, sys.executable]
s['path'] = sys.path
s['path_importer_cache'] = sorted(sys.path_importer_cache)
s['main'] = sorted((k, repr(v).split(' at 0x')[0]) for k, v in vars(__main__).items() if k not in ('s', 'atexit', 'json', 'os', 'resource', 'signal', 'stat', 'sys', 'threading'))
s['file'] = __file__
s['flags'] = [repr(sys.flags), repr(sys.warnoptions), repr(sys._xoptions), sys.dont_write_bytecode, sys.pycache_prefix]
s['modules'] = sorted(sys.modules)
s['environ'] = sorted(os.environ.items())
s['cwd'] = os.getcwd()
s['umask'] = os.umask(0)
s['ids'] = [os.getresuid(), os.getresgid(), os.getgroups(), os.getpid() > 1, os.getppid(), os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()]
s['limits'] = [resource.getrlimit(r) for r in range(16)]
s['signals'] = [repr(signal.getsignal(n)) for n in sorted(signal.valid_signals())] + sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
s['fds'] = sorted(int(f) for f in os.listdir('/proc/self/fd'))
s['stdio'] = [(repr(f), f.line_buffering, f.write_through, f.errors, f.newlines, type(f.buffer).__name__, raw.name, raw.closefd, raw.mode,
               f.isatty(), f.seekable(), stat.S_IFMT(os.fstat(f.fileno()).st_mode), f is o)
              for f, o in ((sys.stdin, sys.__stdin__), (sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__)) for raw in [getattr(f.buffer, 'raw', f.buffer)]]
s['nonblock'] = [os.get_blocking(i) for i in range(3)] + [os.get_inheritable(i) for i in range(3)]
s['threads'] = [t.name for t in threading.enumerate()]
s['hooks'] = [repr(sys.excepthook), repr(sys.displayhook), repr(sys.gettrace()), repr(sys.getprofile()), [repr(h) for h in sys.meta_path], [repr(h).split(' at 0x')[0] for h in sys.path_hooks]]
s['limits of python'] = [sys.getrecursionlimit(), sys.getswitchinterval(), sys.getdefaultencoding(), sys.getfilesystemencoding()]
s['frames'] = sys._getframe().f_back is None
s['no_new_privs'] = [l for l in open('/proc/self/status') if l.split(':')[0] in ('Uid', 'Gid', 'CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'NoNewPrivs', 'Seccomp')]
print(json.dumps(s))
"""


@pytest.mark.parametrize("kw", [{}, {"stdin": "x\n"}, {"args": ["a", "b c", "", "\u00e9"]}, {"env": {"A": "1", "B": "x=y\nz", "USER": "me"}}],
                         ids=["bare", "stdin", "args", "env"])
def test_python_state(api, kw):
    p, q = both(api, "python", PYTHON_STATE, **kw)
    assert p["verdict"] == q["verdict"] == "OK", (p["stderr"], q["stderr"])
    ours, plain = json.loads(p["stdout"]), json.loads(q["stdout"])
    for key in plain:
        assert ours[key] == plain[key], key


NODE_STATE = r"""
const fs = require('fs'), os = require('os'), s = {};
s.argv = [process.argv, process.execArgv, process.argv0, process.execPath];
s.main = [require.main === module, module.id, module.filename, module.parent, module.paths, module.children.length, __filename, __dirname];
s.cache = Object.keys(require.cache);
s.pathCache = Object.keys(module.constructor._pathCache);
s.env = Object.entries(process.env).sort();
s.cwd = process.cwd();
s.umask = process.umask();
s.ids = [process.getuid(), process.geteuid(), process.getgid(), process.ppid, process.getgroups()];
s.fds = fs.readdirSync('/proc/self/fd').length;
s.kinds = [0, 1, 2].map((fd) => fs.fstatSync(fd).mode & 0o170000);
s.stdin = [process.stdin.constructor.name, !!process.stdin.isTTY, process.stdin.fd];
s.stdout = [process.stdout.constructor.name, !!process.stdout.isTTY, process.stderr.constructor.name];
s.events = process.eventNames().map(String);
s.globals = Object.getOwnPropertyNames(globalThis).sort();
s.process = Object.getOwnPropertyNames(process).sort();
s.preload = process._preload_modules;
s.stack = new Error().stack;
s.limits = fs.readFileSync('/proc/self/limits', 'utf8');
s.status = fs.readFileSync('/proc/self/status', 'utf8').split('\n').filter((l) => /^(Uid|Gid|Cap...|NoNewPrivs|Sig(Blk|Ign|Cgt)):/.test(l));
s.lastMatch = RegExp.lastMatch;
s.options = [require('v8').getHeapStatistics().heap_size_limit, os.availableParallelism()];
process.stdin.destroy();
console.log(JSON.stringify(s));
"""


@pytest.mark.parametrize("kw", [{}, {"stdin": "x\n"}, {"args": ["a", "b c", "", "\u00e9"]}, {"env": {"A": "1", "B": "x=y\nz", "USER": "me"}}],
                         ids=["bare", "stdin", "args", "env"])
def test_node_state(api, kw):
    p, q = both(api, "node", NODE_STATE, **kw)
    assert p["verdict"] == q["verdict"] == "OK", (p["stderr"], q["stderr"])
    ours, plain = json.loads(p["stdout"]), json.loads(q["stdout"])
    for key in plain:
        assert ours[key] == plain[key], key


# What each does is said by output, both streams, exit code, signal and verdict.
PYTHON = {
    "hello": "print('hello')\n",
    "exit code": "import sys\nsys.exit(7)\n",
    "exit words": "import sys\nsys.exit('no')\n",
    "traceback": "def f(x):\n    return 1 / x\nf(0)\n",
    "traceback of a chain": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e\n",
    "syntax error": "print(1\nx = = 2\n",
    "indentation": "if 1:\nprint()\n",
    "null byte": "x = 1\0\n",
    "encoding": b"# -*- coding: latin-1 -*-\nprint('\xe9')\n",
    "bad encoding": b"print('\xe9')\n",
    "bom": b"\xef\xbb\xbfprint('bom')\n",
    "no program": {"README": "no main.py"},
    "empty": "",
    "a module beside it": {"main.py": "import other\nprint(other.__file__, other.__name__)\n", "other.py": "pass\n"},
    "a module of a known name": {"main.py": "import random\nprint(random.__file__)\n", "random.py": "pass\n"},
    "site hooks of the user": {"main.py": "print(1)\n", "sitecustomize.py": "print('never')\n", "usercustomize.py": "print('never')\n"},
    "atexit": "import atexit\natexit.register(print, 'bye')\nprint('hi')\n",
    "threads": "import threading\ndef f():\n    print(threading.current_thread().name)\nt = threading.Thread(target=f)\nt.start()\nt.join()\n",
    "daemon threads": "import threading, time\nthreading.Thread(target=time.sleep, args=(100,), daemon=True).start()\nprint('x')\n",
    "multiprocessing fork": "import multiprocessing as m\ndef f(x):\n    return x * x\nif __name__ == '__main__':\n    with m.get_context('fork').Pool(2) as p:\n        print(p.map(f, range(5)))\n",
    "multiprocessing spawn": "import multiprocessing as m\ndef f(x):\n    return x * x\nif __name__ == '__main__':\n    with m.get_context('spawn').Pool(1) as p:\n        print(p.map(f, range(5)))\n",
    "a Python of its own": "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'import sys; print(sys.path, sys.stdin.read())'], capture_output=True))\n",
    "a process of its own": "import os\nos.system('echo $PYTHONPATH; ls -l /proc/self/fd | wc -l')\n",
    "signal to itself": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n",
    "abort": "import os\nos.abort()\n",
    "interrupt": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n",
    "handler": "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *a: print('usr1'))\nos.kill(os.getpid(), signal.SIGUSR1)\n",
    "broken pipe": "import os\nos.close(1)\nprint('x')\n",
    "both streams": "import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.stdout.write('c')\n",
    "unbuffered": "import os, sys\nsys.stdout.write('a')\nos._exit(0)\n",
    "input at its end": "input()\n",
    "reopened": "print('x', file=open('/dev/stdout', 'w'))\nprint(open('/dev/stdin').read())\n",
    "exec of another": "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'import sys; print(sys.argv, sys.path)'])\n",
    "os._exit": "import os\nprint('x')\nos._exit(3)\n",
    "recursion": "def f(): f()\nf()\n",
    "warning": "import warnings\nwarnings.warn('w')\n",
    "unraisable": "class A:\n    def __del__(self): 1 / 0\nA()\n",
    "runpy": "import runpy\nrunpy.run_path(__file__, run_name='other') if __name__ == '__main__' else print(__name__)\n",
    "pickle of main": "import pickle\nclass A: pass\nprint(pickle.dumps(A()))\n",
    "linecache": "import linecache, inspect, sys\nprint(linecache.getline(__file__, 1), inspect.getsource(sys.modules['__main__']))\n",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    print('done')\nasyncio.run(f())\n",
    "cpu limit": "while True: pass\n",
    "memory limit": "x = bytearray(10**9)\nfor i in range(0, len(x), 4096): x[i] = 1\n",
    "open files limit": "import os\nfs = []\ntry:\n    while True: fs.append(os.open('/dev/null', 0))\nexcept OSError as e:\n    print(len(fs), e.errno)\n",
    "process limit": "import os, time\nn = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60)\n        n += 1\nexcept OSError as e:\n    print(n, e.errno)\n",
}
WITH = {
    "cpu limit": {"limits": {"cpu_ms": 500}},
    "open files limit": {"limits": {"open_files": 40}},
    "process limit": {"limits": {"processes": 10}},
}
WITH_INPUT = {
    "input()": ("print(input('? '))\nprint(input())\n", "a\nb\n"),
    "all of stdin": ("import sys\nprint(len(sys.stdin.read()))\n", "x" * 300000),
    "lines": ("import sys\nfor l in sys.stdin: print(repr(l))\n", "a\r\nb\n\u00e9"),
    "bytes": ("import os\nprint(os.read(0, 5))\n", "abcdefgh"),
    "by a child": ("import subprocess\nprint(subprocess.run(['cat'], capture_output=True).stdout)\n", "abc"),
    "unread": ("print('x')\n", "y" * 100000),
}
NODE = {
    "hello": "console.log('hello')\n",
    "exit code": "process.exit(7)\n",
    "exitCode": "process.exitCode = 3\n",
    "throw": "function f() { throw new Error('x') }\nf()\n",
    "rejection": "Promise.reject(new Error('x'))\n",
    "rejection of a word": "Promise.reject('x')\n",
    "syntax error": "let x = = 1\n",
    "no program": {"README": "no main.js"},
    "empty": "",
    "a module beside it": {"main.js": "console.log(require('./other'), module.children.length)\n", "other.js": "module.exports = __filename\n"},
    "json and packages": {"main.js": "console.log(require('p'), require('./d.json'))\n", "node_modules/p/index.js": "module.exports = module.parent === require.main\n", "d.json": "[1]"},
    "ES module by package.json": {"main.js": "import fs from 'fs'\nconsole.log(import.meta.url, typeof require, process.argv.length)\n", "package.json": '{"type": "module"}'},
    "ES module with top-level await": {"main.js": "await 1; console.log(import.meta.filename)\n", "package.json": '{"type": "module"}'},
    "CJS by package.json": {"main.js": "console.log(typeof require, require.main === module)\n", "package.json": '{"type": "commonjs", "main": "x.js"}'},
    "a package of its own name": {"main.js": "console.log(require('self/y'))\n", "package.json": '{"name": "self", "exports": {"./y": "./y.js"}}', "y.js": "module.exports = 'y'\n"},
    "imports of the package": {"main.js": "console.log(require('#y'))\n", "package.json": '{"imports": {"#y": "./y.js"}}', "y.js": "module.exports = 'y'\n"},
    "import()": {"main.js": "import('./m.mjs').then((m) => console.log(m.default, require.main.filename))\n", "m.mjs": "export default import.meta.url\n"},
    "worker": "const w = require('worker_threads')\nif (w.isMainThread) new w.Worker(__filename, {argv: ['q']}).on('exit', (c) => console.log('exit', c))\nelse console.log(process.argv.length, Object.keys(require.cache), process.env.NODE_OPTIONS)\n",
    "child": "const c = require('child_process')\nconsole.log(c.execFileSync(process.execPath, ['-p', 'process.argv.length + \" \" + process.env.NODE_OPTIONS']).toString())\n",
    "fork": "const c = require('child_process')\nif (process.send) process.send(process.execArgv)\nelse c.fork(__filename).on('message', (m) => console.log(m))\n",
    "timers": "const t = Date.now(); setTimeout(() => { const d = Date.now() - t; console.log(d >= 99 && d < 5000) }, 100)\n",
    "order": "setImmediate(() => console.log(3)); Promise.resolve().then(() => console.log(2)); process.nextTick(() => console.log(1)); process.on('exit', () => console.log(4))\n",
    "signal to itself": "process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 10000)\n",
    "abort": "process.abort()\n",
    "handler": "process.on('SIGUSR2', () => { console.log('usr2'); process.exit(0) }); process.kill(process.pid, 'SIGUSR2'); setTimeout(() => {}, 10000)\n",
    "stdin at its end": "process.stdin.on('data', () => console.log('never')).on('end', () => console.log('end'))\n",
    "readFileSync(0)": "console.log(require('fs').readFileSync(0, 'utf8').length)\n",
    "big write": "process.stdout.write('x'.repeat(300000)); process.stderr.write('y'.repeat(300000))\n",
    "console and exit": "console.log('x'.repeat(100000)); process.exit(1)\n",
    "shared memory": "console.log(new Int32Array(new SharedArrayBuffer(8)).length, Atomics.add(new Int32Array(new SharedArrayBuffer(8)), 0, 1))\n",
    "wasm": "console.log(new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])) instanceof WebAssembly.Module)\n",
    "async file": "require('fs').readFile(__filename, 'utf8', (e, d) => console.log(e, d.length))\n",
    "dns-less net": "require('net').createServer().listen(0, '127.0.0.1', function () { console.log(this.address().address); this.close() })\n",
}
NODE_INPUT = {
    "stdin": ("let n = 0; process.stdin.on('data', (d) => n += d.length).on('end', () => console.log(n))\n", "x" * 300000),
    "readline": ("require('readline').createInterface({input: process.stdin}).on('line', (l) => console.log('>', l))\n", "a\nb\n"),
    "readFileSync(0)": ("console.log(require('fs').readFileSync(0, 'utf8'))\n", "abc"),
    "by a child": ("console.log(require('child_process').execFileSync('cat', {stdio: [0, 'pipe', 2]}).toString())\n", "abc"),
}


def said(value):
    return re.sub("0x[0-9a-f]{8,}", "0x...", value) if isinstance(value, str) else value


def same(ours, plain):
    for key in ("status", "verdict", "exit_code", "signal", "stdout", "stderr", "truncated"):
        assert said(ours[key]) == said(plain[key]), (key, ours, plain)


@pytest.mark.parametrize("name", PYTHON)
def test_python(api, name):
    same(*both(api, "python", PYTHON[name], **WITH.get(name, {})))


@pytest.mark.parametrize("name", WITH_INPUT)
def test_python_input(api, name):
    code, text = WITH_INPUT[name]
    same(*both(api, "python", code, stdin=text))


@pytest.mark.parametrize("name", NODE)
def test_node(api, name):
    same(*both(api, "node", NODE[name]))


@pytest.mark.parametrize("name", NODE_INPUT)
def test_node_input(api, name):
    code, text = NODE_INPUT[name]
    same(*both(api, "node", code, stdin=text))


@pytest.mark.parametrize("template,code", [
    ("python", "import os, random, uuid\nprint(hash('a'), random.random(), os.urandom(8), uuid.uuid4(), id(object()))\n"),
    ("node", "console.log(Math.random(), crypto.randomUUID())\n"),
])
def test_no_two_runs_share_a_seed(api, template, code):
    words = [run(api, template, code, False)["stdout"].split(" ") for _ in range(4)]
    for column in list(zip(*words))[: 4 if template == "python" else 2]:
        assert len(set(column)) == 4, column


def test_what_it_costs_is_the_programs_alone(api):
    """CPU of the time before is not billed; the interpreter's memory is, as in a plain start."""
    p, q = both(api, "python", "print('x')\n")
    assert p["usage"]["cpu_ms"] <= q["usage"]["cpu_ms"] + 10
    code = "x = bytearray(50 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n"
    p, q = both(api, "python", code)
    assert 50 << 20 < p["usage"]["memory_peak_bytes"] < 80 << 20
    assert abs(p["usage"]["memory_peak_bytes"] - q["usage"]["memory_peak_bytes"]) < 6 << 20


def test_what_differs(api):
    """All of it: what the kernel or the interpreter noted when it was started."""
    code = ("import os, time\nstat = open('/proc/self/stat').read().rsplit(')', 1)[1].split()\n"
            "up = float(open('/proc/uptime').read().split()[0])\n"
            "print(open('/proc/self/cmdline').read().split(chr(0)), up - int(stat[19]) / os.sysconf('SC_CLK_TCK') >= 0)\n")
    p, q = both(api, "python", code, args=["a"])
    assert p["stdout"] == "['python3', 'main.py', ''] True\n"  # its arguments are in sys.argv only
    assert q["stdout"] == "['python3', 'main.py', 'a', ''] True\n"
    code = "console.log(require('fs').readFileSync('/proc/self/cmdline', 'utf8').split('\\0').slice(1))\n"
    p, q = both(api, "node", code, args=["a"])
    assert (p["stdout"], q["stdout"]) == ("[ '/workspace/main.js', '' ]\n", "[ 'main.js', 'a', '' ]\n")
    code = "console.log(performance.now() < 3600e3 * 24, process.uptime() > 0)\n"  # they count from the start
    p, q = both(api, "node", code)
    assert p["stdout"] == q["stdout"] == "true true\n"


@pytest.mark.parametrize("template,code", [
    ("python", "import os\nfor p in os.listdir('/proc'):\n    if p.isdigit(): print(p, open(f'/proc/{p}/cmdline').read().split(chr(0))[0])\n"),
])
def test_nothing_waits_beside_a_program(api, template, code):
    """Where another program is started, what was parked is gone."""
    r = api.run(template, {"main.py": code, "x.py": code}, command=["python3", "x.py"])
    assert [line.split()[1].rsplit("/", 1)[-1] for line in r["stdout"].splitlines()] == ["init", "python3"], r
    r = api.run(template, {"x.py": "import os\nos.kill(1, 9)\nprint(open('/.devbox/parked/node.js').read()[:2])\n"}, command=["python3", "x.py"])
    assert r["verdict"] == "EXIT_CODE" and "PermissionError" in r["stderr"]
