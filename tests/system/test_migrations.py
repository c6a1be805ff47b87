# SPDX-License-Identifier: Apache-2.0
"""The schema's migrations, from each version up: applied once, by one of two schedulers that start together; what a version wrote is served
afterwards; and the release before goes on working on what comes after it."""

import hashlib
import re
import subprocess
import threading
import uuid

import pytest
import requests

from client import Client
from link_peer import Keyring
from pg_fixture import Postgres
from test_gateway import ROOT, find_bin
from test_scheduler import Scheduler, eventually

FILES = sorted((ROOT / "common/proto/schema").glob("*.sql"))
LAST = len(FILES)
KEY = "a-key-of-the-first-version-0123456789"
OUTCOME = '{"compile":null,"run":{"verdict":"EXIT_CODE","exit_code":7,"signal":null,"stdout_bytes":0,"stderr_bytes":0,"usage":{"queued_ms":1,"start_ms":2,"wall_ms":3,"cpu_ms":4,"memory_peak_bytes":5,"output_bytes":0}},"status":"completed","verdict":"EXIT_CODE"}'
REQUEST = '{"template":"python","command":null,"env":{},"stdin_open":false,"limits":{},"compile_limits":{},"retry":"never"}'


class Rows:
    """What the releases of each version wrote, with ids of its own."""

    def __init__(self, key):
        self.key = key
        names = ("user", "key", "run", "run2", "ended", "execution", "waiting", "workspace", "box", "file", "process", "session", "link",
                 "batch", "item", "itembox")
        self.id = {n: str(uuid.uuid4()) for n in names}
        hashed = hashlib.sha256(key.encode()).hexdigest()
        i = self.id
        self.sql = {
            1: f"""insert into users (id, email) values ('{i["user"]}', '{i["user"]}@example.org');
                   insert into api_keys (id, user_id, hash, label) values ('{i["key"]}', '{i["user"]}', '\\x{hashed}', 'first');
                   insert into sandboxes (id, owner, template, kind, ended_at) values ('{i["run"]}', '{i["user"]}', 'python', 'run', now());
                   insert into sandboxes (id, owner, template, kind) values ('{i["run2"]}', '{i["user"]}', 'python', 'run');
                   insert into processes (id, sandbox_id, execution_id, owner, status, verdict, outcome, attempt, node_id, epoch, log_offset, request,
                                          started_at, ended_at)
                       values ('{i["ended"]}', '{i["run"]}', '{i["execution"]}', '{i["user"]}', 'completed', 'EXIT_CODE', '{OUTCOME}', 1, 'n1', 1, 0,
                               '{REQUEST}', now(), now());
                   insert into processes (id, sandbox_id, execution_id, owner, log_offset, request)
                       values ('{i["waiting"]}', '{i["run2"]}', '{uuid.uuid4()}', '{i["user"]}', 0, '{REQUEST}');
                   insert into process_inputs values ('{i["waiting"]}', '\\x4442584600000000', '');
                   insert into idempotency (owner, key, request_hash, response, status) values ('{i["user"]}', 'k', '\\x00', '{{}}', 202);
                   insert into nodes (id, url, version, state) values ('n{i["user"][:8]}', 'http://127.0.0.1:1', '1', 'lost')""",
            2: f"""insert into sandboxes (id, owner, template, kind, node_id) values ('{i["box"]}', '{i["user"]}', 'python', 'workspace', 'n1');
                   insert into workspaces (id, owner, name, template, sandbox_id)
                       values ('{i["workspace"]}', '{i["user"]}', 'old one', 'python', '{i["box"]}');
                   insert into files (id, workspace_id, path, type, content, size, etag)
                       values ('{i["file"]}', '{i["workspace"]}', 'a.txt', 'file', 'hello', 5, '{hashlib.sha256(b"hello").hexdigest()}');
                   insert into processes (id, sandbox_id, owner, status, verdict, log_offset, request, ended_at)
                       values ('{i["process"]}', '{i["box"]}', '{i["user"]}', 'cancelled', 'CANCELLED', 0, '{REQUEST}', now())""",
            3: f"update workspaces set revision = revision + 1 where id = '{i['workspace']}'; update files set path = 'b.txt' where id = '{i['file']}'",
            4: f"""insert into sessions (id, user_id, hash, expires_at) values ('{i["session"]}', '{i["user"]}', sha256('{i["session"]}'), now() + interval '1 day');
                   insert into workspace_members (workspace_id, email, role) values ('{i["workspace"]}', 'friend@example.org', 'viewer');
                   insert into share_links (id, workspace_id, slug, role) values ('{i["link"]}', '{i["workspace"]}', '{i["link"]}', 'editor');
                   insert into audit (actor, action) values ('{i["user"]}', 'register')""",
            6: f"""insert into batches (id, owner, template, isolation, retry, priority, files, total, done, n_completed, status, ended_at)
                       values ('{i["batch"]}', '{i["user"]}', 'python', 'execution', 'never', 0, '\\x4442584600000000', 1, 1, 1, 'completed', now());
                   insert into sandboxes (id, owner, template, kind, ended_at) values ('{i["itembox"]}', '{i["user"]}', 'python', 'run', now());
                   insert into processes (id, sandbox_id, execution_id, owner, status, verdict, outcome, log_offset, request, started_at, ended_at,
                                          batch_id, batch_index, batch_seq)
                       values ('{i["item"]}', '{i["itembox"]}', '{uuid.uuid4()}', '{i["user"]}', 'completed', 'EXIT_CODE', '{OUTCOME}', 0, '{REQUEST}', now(), now(),
                               '{i["batch"]}', 0, 1)""",
        }

    def until(self, version):
        return ";\n".join(sql for v, sql in self.sql.items() if v <= version)


