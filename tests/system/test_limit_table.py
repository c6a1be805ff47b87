# SPDX-License-Identifier: Apache-2.0
"""The table of limits: each in every language that can trip it, with the exact verdict and what it is judged by; and how a
neighbour's runs take it. (test_limits.py has how a limit looks to a client.)"""

import statistics
import threading
import time

import pytest

PYTHON = {
    "cpu, all threads and children": "import os, threading\ndef spin():\n    while True: pass\nfor _ in range(2): threading.Thread(target=spin).start()\nos.fork()\nspin()\n",
    "wall": "import time\ntime.sleep(1000)\n",
    "memory": "x = []\nwhile True: x.append(bytearray(b'x' * (1 << 20)))\n",
    "output, both streams": "import os\nb = b'y' * 1000\nwhile True:\n    os.write(1, b)\n    os.write(2, b)\n",
    "processes": "import subprocess\nps = []\nwhile True: ps.append(subprocess.Popen(['sleep', '30']))\n",
    "open files": "import os\nwhile True: os.open('/dev/null', 0)\n",
    "file size": "import os\nf = open('f', 'wb')\nf.seek(33 << 20)\nf.write(b'x')\nf.flush()\n",
    "disk": "i = 0\nwhile True:\n    i += 1\n    open(f'f{i}', 'wb').write(b'x' * 1000000)\n",
    "/dev/shm": "f = open('/dev/shm/x', 'wb')\nwhile True: f.write(b'x' * 1000000)\n",
    "peak": "x = bytearray(60 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\ndel x\n",
}
NODE = {
    "cpu, all threads and children": "const w = require('worker_threads')\nif (w.isMainThread) new w.Worker(__filename)\nfor (;;);\n",
    "wall": "setTimeout(() => {}, 1e6)\n",
    "memory": "const x = []\nfor (;;) x.push(Buffer.alloc(1 << 20, 1))\n",
    "output, both streams": "const fs = require('fs'), b = 'y'.repeat(1000)\nfor (;;) { fs.writeSync(1, b); fs.writeSync(2, b) }\n",
    "processes": "const { spawn } = require('child_process')\nfunction f() { spawn('sleep', ['30']).on('error', () => process.exit(1)); setImmediate(f) }\nf()\n",
    "open files": "const fs = require('fs')\nfor (;;) fs.openSync('/dev/null')\n",
    "file size": "const fs = require('fs')\nfs.writeSync(fs.openSync('f', 'w'), 'x', 33 << 20)\n",
    "disk": "const fs = require('fs')\nfor (let i = 0; ; i++) fs.writeFileSync('f' + i, Buffer.alloc(1e6, 1))\n",
    "/dev/shm": "const fs = require('fs'), f = fs.openSync('/dev/shm/x', 'w')\nfor (;;) fs.writeSync(f, Buffer.alloc(1e6, 1))\n",
    "peak": "Buffer.alloc(60 << 20, 1)\n",
}
GO_HEAD = "package main\nimport (\"os\"; \"os/exec\"; \"time\"; \"bytes\"; \"fmt\")\nvar _ = os.Args\nvar _ = exec.Command\nvar _ = time.Now\nvar _ = bytes.Repeat\nvar _ = fmt.Sprint\nfunc check(err error) { if err != nil { panic(err) } }\nfunc main() {\n"
GO = {name: GO_HEAD + code + "\n}\n" for name, code in {
    "cpu, all threads and children": "for i := 0; i < 3; i++ { go func() { for { } }() }\nfor { }",
    "wall": "time.Sleep(1000 * time.Second)",
    "memory": "var x [][]byte\nfor { x = append(x, bytes.Repeat([]byte{1}, 1<<20)) }",
    "output, both streams": "b := bytes.Repeat([]byte{'y'}, 1000)\nfor { os.Stdout.Write(b); os.Stderr.Write(b) }",
    "processes": "for { check(exec.Command(\"sleep\", \"30\").Start()) }",
    "open files": "var x []*os.File\nfor { f, err := os.Open(\"/dev/null\"); check(err); x = append(x, f) }",
    "file size": "f, err := os.Create(\"f\"); check(err)\n_, err = f.WriteAt([]byte{1}, 33<<20); check(err)",
    "disk": "for i := 0; ; i++ { check(os.WriteFile(fmt.Sprint(\"f\", i), bytes.Repeat([]byte{1}, 1000000), 0o644)) }",
    "/dev/shm": "f, err := os.Create(\"/dev/shm/x\"); check(err)\nfor { _, err := f.Write(bytes.Repeat([]byte{1}, 1000000)); check(err) }",
    "peak": "x := bytes.Repeat([]byte{1}, 60<<20)\nif x[len(x)-1] != 1 { os.Exit(1) }",
}.items()}
RUST_HEAD = "#![allow(unused)]\nuse std::{fs, io::{Read, Write, Seek, SeekFrom}, process::Command, thread, time::Duration};\nfn main() {\n"
RUST = {name: RUST_HEAD + code + "\n}\n" for name, code in {
    "cpu, all threads and children": "for _ in 0..3 { thread::spawn(|| { let mut i = 0u64; loop { i = std::hint::black_box(i + 1); } }); }\nloop { std::hint::black_box(0); }",
    "wall": "thread::sleep(Duration::from_secs(1000));",
    "memory": "let mut x = Vec::new();\nloop { x.push(vec![1u8; 1 << 20]); }",
    "output, both streams": "let b = [b'y'; 1000];\nloop { std::io::stdout().write_all(&b).unwrap(); std::io::stdout().flush().unwrap(); std::io::stderr().write_all(&b).unwrap(); }",
    "processes": "let mut ps = Vec::new();\nloop { ps.push(Command::new(\"sleep\").arg(\"30\").spawn().unwrap()); }",
    "open files": "let mut fs_ = Vec::new();\nloop { fs_.push(fs::File::open(\"/dev/null\").unwrap()); }",
    "file size": "let mut f = fs::File::create(\"f\").unwrap();\nf.seek(SeekFrom::Start(33 << 20)).unwrap();\nf.write_all(b\"x\").unwrap();",
    "disk": "for i in 0.. { fs::write(format!(\"f{}\", i), vec![1u8; 1000000]).unwrap(); }",
    "/dev/shm": "let mut f = fs::File::create(\"/dev/shm/x\").unwrap();\nloop { f.write_all(&vec![1u8; 1000000]).unwrap(); }",
    "peak": "let x = vec![1u8; 60 << 20];\nstd::hint::black_box(&x);",
}.items()}
PROGRAMS = {"python": ("main.py", PYTHON), "node": ("main.js", NODE), "go": ("main.go", GO), "rust": ("main.rs", RUST)}

