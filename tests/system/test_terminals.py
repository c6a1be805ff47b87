# SPDX-License-Identifier: Apache-2.0
"""Terminals in workspaces, through the stream: what a person at a shell relies on."""

import base64
import hashlib
import os
import re
import time

import pytest
import websocket

from test_workspaces import Workspace


class Terminal:
    """A program at a terminal, and who sits before it."""

    def __init__(self, ws, command=("bash", "--norc"), cols=80, rows=24, **fields):
        self.ws, self.api = ws, ws.api
        self.run = ws.start(command if isinstance(command, str) else list(command),
                            pty={"cols": cols, "rows": rows}, **fields)
        self.id = self.run["process_id"]
        self.s = self.api.stream(self.run, timeout=60)
        self.at = 0

    def screen(self):
        """The bytes so far; the stream has those of the sandbox's other processes too."""
        return b"".join(base64.b64decode(m["data"]) if m.get("encoding") == "base64" else m["data"].encode()
                        for m in self.s.seen if m["type"] == "output" and m["process_id"] == self.id)

    def until_end(self):
        return self.s.until(lambda m: m["type"] == "status" and m["process_id"] == self.id and m["status"] != "running")

    def type(self, data, **fields):
        self.s.send(type="input", process_id=self.id, data=data, **fields)

    def until(self, pattern):
        """Until the screen's bytes behind the last match have it; returns the match."""
        while True:
            text = re.sub(r"\x1b\[\?2004[hl]", "", self.screen().decode(errors="replace"))  # bracketed paste
            m = re.compile(pattern, re.S).search(text, self.at)
            if m:
                self.at = m.end()
                return m
            try:
                m = self.s.next()
            except websocket.WebSocketTimeoutException:
                raise AssertionError(f"{pattern!r} does not come: {text[self.at:]!r}") from None
            assert m["process_id"] != self.id or m["type"] == "output" or m.get("status") == "running", m

    def until_there(self, program, count=1):
        deadline = time.monotonic() + 60
        while self.ws.run(["pgrep", "-cx", program])[1] != f"{count}\n":
            assert time.monotonic() < deadline, program

    def resize(self, cols, rows):
        self.s.send(type="resize", process_id=self.id, cols=cols, rows=rows)


@pytest.fixture()
def ws(api):
    w = Workspace(api)
    yield w
    api.call("DELETE", w.path)


def test_job_control(ws):
    t = Terminal(ws, env={"PS1": "<\\w>"})
    t.until("<.*>")
    t.type("sleep 100\r")
    t.until("sleep 100\r\n")
    # The shell has put it into the foreground when it bears this name.
    t.until_there("sleep")
    t.type("\x1a")
    t.until(r"\[1\]\+ +Stopped +sleep 100\r\n<")
    t.type("jobs\r")
    t.until(r"\[1\]\+ +Stopped +sleep 100\r\n<")
    t.type("bg\r")
    t.until(r"\[1\]\+ sleep 100 &\r\n<")
    t.type("fg\r")
    t.until("sleep 100\r\n")
    t.type("\x03")
    t.until(r"\r\n<")
    t.type("echo code $? $TERM\r")
    t.until("code 130 xterm-256color\r\n<")
    t.type("tty; test -t 0 && test -t 2 && echo 'a t''ty'\r")
    t.until("/dev/pts/0\r\na tty\r\n<")
    t.type("exit 7\r")
    end = t.until_end()
    assert (end["verdict"], end["exit_code"]) == ("EXIT_CODE", 7)
    out = t.api.call("GET", f"/api/processes/{t.id}/output?stream=pty").content
    assert out == t.screen()
    assert {m["stream"] for m in t.s.seen if m["type"] == "output" and m["process_id"] == t.id} == {"pty"}


@pytest.mark.parametrize("key,name", [("\x03", "C"), ("\x1a", "Z"), ("\x1c", "\\\\")])
def test_a_key_takes_what_was_typed_ahead(ws, key, name):
    t = Terminal(ws, env={"PS1": "<\\w>"})
    t.until("<.*>")
    t.type("sleep 100\r")
    t.until_there("sleep")
    t.type("echo a''head; ")
    t.type("echo a''head\r")
    t.type(key)
    t.until(rf"\^{name}.*<")
    t.type("echo b''ehind\r")
    t.until("behind\r\n<")
    assert b"ahead\r\n" not in t.screen().replace(b"a''head\r\n", b"")


def test_keys_are_bytes_where_nobody_wants_signals(ws):
    t = Terminal(ws, ["sh", "-c", "stty -isig -icanon -echo; echo up; head -c 5 | od -An -c"])
    t.until("up\r\n")
    t.type("a\x03b\x1a\x1c")
    t.until(r"a 003   b 032 034\r\n")


def test_size(ws):
    t = Terminal(ws, ["sh", "-c", "stty size; trap 'stty size' WINCH; echo ready; while :; do read x || :; done"], 91, 33)
    t.until("33 91\r\nready\r\n")
    t.resize(132, 50)
    t.until("50 132\r\n")
    t.resize(0, 1)
    assert t.s.next()["code"] == "invalid"
    plain = ws.start("cat")
    t.s.until(lambda m: m.get("process_id") == plain["process_id"] and m["type"] == "status")
    t.s.send(type="resize", process_id=plain["process_id"], cols=80, rows=24)
    assert t.s.until(lambda m: m["type"] == "error")["code"] == "no_terminal"
    t.api.call("POST", f"/api/processes/{t.id}/cancel")
    t.s.until(lambda m: m["type"] == "status" and m["status"] == "cancelled")