@pytest.fixture(scope="module")
def pg():
    pg = Postgres()
    yield pg
    pg.close()


class World:
    """A database at a version, and the daemons of now."""

    def __init__(self, pg, tmp, version):
        self.dir, self.db = tmp, pg.database()
        self.db.sql("create table schema_migrations (version integer primary key, applied_at timestamptz not null default now())")
        for n, f in enumerate(FILES[:version], 1):
            self.db.sql(f"begin; {f.read_text()}; insert into schema_migrations (version) values ({n}); commit")
        self.keys = Keyring(tmp / "keys")
        self.daemons = []

    def gateway(self, scheduler):
        (self.dir / "admin").write_text("an-administrators-key-0123456789\n")
        (self.dir / "templates").mkdir()
        (self.dir / "templates/python.json").write_text(
            '{"name":"python","title":"Python","order":1,"extensions":["py"],"entries":[{"file":"main.py","run":["x"]}]}')
        (self.dir / "log").mkdir()
        proc = subprocess.Popen(
            [find_bin() / "devbox-gateway", "--listen=127.0.0.1:0", f"--database={self.db.conninfo}",
             f"--scheduler=ws://127.0.0.1:{scheduler.port}/gateway", f"--keys={self.keys.path}", f"--output-log=file:{self.dir}/log",
             f"--templates-dir={self.dir}/templates", f"--admin-key-file={self.dir}/admin"], stderr=subprocess.PIPE, text=True)
        self.daemons.append(proc)
        port = next(re.search(r"port (\d+)", line)[1] for line in proc.stderr if "serving on port" in line)
        threading.Thread(target=proc.stderr.read, daemon=True).start()
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: requests.get(url + "/readyz", timeout=60).status_code == 200)
        return url


