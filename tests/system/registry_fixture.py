# SPDX-License-Identifier: Apache-2.0
"""The registry cache between scripted upstreams and raw clients."""

import base64
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def find_cache():
    for d in [os.environ.get("DEVBOX_BIN"), ROOT / "build/asan/bin", ROOT / "build/release/bin",
              pathlib.Path(os.environ.get("DEVBOX_BUILD", "/nonexistent")) / "bin"]:
        if d and (pathlib.Path(d) / "devbox-registry-cache").exists():
            return str(pathlib.Path(d) / "devbox-registry-cache")
    pytest.skip("the registry cache is not built (DEVBOX_BIN)")


def eventually(fn, timeout=60):
    deadline = time.monotonic() + timeout
    while True:
        value = fn()
        if value:
            return value
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def sri(data):
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


class Upstream:
    """An HTTP server whose pages are functions of the handler, or (status, headers, body). Counts what is asked for."""

    def __init__(self):
        self.pages, self.counts, self.heads, self.lock = {}, {}, [], threading.Lock()
        self.away = False  # then every connection breaks off
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if outer.away:
                    self.close_connection = True
                    return
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with outer.lock:
                    outer.counts[self.path] = outer.counts.get(self.path, 0) + 1
                    outer.heads.append((self.path, dict(self.headers)))
                page = outer.pages.get(self.path, (404, {}, b"{}"))
                if callable(page):
                    try:
                        page = page(self)
                    except OSError:
                        self.close_connection = True
                        return
                if page:
                    status, headers, body = page
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(body)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def npm(self, name, files, prefix="/npm", **fields):
        """A packument: files is {version: bytes}; the tarballs are pages too."""
        base = name.split("/")[-1]
        versions = {}
        for version, data in files.items():
            path = f"{prefix}/{name}/-/{base}-{version}.tgz"
            self.pages[path] = (200, {}, data)
            versions[version] = {"name": name, "version": version, "dist": {"tarball": self.url + path, "integrity": sri(data)}}
        doc = {"name": name, "dist-tags": {"latest": max(files)}, "versions": versions, **fields}
        self.pages[f"{prefix}/{name.replace('/', '%2f')}"] = (200, {"Content-Type": "application/json", "Cache-Control": "max-age=300"},
                                                              json.dumps(doc).encode())
        return doc

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Answer:
    def __init__(self, response):
        self.status, self.headers = response.status, {k.lower(): v for k, v in response.getheaders()}
        self.body = response.read()


class Cache:
    """The real daemon on a folder of its own."""

    def __init__(self, folder, upstreams, *options, rules=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.program = find_cache()
        (self.folder / "upstreams.conf").write_text(upstreams)
        (self.folder / "rules.conf").write_text(rules or "")
        self.options = list(options)
        self.socket = self.folder / "s.sock"
        self.process = None

    def start(self, *more):
        log = open(self.folder / "log", "a")
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        fd = listener.fileno()
        self.process = subprocess.Popen(
            [self.program, f"--listen=fd:{fd}", f"--dir={self.folder / 'store'}", f"--upstreams={self.folder / 'upstreams.conf'}",
             f"--rules={self.folder / 'rules.conf'}", f"--socket={self.socket}", *self.options, *more],
            pass_fds=(fd,), stdout=log, stderr=log)
        listener.close()
        eventually(lambda: self.process.poll() is not None or self.is_up())
        assert self.process.poll() is None, self.log()[-2000:]
        return self

    def is_up(self):
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(60) == 0, self.log()[-4000:]

    def get(self, path, method="GET", body=None, unix=False, timeout=60, **headers):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        if unix:
            c.sock = socket.socket(socket.AF_UNIX)
            c.sock.settimeout(timeout)
            c.sock.connect(str(self.socket))
        try:
            c.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
            return Answer(c.getresponse())
        finally:
            c.close()

    def metrics(self):
        lines = self.get("/metrics").body.decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}

    def fsck(self):
        return subprocess.run([self.program, "--fsck", f"--dir={self.folder / 'store'}"], capture_output=True, text=True)