def test_programs_that_draw(ws):
    ws.put("poem", "".join(f"line {i}\n" for i in range(200)))
    t = Terminal(ws, env={"PS1": "<>"})
    t.until("<>")
    t.type("less poem\r")
    t.until("line 22\r?\n.*poem")
    t.type("G")
    t.until("line 199\r?\n.*END")
    t.type("q")
    t.until("<>")
    t.type("vim.tiny -u NONE poem\r")
    t.until("200 lines.*line 22")
    t.type("iHELLO \x1b:wq\r")
    t.until("written.*<>")
    t.type("head -1 poem\r")
    t.until("HELLO line 0\r\n<>")
    t.type("\x04")  # the end of a shell's input
    assert t.until_end()["exit_code"] == 0


def test_paste_of_a_megabyte(ws):
    """In pieces, paced by `input_taken`; the program reads raw, as editors do."""
    ws.put("eat.py", """import hashlib, os, sys, termios, tty
tty.setraw(0)
print('ready', flush=True)
h, n = hashlib.sha256(), 0
while n < 1 << 20:
    b = os.read(0, 1 << 16)
    n += len(b)
    h.update(b)
print(h.hexdigest(), flush=True)
""")
    t = Terminal(ws, ["python3", "eat.py"])
    t.until("ready")
    data = os.urandom(1 << 19).hex()
    for seq in range(0, 16):
        t.type(data[seq << 16:(seq + 1) << 16], seq=seq)
        t.s.until(lambda m: m["type"] == "input_taken" and m["seq"] == seq)
    t.until(hashlib.sha256(data.encode()).hexdigest())
    assert t.until_end()["verdict"] == "OK"


def test_viewers_come_back(ws):
    t = Terminal(ws, ["sh", "-c", "stty -echo; echo go; for i in 1 2 3; do read x; seq $x; done"])
    t.until("go")
    said = b""
    for n in (500, 600, 700):
        t.type(f"{n}\r")
        t.until(f"\r?\n?{n}\r\n")
        last = [m["id"] for m in t.s.seen if m["type"] == "output" and m["process_id"] == t.id][-1]
        said += t.screen()
        t.s.close()
        t.s, t.at = t.api.stream(t.run, resume=f"{t.id}:{last}"), 0
    assert t.until_end()["verdict"] == "OK"
    said += t.screen()
    assert said == b"go\r\n" + b"".join(b"%d\r\n" % i for n in (500, 600, 700) for i in range(1, n + 1))
    t.s = t.api.stream(t.run)
    t.until_end()
    assert t.screen() == said


def test_end_hangs_up(ws):
    """Who is left of the session is told; what asked not to be goes on."""
    t = Terminal(ws, env={"PS1": "<>"})
    t.until("<>")
    t.type("(trap 'echo hup > told; exit' HUP; while :; do sleep 0.05; done) &\r")
    t.until("<>")
    t.type("nohup tail -f /dev/null > /dev/null 2>&1 &\r")
    t.until("<>")
    t.until_there("tail")
    t.type("disown -a; exit\r")
    assert t.until_end()["exit_code"] == 0
    deadline = time.monotonic() + 60
    while ws.run("cat told")[1] != "hup\n":
        assert time.monotonic() < deadline
    assert ws.run("pkill -x tail")[0]["exit_code"] == 0
    # Cancelled: nothing of the session is left.
    t = Terminal(ws, env={"PS1": "<>"})
    t.until("<>")
    t.type("nohup sleep 300 > /dev/null 2>&1 & (trap '' HUP; exec sleep 301)\r")
    t.until_there("sleep", 2)
    assert t.api.call("POST", f"/api/processes/{t.id}/cancel").status_code == 202
    assert t.until_end()["verdict"] == "CANCELLED"
    assert ws.run("pgrep sleep")[1] == ""


def test_signals_and_input_by_rest(ws):
    t = Terminal(ws, ["sh", "-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"])
    t.until("ready")
    path = f"/api/processes/{t.id}"
    assert t.api.call("POST", path + "/signal", json={"signal": "SIGUSR1"}).status_code == 204
    t.until("usr1\r\n")
    r = t.api.call("POST", path + "/signal", json={"signal": "SIGSEGV"})
    assert (r.status_code, r.json()["error"]["field"]) == (400, "signal")
    assert ws.input(t.run, "\x03").status_code == 204
    end = t.until_end()
    assert end["signal"] == "SIGINT"
    assert t.api.call("POST", path + "/signal", json={"signal": "SIGTERM"}).status_code == 409
    t = Terminal(ws, ["cat"])
    t.s.until(lambda m: m["type"] == "status" and m["process_id"] == t.id)
    assert ws.input(t.run, "words\n", eof=True).status_code == 204
    assert t.until_end()["exit_code"] == 0
    assert t.screen() == b"words\r\nwords\r\n"
