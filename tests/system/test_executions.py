# SPDX-License-Identifier: Apache-2.0
"""One real execution, end to end, in each language."""

import base64

import pytest

# Each: several files; says hello on both streams, waits for a line of stdin, answers, and exits 3.
PROGRAMS = {
    "python": {
        "main.py": "import sys, helper\nprint('out 1')\nprint('err 1', file=sys.stderr)\n"
                   "line = sys.stdin.readline().strip()\nprint(helper.answer(line))\n"
                   "print('rest', repr(sys.stdin.read()))\nsys.exit(3)\n",
        "helper.py": "def answer(x):\n    return 'got ' + x\n",
    },
    "node": {
        "main.js": "const {answer} = require('./lib/helper');\nconsole.log('out 1');\nconsole.error('err 1');\n"
                   "const rl = require('readline').createInterface({input: process.stdin});\nlet first = true;\n"
                   "rl.on('line', l => { if (first) { first = false; console.log(answer(l)); } });\n"
                   "rl.on('close', () => process.exit(3));\n",
        "lib/helper.js": "exports.answer = x => 'got ' + x;\n",
    },
    "go": {
        "main.go": "package main\n\nimport (\n\t\"bufio\"\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() {\n\tfmt.Println(\"out 1\")\n"
                   "\tfmt.Fprintln(os.Stderr, \"err 1\")\n\ts := bufio.NewScanner(os.Stdin)\n\ts.Scan()\n\tfmt.Println(answer(s.Text()))\n"
                   "\tfor s.Scan() {\n\t}\n\tos.Exit(3)\n}\n",
        "helper.go": "package main\n\nfunc answer(x string) string { return \"got \" + x }\n",
    },
    "rust": {
        "main.rs": "mod helper;\nuse std::io::BufRead;\nfn main() {\n    println!(\"out 1\");\n    eprintln!(\"err 1\");\n"
                   "    let mut line = String::new();\n    std::io::stdin().lock().read_line(&mut line).unwrap();\n"
                   "    println!(\"{}\", helper::answer(line.trim()));\n    for _ in std::io::stdin().lock().lines() {}\n"
                   "    std::process::exit(3);\n}\n",
        "helper.rs": "pub fn answer(x: &str) -> String { format!(\"got {}\", x) }\n",
    },
}


@pytest.mark.parametrize("template", PROGRAMS)
def test_live_and_interactive(api, template):
    """Output arrives while the program runs: the test answers what it has seen, and the program ends only then."""
    accepted = api.start(template, PROGRAMS[template])
    assert accepted["status"] == "pending"
    s = api.stream(accepted, timeout=180)
    s.until_output("out 1\n", "stdout")
    s.until_output("err 1\n", "stderr")
    s.send(type="input", process_id=accepted["process_id"], data="grüße 🎉\n")
    s.until_output("got grüße 🎉\n", "stdout")
    s.send(type="eof", process_id=accepted["process_id"])
    end = s.until_end()
    assert (end["status"], end["verdict"], end["exit_code"]) == ("completed", "EXIT_CODE", 3)
    assert end["usage"]["wall_ms"] > 0
    assert s.seen[-1] is end
    result = api.call("GET", f"/api/executions/{accepted['id']}").json()
    assert (result["status"], result["verdict"], result["exit_code"], result["signal"]) == ("completed", "EXIT_CODE", 3, None)
    assert result["stdout"] == s.text("stdout") and result["stderr"] == s.text("stderr")
    # An arriving viewer gets all of it, once, from the first byte.
    late = api.stream(api.call("GET", f"/api/executions/{accepted['id']}").json() | {"sandbox_id": accepted["sandbox_id"]})
    late.until_end()
    assert late.text("stdout") == s.text("stdout") and late.text("stderr") == s.text("stderr")


def test_disk_at_its_fullest(api):
    program = ("import os, time\nwith open('big', 'wb') as f: f.write(os.urandom(20 << 20)); f.flush(); os.fsync(f.fileno())\n"
               "time.sleep(2)\nos.remove('big')\n")
    usage = api.run("python", {"main.py": program})["usage"]
    assert 20 << 20 <= usage["disk_bytes"] < 40 << 20, usage
    assert api.run("python", {"main.py": "print(1)"})["usage"]["disk_bytes"] < 4 << 20


@pytest.mark.parametrize("template", PROGRAMS)
def test_wait(api, template):
    result = api.run(template, PROGRAMS[template], stdin="alpha\nbeta\n")
    assert result["stdout"].startswith("out 1\ngot alpha\n")
    assert result["stderr"].endswith("err 1\n")
    assert (result["status"], result["verdict"], result["exit_code"]) == ("completed", "EXIT_CODE", 3)
    usage = result["usage"]
    assert usage["output_bytes"] == len(result["stdout"]) + len(result["stderr"])
    assert usage["cpu_ms"] > 0 and usage["memory_peak_bytes"] > 0
    assert (result["compile"] is not None) == (template in ("go", "rust"))
    if result["compile"]:
        assert result["compile"]["verdict"] == "OK"


