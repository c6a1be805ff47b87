# SPDX-License-Identifier: Apache-2.0
"""`devbox batch`: from a file to results, an exit code, JUnit; on a terminal, in a pipe, and with gateways that die."""

import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import xml.etree.ElementTree as ET

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def program(text, **fields):
    return {"files": [{"path": "main.py", "content": text}], **fields}


def env_of(devbox):
    return {**devbox.env, "DEVBOX_URL": ",".join(d["url"] for d in devbox.daemons("gateway")) or devbox.url, "DEVBOX_API_KEY": devbox.key}


def run(devbox, *args, **kw):
    return subprocess.run([str(ROOT / "devbox"), "batch", *map(str, args)], env=env_of(devbox), text=True, capture_output=True, timeout=180, **kw)


def lines(r):
    return [json.loads(line) for line in r.stdout.splitlines()]


def id_of(r):
    return re.search(r"batch ([0-9a-f-]{36})", r.stderr)[1]


def test_json_and_junit(devbox, tmp_path):
    """The body as a file; results a line each, the batch at the end; again by its id; JUnit."""
    body = {"template": "python", "isolation": "batch",
            "executions": [program(f"print({i})", expected_stdout=f"{i}\n") for i in range(150)] + [program("import sys; sys.exit(3)"), program("print(1)", expected_stdout="2\n")]}
    (tmp_path / "b.json").write_text(json.dumps(body, indent=1))
    r = run(devbox, "run", tmp_path / "b.json", "--junit", tmp_path / "r.xml")
    assert r.returncode == 1, r.stderr
    got = lines(r)
    assert sorted(x["index"] for x in got[:-1]) == list(range(152))
    assert got[-1]["status"] == "completed" and got[-1]["counts"]["completed"] == 152 and got[-1]["id"] == id_of(r) and "results" not in got[-1]
    suite = ET.parse(tmp_path / "r.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("152", "2")
    again = run(devbox, "watch", id_of(r))
    assert again.returncode == 1 and lines(again) == got


def test_lines_from_stdin(devbox):
    items = "\n".join(json.dumps(program("print(input())", stdin=str(i), expected_stdout=f"{i}\n")) for i in range(3))
    r = run(devbox, "run", "-", "--template", "python", "--retry", "safe", input=items)
    assert r.returncode == 0, r.stderr
    assert [x["passed"] for x in lines(r)[:-1]] == [True] * 3 and lines(r)[-1]["retry"] == "safe"


@pytest.mark.parametrize("args,text,words", [
    (["run", "-"], "{}", "--template"),
    (["run", "-", "--template", "python"], "{}\n{", "line 2"),
    (["run", "-", "--template", "nosuch"], "{}", "template"),
    (["run", "-"], '{"template":"python","executions":[{"files":[{"path":"/x","content":""}]}]}', "executions[0].files[0].path"),
    (["run", "/nowhere"], "", "/nowhere"),
    (["run"], "", "which batch"),
    (["watch", "x/../y"], "", "not an id"),
    (["watch", "018f0000-0000-7000-8000-000000000001"], "", ""),
    (["watch", "018f0000-0000-7000-8000-000000000001", "--template", "x"], "", "which batch"),
    (["run", "-", "--junit", "/nowhere/x"], "{}", "/nowhere/x"),
])
def test_wrong(devbox, args, text, words):
    r = run(devbox, *args, input=text)
    assert r.returncode == 125 and words in r.stderr and not r.stdout, r


def test_terminal(devbox, tmp_path):
    (tmp_path / "b").write_text("\n".join(json.dumps(program(p)) for p in ("pass", "import sys; sys.exit(7)", "print('\x1b[31m')")))
    master, slave = pty.openpty()
    p = subprocess.Popen([str(ROOT / "devbox"), "batch", "run", str(tmp_path / "b"), "--template", "python"], env=env_of(devbox), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    assert p.wait() == 1
    text = seen.decode()
    assert "3 of 3, 1 failed" in text and "executions[1] exit code 7" in text and "completed: 2 passed, 1 failed" in text
    assert "{" not in text and "\x1b[31m" not in re.sub(r"\x1b\[1;31mdevbox", "", text)


def test_gateways_die(own_devbox):
    """All of them, one after another, while results come: every result once."""
    box = own_devbox.up("--gateways", "2")
    body = {"template": "python", "isolation": "batch", "executions": [program(f"print({i})", expected_stdout=f"{i}\n") for i in range(200)]}
    p = subprocess.Popen([str(ROOT / "devbox"), "batch", "run", "-"], env=env_of(box), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    p.stdin.write(json.dumps(body))
    p.stdin.close()
    got = []
    for line in p.stdout:
        got.append(json.loads(line))
        if len(got) in (5, 60):
            os.kill(box.daemons("gateway")[len(got) == 5]["pid"], signal.SIGKILL)
    assert p.wait(timeout=120) == 0
    assert sorted(x["index"] for x in got[:-1]) == list(range(200)) and all(x["passed"] for x in got[:-1])


def test_the_example(devbox, tmp_path):
    """The script of docs/ci.md, as it stands there."""
    script = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.S)[1]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "devbox").write_text(f'#!/bin/sh\nexec {ROOT}/devbox "$@"\n')
    (tmp_path / "bin" / "devbox").chmod(0o755)
    env = {**env_of(devbox), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    r = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=180)
    assert r.returncode == 0, r.stderr
    suite = ET.parse(tmp_path / "results.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("10", "0")
    assert len((tmp_path / "results.ndjson").read_text().splitlines()) == 11
