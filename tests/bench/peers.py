# SPDX-License-Identifier: Apache-2.0
"""Servers that ours are measured against, and what asks them: nginx and wrk of Debian, curl."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from benchlib import free_ports, say, wait_for

HOME = pathlib.Path(os.environ.get("DEVBOX_CACHE") or pathlib.Path.home() / ".cache" / "devbox") / "bench-registry"
DEBS = ["nginx", "nginx-common", "wrk", "libluajit-5.1-2", "libluajit-5.1-common"]
SECONDS, CONNECTIONS = 3, 64


def install():
    """Unpacked into the cache folder, once."""
    if (HOME / "root" / "usr" / "sbin" / "nginx").exists() and (HOME / "root" / "usr" / "bin" / "wrk").exists():
        return
    say("fetching nginx and wrk")
    (HOME / "debs").mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-q", *DEBS], cwd=HOME / "debs", check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for deb in (HOME / "debs").glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb, HOME / "root"], check=True)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Peer:
    """A process that serves on a port, with a folder of its own."""

    prefix = ""

    def __init__(self, origin=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="devbox-bench-registry-"))
        self.dir.chmod(0o755)
        self.port = free_ports(1)
        self.log = open(self.dir / "log", "w")
        self.process = subprocess.Popen(self.command(origin), stdout=self.log, stderr=self.log, cwd=self.dir)
        wait_for(lambda: self.process.poll() is not None or answers(self.port), 60, f"{type(self).__name__} serves")
        if self.process.poll() is not None:
            raise RuntimeError((self.dir / "log").read_text()[-2000:])

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{self.prefix}{path}"

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Nginx(Peer):
    """One worker; server: what stands in its server block, origin put for ORIGIN."""

    server = "location / { root DIR; }"

    def command(self, origin):
        server = self.server.replace("ORIGIN", origin or "").replace("DIR", str(self.dir))
        (self.dir / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {self.dir}/pid; error_log {self.dir}/error.log; user root;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; server_tokens off;
  client_body_temp_path {self.dir}/body; proxy_temp_path {self.dir}/temp; fastcgi_temp_path {self.dir}/f; uwsgi_temp_path {self.dir}/u; scgi_temp_path {self.dir}/s;
  proxy_cache_path {self.dir}/cache levels=1:2 keys_zone=c:16m max_size=1g use_temp_path=off;
  default_type application/json;
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    {server}
  }}
}}
""")
        return [HOME / "root" / "usr" / "sbin" / "nginx", "-p", self.dir, "-c", self.dir / "nginx.conf", "-e", self.dir / "error.log"]


# A script of wrk's: the paths in turn.
ROUND = """local paths, n = {%s}, 0
request = function() n = n %% #paths + 1 return wrk.format(nil, paths[n]) end
"""


def wrk(url, headers=(), seconds=SECONDS, connections=CONNECTIONS, paths=()):
    """(requests/s, p99 in ms) of answers that are all good. paths: asked in turn, instead of url's own."""
    words = [HOME / "root" / "usr" / "bin" / "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "20s"]
    for h in headers:
        words += ["-H", h]
    env = os.environ | {"LD_LIBRARY_PATH": str(HOME / "root" / "usr" / "lib" / f"{os.uname().machine}-linux-gnu")}
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if paths:
            script.write(ROUND % ", ".join(f'"{p}"' for p in paths))
            script.flush()
            words += ["-s", script.name]
        out = subprocess.run([*words, url], check=True, capture_output=True, text=True, env=env).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(f"{url}: {out}")
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def curl(url, *options):
    r = subprocess.run(["curl", "-fsS", *options, url], check=True, capture_output=True)
    return r.stdout