def test_command_and_env(api):
    r = api.run("python", {"a b.txt": "x"}, command=["ls", "-1", "a b.txt"])
    assert r["stdout"] == "a b.txt\n"
    r = api.run("python", {}, command="echo $GREETING | tr a-z A-Z; pwd; id -u; exit 7", env={"GREETING": "hallo"})
    assert r["stdout"] == "HALLO\n/workspace\n1000\n"
    assert r["exit_code"] == 7
    r = api.run("go", {"main.go": "package main\nfunc main() { println(\"compiled\") }\n"}, command="./main; echo done")
    assert r["stderr"] == "compiled\n" and r["stdout"] == "done\n"


def test_go_with_module(api):
    r = api.run("go", {"go.mod": "module example\n\ngo 1.21\n", "main.go": "package main\n\nimport \"example/sub\"\n\nfunc main() { sub.Hi() }\n",
                       "sub/sub.go": "package sub\n\nimport \"fmt\"\n\nfunc Hi() { fmt.Println(\"hi\") }\n"})
    assert r["stdout"] == "hi\n", r


def test_rust_with_cargo(api):
    r = api.run("rust", {"Cargo.toml": "[package]\nname = \"thing\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
                         "src/main.rs": "fn main() { println!(\"cargo\"); }\n"})
    assert r["stdout"] == "cargo\n", r


def test_node_package_main(api):
    r = api.run("node", {"package.json": "{\"main\": \"src/start.js\"}", "src/start.js": "console.log('started')\n"})
    assert r["stdout"] == "started\n"


def test_binary_content_and_output(api):
    data = bytes(range(256))
    r = api.call("POST", "/api/executions?wait=true", json={
        "template": "python",
        "files": [{"path": "main.py", "content": "import sys\nsys.stdout.buffer.write(open('d/x.bin','rb').read())\n"},
                  {"path": "d/x.bin", "content_base64": base64.b64encode(data).decode()}]}).json()
    assert r["stdout_encoding"] == "base64"
    assert base64.b64decode(r["stdout"]) == data
    out = api.call("GET", f"/api/executions/{r['id']}/output?stream=stdout&from=100")
    assert out.content == data[100:] and out.headers["X-Next-Offset"] == "256"
    assert out.headers["Content-Type"] == "application/octet-stream"


def test_long_output_is_cut_in_the_result_and_whole_in_the_stream(api):
    n = 3_000_000
    accepted = api.start("python", {"main.py": f"print('x' * {n})\n"})
    s = api.stream(accepted)
    s.until_end()
    assert s.output("stdout") == b"x" * n + b"\n"
    r = api.wait_end(accepted["id"])
    assert r["truncated"] is True and len(r["stdout"]) == 1 << 20
    got, offset = b"", 0
    while offset < n + 1:
        out = api.call("GET", f"/api/executions/{accepted['id']}/output?stream=stdout&from={offset}")
        assert out.status_code == 200 and out.content
        got += out.content
        offset = int(out.headers["X-Next-Offset"])
    assert got == b"x" * n + b"\n"


def test_utf8_is_never_split(api):
    text = "äöü€🎉" * 30000
    accepted = api.start("python", {"main.py": f"import sys\nb = {text[:5]!r}.encode() * 30000\nfor i in range(0, len(b), 7):\n"
                                               "    sys.stdout.buffer.write(b[i:i+7]); sys.stdout.flush()\n"})
    s = api.stream(accepted)
    s.until_end()
    assert all("encoding" not in m for m in s.seen if m["type"] == "output")
    assert s.text("stdout") == text


def test_cancel(api):
    accepted = api.start("python", {"main.py": "import time\nprint('up', flush=True)\ntime.sleep(100)\n"})
    s = api.stream(accepted)
    s.until_output("up\n")
    r = api.call("DELETE", f"/api/executions/{accepted['id']}")
    assert r.status_code in (200, 202), r.text
    end = s.until_end()
    assert (end["status"], end["verdict"], end["exit_code"]) == ("cancelled", "CANCELLED", None)
    assert api.wait_end(accepted["id"])["verdict"] == "CANCELLED"
    # Again, and by the stream, of what has ended: nothing changes.
    assert api.call("DELETE", f"/api/executions/{accepted['id']}").status_code in (200, 202, 409)
    accepted = api.start("python", {"main.py": "import time\nprint('up', flush=True)\ntime.sleep(100)\n"})
    s = api.stream(accepted)
    s.until_output("up\n")
    s.send(type="cancel", process_id=accepted["process_id"])
    assert s.until_end()["verdict"] == "CANCELLED"


def test_idempotency(api):
    body = {"template": "python", "files": [{"path": "main.py", "content": "print(1)"}]}
    headers = {"Idempotency-Key": "the-same-key"}
    a = api.call("POST", "/api/executions", json=body, headers=headers)
    b = api.call("POST", "/api/executions", json=body, headers=headers)
    assert a.status_code == b.status_code == 202 and a.json()["id"] == b.json()["id"]
    body["files"][0]["content"] = "print(2)"
    c = api.call("POST", "/api/executions", json=body, headers=headers)
    assert c.status_code == 409, c.text


def test_many_at_once(api):
    accepted = [api.start("python", {"main.py": f"print({i} * {i})\n"}) for i in range(24)]
    for i, a in enumerate(accepted):
        r = api.wait_end(a["id"], timeout=120)
        assert (r["verdict"], r["stdout"]) == ("OK", f"{i * i}\n"), r
