# SPDX-License-Identifier: Apache-2.0
"""A small client of the contract: REST by requests, the stream by websocket-client."""

import base64
import json
import time

import requests
import websocket


class Client:
    def __init__(self, url, key, timeout=120):
        self.url, self.key, self.timeout = url.rstrip("/"), key, timeout
        self.http = requests.Session()
        if key:
            self.http.headers["Authorization"] = f"Bearer {key}"

    def call(self, method, path, **kw):
        kw.setdefault("timeout", self.timeout)
        return self.http.request(method, self.url + path, **kw)

    def submit(self, template, files, wait=False, **fields):
        body = {"template": template, "files": [{"path": p, "content": c} for p, c in files.items()], **fields}
        return self.call("POST", "/api/executions" + ("?wait=true" if wait else ""), json=body)

    def run(self, template, files, **fields):
        """Runs to the end; returns the result object."""
        r = self.submit(template, files, wait=True, **fields)
        assert r.status_code == 200, r.text
        return r.json()

    def start(self, template, files, **fields):
        r = self.submit(template, files, **fields)
        assert r.status_code == 202, r.text
        return r.json()

    def stream(self, accepted, **kw):
        return Stream(self.url, accepted["sandbox_id"], accepted["stream_token"], **kw)

    def wait_end(self, execution_id, timeout=60):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            r = self.call("GET", f"/api/executions/{execution_id}").json()
            if r["status"] not in ("pending", "running"):
                return r
            time.sleep(0.05)
        raise AssertionError(f"{execution_id} did not end: {r}")


class Stream:
    """One connection to /api/stream/{sandbox}."""

    def __init__(self, url, sandbox_id, token, resume=None, timeout=60, subprotocol=None):
        query = f"?token={token}" + (f"&resume={resume}" if resume else "")
        self.ws = websocket.create_connection(
            url.replace("http", "ws", 1) + f"/api/stream/{sandbox_id}{query}", timeout=timeout,
            subprotocols=[subprotocol] if subprotocol else None)
        self.seen, self.timeout = [], timeout

    def next(self):
        """The next message. The deadline is its own: the server's pings begin the socket's timeout anew."""
        deadline = time.monotonic() + self.timeout
        while True:
            opcode, frame = self.ws.recv_data_frame(control_frame=True)
            if opcode != websocket.ABNF.OPCODE_PING:
                break
            assert time.monotonic() < deadline, f"only pings came in {self.timeout} s; before: {self.seen[-20:]}"
        m = json.loads(frame.data if opcode != websocket.ABNF.OPCODE_CLOSE else b"")
        m["_at"] = time.time()
        self.seen.append(m)
        return m

    def until(self, predicate):
        while True:
            m = self.next()
            if predicate(m):
                return m

    def until_output(self, text, stream=None):
        """Until the output so far (of that stream) contains text."""
        while text not in self.text(stream):
            self.next()

    def until_end(self):
        return self.until(lambda m: m["type"] == "status" and m["status"] in ("completed", "failed", "cancelled"))

    def send(self, **message):
        self.ws.send(json.dumps(message))

    def output(self, stream=None, phase=None):
        return b"".join(
            base64.b64decode(m["data"]) if m.get("encoding") == "base64" else m["data"].encode()
            for m in self.seen
            if m["type"] == "output" and (stream is None or m["stream"] == stream) and m.get("phase") == phase)

    def text(self, stream=None, phase=None):
        return self.output(stream, phase).decode()

    def close(self):
        self.ws.close()
