# SPDX-License-Identifier: Apache-2.0
"""A throw-away PostgreSQL on a Unix socket, and rows in it, by psql: no Python driver is needed."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import uuid


def bindir():
    return pathlib.Path(subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True).stdout.strip())


class Postgres:
    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="devbox-pg-"))
        self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        if self.as_user:
            shutil.chown(self.dir, "postgres", "postgres")
            self.dir.chmod(0o711)  # daemons pass without a capability
        self.conninfo = f"host={self.dir} user=postgres dbname=postgres"
        subprocess.run([*self.as_user, bindir() / "initdb", "-D", self.dir / "data", "-N", "-A", "trust", "-U", "postgres",
                        "-E", "UTF8", "--locale=C.UTF-8"], check=True, capture_output=True, cwd="/")
        self.start()

    def start(self):
        self.proc = subprocess.Popen(
            [*self.as_user, bindir() / "postgres", "-D", self.dir / "data", "-k", self.dir, "-c", "listen_addresses=",
             "-c", "fsync=off", "-c", "max_connections=100", "-c", "log_min_messages=fatal"],
            cwd="/", stdin=subprocess.DEVNULL, stderr=open(self.dir / "log", "ab"))
        deadline = time.monotonic() + 60
        while subprocess.run([bindir() / "pg_isready", "-h", self.dir], capture_output=True).returncode != 0:
            assert time.monotonic() < deadline and self.proc.poll() is None, (self.dir / "log").read_text()
            time.sleep(0.02)

    def stop(self):
        self.proc.send_signal(3)  # SIGQUIT: at once
        self.proc.wait(60)

    def close(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def sql(self, text):
        """Rows as lists of strings."""
        r = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", self.conninfo, "-c", text],
                           capture_output=True, text=True)
        assert r.returncode == 0, r.stderr
        return [line.split("\x1f") for line in r.stdout.splitlines() if line]

    def database(self):
        """The conninfo of a new database of its own."""
        name = "t" + uuid.uuid4().hex
        self.sql(f"create database {name}")
        other = object.__new__(Postgres)
        other.__dict__.update(self.__dict__)
        other.conninfo = f"host={self.dir} user=postgres dbname={name}"
        return other

    def owner(self):
        user = str(uuid.uuid4())
        self.sql(f"insert into users (id) values ('{user}')")
        return user

    def process(self, owner, files=b"DBXF\0\0\0\0", stdin=b"", template="python", retry="never", age_ms=0):
        """A committed, pending process as a gateway writes it. Returns what `place` says of it."""
        pid, sid = str(uuid.uuid4()), str(uuid.uuid4())
        request = {"template": template, "command": None, "env": {}, "stdin_open": False, "limits": {}, "compile_limits": {},
                   "retry": retry}
        self.sql(f"""begin;
            insert into sandboxes (id, owner, template, kind) values ('{sid}', '{owner}', '{template}', 'run');
            insert into processes (id, sandbox_id, execution_id, owner, retry, log_offset, request, created_at) values
                ('{pid}', '{sid}', '{uuid.uuid4()}', '{owner}', '{retry}', 0, '{json.dumps(request)}',
                 now() - interval '{age_ms} milliseconds');
            insert into process_inputs values ('{pid}', '\\x{files.hex()}', '\\x{stdin.hex()}');
            commit""")
        return {"process_id": pid, "sandbox_id": sid, "owner": owner, "trace": "", "accepted_us": int(time.time() * 1e6),
                "request": request, "files_len": len(files)}

    def row(self, process_id):
        columns = ["status", "verdict", "attempt", "node_id", "epoch", "outcome"]
        rows = self.sql(f"select {', '.join(columns)}, started_at is not null, ended_at is not null,"
                        f" (select count(*) from process_inputs where process_id = p.id)"
                        f" from processes p where id = '{process_id}'")
        return dict(zip(columns + ["started", "ended", "inputs"], rows[0]))