@pytest.mark.parametrize("version", range(LAST))
def test_from_each_version_up(pg, tmp_path, version):
    w = World(pg, tmp_path, version)
    rows = Rows(KEY)
    w.db.sql(rows.until(version) or "select 1")
    both = [Scheduler(w), Scheduler(w)]
    try:
        eventually(lambda: all(s.get("/readyz")[0] for s in both), 60)
        applied = w.db.sql("select version from schema_migrations order by 1")
        assert applied == [[str(n)] for n in range(1, LAST + 1)]
        leader = eventually(lambda: next((s for s in both if s.get("/readyz")[1].startswith("leader")), None))
        w.db.sql(";".join(sql for v, sql in rows.sql.items() if v > version) or "select 1")  # what of it could not be there before
        api, i = Client(w.gateway(leader), KEY), rows.id

        def get(path):
            r = api.call("GET", path)
            assert r.status_code == 200, (path, r.text)
            return r.json()

        ended = get(f"/api/executions/{i['execution']}")
        assert (ended["status"], ended["verdict"], ended["exit_code"]) == ("completed", "EXIT_CODE", 7)
        assert {p["process_id"] for p in get("/api/processes")["items"]} >= {i["ended"], i["waiting"], i["process"]}
        assert get(f"/api/processes/{i['waiting']}")["status"] == "pending"
        assert get(f"/api/workspaces/{i['workspace']}")["role"] == "owner"
        f = get(f"/api/files/{i['file']}")
        assert (f["path"], f["content"]) == ("b.txt", "hello")
        assert [m["email"] for m in get(f"/api/workspaces/{i['workspace']}/members")["items"]] == ["friend@example.org"]
        assert get(f"/api/batches/{i['batch']}")["counts"]["completed"] == 1
        assert "account" in get("/api/me")["scopes"]
    finally:
        for proc in w.daemons:
            proc.terminate()
            proc.wait(60)
            proc.stderr.close()
        for s in both:
            s.stop()


COLUMNS = """select table_name, column_name, data_type, is_nullable, coalesce(column_default, identity_generation, '')
             from information_schema.columns where table_schema = 'public'"""
FUNCTIONS = """select proname, pg_get_function_identity_arguments(oid), pg_get_function_result(oid)
               from pg_proc where pronamespace = 'public'::regnamespace"""
CHECKS = """select conrelid::regclass, conname, pg_get_constraintdef(oid) from pg_constraint
            where contype in ('c', 'f', 'p', 'u') and connamespace = 'public'::regnamespace"""


def test_each_version_leaves_the_one_before_working(pg, tmp_path):
    """No migration takes a column or a function away, retypes one, demands what the release before does not write, or forbids what it wrote;
    and what that release writes can still be written."""
    db = pg.database()
    before = None
    for version, f in enumerate(FILES, 1):
        db.sql(f"begin; {f.read_text()}; commit")
        columns = {(t, c): (kind, null, default) for t, c, kind, null, default in db.sql(COLUMNS)}
        functions = {(name, args): result for name, args, result in db.sql(FUNCTIONS)}
        checks = {(t, name): text for t, name, text in db.sql(CHECKS)}
        if before:
            tables = {t for t, _ in before[0]}
            for key, (kind, null, _) in before[0].items():
                assert key in columns, f"{f.name} takes {key} away"
                assert columns[key][0] == kind and (columns[key][1] == null or null == "NO"), f"{f.name} changes {key}"
            for (t, c), (_, null, default) in columns.items():
                assert (t, c) in before[0] or t not in tables or null == "YES" or default, f"{f.name} demands {t}.{c}"
            for key, result in before[1].items():
                assert functions.get(key) == result, f"{f.name} changes the function {key}"
            for (t, name), text in checks.items():
                new = {c for tt, c in columns if tt == t and (tt, c) not in before[0]}
                assert t not in tables or before[2].get((t, name)) == text or any(re.search(rf"\b{c}\b", text) for c in new), \
                    f"{f.name} forbids in {t}: {text}"
            db.sql(f"begin; {Rows('before' + f.name + '0' * 20).until(version - 1)}; rollback")
            db.sql(Rows("of " + f.name + "0" * 20).until(version - 1))
        before = columns, functions, checks