# What each limit is set to, and its verdict; where languages differ, by language.
EXPECTED = {
    "cpu, all threads and children": ({"cpu_ms": 700, "wall_ms": 20000}, "TIME_LIMIT"),
    "wall": ({"wall_ms": 700}, "WALL_LIMIT"),
    "memory": ({"memory_mb": 100}, "MEMORY_LIMIT"),
    "output, both streams": ({"output_bytes": 100001}, "OUTPUT_LIMIT"),
    "processes": ({"processes": 24}, "PROCESS_LIMIT"),
    "open files": ({"open_files": 50}, "EXIT_CODE"),
    # a write beyond it is SIGXFSZ, which Python ignores, and Go and Node take for an error
    "file size": ({"disk_mb": 32}, {"python": "EXIT_CODE", "node": "EXIT_CODE", "go": "EXIT_CODE", "rust": "SIGNAL"}),
    "disk": ({"disk_mb": 40}, "DISK_LIMIT"),
    "/dev/shm": ({"memory_mb": 64}, "MEMORY_LIMIT"),
    "peak": ({}, "OK"),
}


@pytest.fixture(scope="module")
def neighbour(devbox):
    """Somebody else who runs a small program again and again meanwhile."""
    api, took, stop = devbox.client(), [], threading.Event()

    def run():
        while not stop.is_set():
            begin = time.monotonic()
            r = api.run("python", {"main.py": "print('hello')\n"})
            took.append((time.monotonic() - begin, r["verdict"]))

    thread = threading.Thread(target=run)
    thread.start()
    yield took
    stop.set()
    thread.join(60)
    times = sorted(t for t, _ in took)
    print(f"\nthe neighbour: {len(times)} runs, median {statistics.median(times) * 1000:.0f} ms, p99 {times[len(times) * 99 // 100] * 1000:.0f} ms")
    assert {v for _, v in took} == {"OK"}


@pytest.mark.parametrize("template", PROGRAMS)
@pytest.mark.parametrize("name", EXPECTED)
def test_table(api, neighbour, template, name):
    limits, verdict = EXPECTED[name]
    verdict = verdict[template] if isinstance(verdict, dict) else verdict
    file, programs = PROGRAMS[template]
    r = api.run(template, {file: programs[name]}, limits=limits)
    print(f"{name}, {template}: {r['verdict']} {r['usage']}")
    assert r["verdict"] == verdict, r
    usage = r["usage"]
    if verdict == "TIME_LIMIT":
        assert limits["cpu_ms"] <= usage["cpu_ms"] < limits["cpu_ms"] + 2000
    if verdict == "WALL_LIMIT":
        assert limits["wall_ms"] <= usage["wall_ms"] < limits["wall_ms"] + 4000
    if verdict == "MEMORY_LIMIT":
        assert 0.8 * (limits["memory_mb"] << 20) < usage["memory_peak_bytes"] <= limits["memory_mb"] << 20
    if verdict == "OUTPUT_LIMIT":
        assert usage["output_bytes"] == limits["output_bytes"] == len(r["stdout"]) + len(r["stderr"])
    if verdict == "SIGNAL":
        assert r["signal"] == "SIGXFSZ"
    if name == "peak":
        assert 60 << 20 < usage["memory_peak_bytes"] < 130 << 20
