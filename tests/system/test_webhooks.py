# SPDX-License-Identifier: Apache-2.0
"""Webhooks of batches: a receiver that fails, hangs, redirects and lies gets it once in the end."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import signal
import threading
import time

import pytest

from test_batches import program, start, wait_over

SECRET = "a secret of the receiver"
# The script of the docs, as it stands there.
DOC = (pathlib.Path(__file__).resolve().parents[2] / "docs/protocols.md").read_text()
exec(re.search(r"```python\n(import hashlib, hmac.*?)```", DOC, re.S).group(1))


class Receiver(http.server.ThreadingHTTPServer):
    """Answers as it is told: one word an attempt, the last for ever."""

    daemon_threads = True

    def __init__(self, *script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket.setblocking(False)  # serve_forever would not come back from a connection that is gone, nor close()
        self.script, self.seen, self.news = list(script), [], threading.Condition()
        self.done = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait_for(self, n, timeout=60):
        with self.news:
            assert self.news.wait_for(lambda: len(self.seen) >= n, timeout), self.seen

    def close(self):
        self.done.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        s = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with s.news:
            what = s.script.pop(0) if len(s.script) > 1 else s.script[0]
            s.seen.append((what, self.path, dict(self.headers), body))
            s.news.notify_all()
        if what == "hang":
            s.done.wait(60)
        elif what == "redirect":
            self.send_response(307)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif what == "lie":
            self.wfile.write(b"HTTP/1.1 2OO OK\r\n\r\n")
        elif what == "cut":
            self.close_connection = True
        elif what in ("headers", "flood"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" if what == "headers" else b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while not s.done.is_set():
                    self.wfile.write(b"X-Left: right\r\n" * 1000)
            self.close_connection = True
        else:
            self.send_response(int(what))
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    from conftest import DevBox, free_port

    b = DevBox(tmp_path_factory.mktemp("webhooks"), free_port())
    b.env.update(DEVBOX_GATEWAY_WEBHOOK_ALLOW="127.0.0.1/32", DEVBOX_GATEWAY_WEBHOOK_BACKOFF_MS="50",
                 DEVBOX_GATEWAY_WEBHOOK_ATTEMPTS="6")
    try:
        yield b.up()
    finally:
        b.down()


def delivery(api, batch, status, timeout=60):
    deadline = time.monotonic() + timeout
    while True:
        d = api.call("GET", f"/api/batches/{batch}/webhook").json()
        if d["status"] == status:
            return d
        assert time.monotonic() < deadline, d
        time.sleep(0.05)


def hooked(api, receiver, **hook):
    return start(api, [{"files": program("print(1)")}] * 2, webhook={"url": receiver.url, **hook})


def test_in_the_end(box):
    """Every failure is tried again; then it is told once, signed."""
    api, r = box.client(), Receiver("500", "redirect", "lie", "cut", "204")
    try:
        batch = hooked(api, r, secret=SECRET)
        d = delivery(api, batch, "delivered")
        assert (d["attempts"], d["last_status"], d["last_error"], d["url"]) == (5, 204, None, r.url)
        assert [(what, path) for what, path, _, _ in r.seen] == [(w, "/hook") for w in ("500", "redirect", "lie", "cut", "204")]
        for i, (_, _, headers, body) in enumerate(r.seen):
            assert verified(SECRET, headers["DevBox-Signature"], body)
            assert not verified("another secret, not his", headers["DevBox-Signature"], body)
            assert not verified(SECRET, headers["DevBox-Signature"], body + b" ")
            assert headers["DevBox-Delivery"] == f"{batch}/{i + 1}"
        told = json.loads(r.seen[-1][3])
        assert told["type"] == "batch.ended" and told["id"] == batch and told["status"] == "completed"
        assert told["counts"] == {"completed": 2, "failed": 0, "cancelled": 0} and told["total"] == 2
        assert api.call("GET", f"/api/batches/{batch}?limit=0").json()["webhook"] == "delivered"
    finally:
        r.close()


def test_an_answer_without_end(box):
    """One that never comes to its body is none; what is said behind a good status is not waited for."""
    api, r = box.client(), Receiver("headers", "flood")
    try:
        d = delivery(api, hooked(api, r), "delivered")
        assert (d["attempts"], d["last_status"], d["last_error"]) == (2, 200, None)
        assert [what for what, _, _, _ in r.seen] == ["headers", "flood"]
    finally:
        r.close()


def test_kept_as_failed(box):
    """Enough is enough; whoever mends his receiver has it delivered again."""
    api, r = box.client(), Receiver("503")
    try:
        batch = hooked(api, r)
        d = delivery(api, batch, "failed")
        assert (d["attempts"], d["last_status"]) == (6, 503) and "503" in d["last_error"] and len(r.seen) == 6
        assert "v1=" not in r.seen[0][2]["DevBox-Signature"]  # no secret, no signature
        r.script[:] = ["200"]
        again = api.call("POST", f"/api/batches/{batch}/webhook")
        assert again.status_code == 200 and again.json()["status"] in ("waiting", "delivered")
        d = delivery(api, batch, "delivered")
        assert d["attempts"] == 1 and len(r.seen) == 7
    finally:
        r.close()


def test_hanging_receiver(box):
    api, r = box.client(), Receiver("hang", "200")
    try:
        batch = hooked(api, r)
        d = delivery(api, batch, "delivered", timeout=90)
        assert d["attempts"] == 2 and len(r.seen) == 2
    finally:
        r.close()


def test_gateways_die(box):
    """Whoever had taken it is gone: another takes it when the lease has run out. At least once, and known then."""
    api, r = box.client(), Receiver("hang", "200")
    try:
        batch = hooked(api, r)
        r.wait_for(1)
        for g in box.daemons("gateway"):
            os.kill(g["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 100
        while True:
            try:
                d = api.call("GET", f"/api/batches/{batch}/webhook", timeout=60).json()
                if d.get("status") == "delivered":
                    break
            except Exception:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert d["attempts"] == 2 and len(r.seen) == 2
    finally:
        r.close()


@pytest.mark.parametrize("url", ["http://0x7f.2:1/", "http://2130706434:1/", "http://[::ffff:127.0.0.1]:1/"])
def test_not_there(box, url):
    """Only what the operator lists besides public addresses is connected to, however it is written."""
    api = box.client()
    r = api.call("POST", "/api/batches", json={"template": "python", "executions": [{"files": program("1")}],
                                               "webhook": {"url": url}})
    if r.status_code == 400:
        assert r.json()["error"]["field"] == "webhook.url"
        return
    batch = r.json()["id"]
    wait_over(api, batch)
    d = delivery(api, batch, "failed")
    assert d["last_status"] is None and d["last_error"]
