# SPDX-License-Identifier: Apache-2.0
"""Statements that wait in the database: reads by id pass them, who waits too long is told. The gateway alone, with real PostgreSQL."""

import concurrent.futures
import subprocess

import pytest

from client import Client
from test_gateway import World

WRITES = 16


@pytest.fixture()
def w(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


class Lock:
    """The row of a workspace, held by a session of somebody else."""

    def __init__(self, w, workspace):
        self.p = subprocess.Popen(["psql", "-XqAt", w.pg.conninfo], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.p.stdin.write(f"begin; select 'held' from workspaces where id = '{workspace}' for update;\n")
        self.p.stdin.flush()
        assert self.p.stdout.readline() == "held\n"

    def release(self):
        self.p.communicate("commit;\n", timeout=60)


def waiting(w):
    return int(w.pg.sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")[0][0])


def test_reads_pass_a_lock(w):
    ws = w.api.call("POST", "/api/workspaces", json={"name": "locked", "template": "python"}).json()
    file = w.api.call("POST", f"/api/workspaces/{ws['id']}/files", json={"path": "f", "content": "x"}).json()
    execution = w.api.call("POST", "/api/executions", json={"template": "python", "files": [{"path": "main.py", "content": ""}]}).json()
    fresh = Client(w.url, w.api.call("POST", "/api/keys", json={"label": "not seen yet"}).json()["key"])
    lock = Lock(w, ws["id"])
    with concurrent.futures.ThreadPoolExecutor(WRITES) as pool:
        puts = [pool.submit(Client(w.url, w.api.key).call, "PUT", f"/api/workspaces/{ws['id']}", json={"name": f"n{i}"}) for i in range(WRITES)]
        w.until(lambda: waiting(w) >= 4, 60)
        for _ in range(10):
            for path in (f"/api/executions/{execution['id']}", f"/api/workspaces/{ws['id']}", f"/api/files/{file['id']}", "/api/workspaces",
                         f"/api/processes/{execution['process_id']}"):
                assert w.api.call("GET", path).status_code == 200, path
        assert fresh.call("GET", f"/api/files/{file['id']}").status_code == 200
        assert not [p for p in puts if p.done() and p.result().status_code == 200]
        lock.release()
        answers = [p.result(60) for p in puts]
    for r in answers:
        assert r.status_code == 200 or (r.status_code == 503 and int(r.headers["Retry-After"]) >= 1), r.text
    assert w.api.call("PUT", f"/api/workspaces/{ws['id']}", json={"name": "after"}).status_code == 200
    w.until(lambda: w.api.call("GET", f"/api/workspaces/{ws['id']}").json()["name"] == "after")


def test_who_waits_too_long_is_told(w):
    """503, nothing is done later, and no session of the database is left that waits for nobody."""
    ws = w.api.call("POST", "/api/workspaces", json={"name": "locked", "template": "python"}).json()
    lock = Lock(w, ws["id"])
    r = w.api.call("PUT", f"/api/workspaces/{ws['id']}", json={"name": "too late"})
    assert (r.status_code, r.json()["error"]["code"]) == (503, "database_unavailable") and int(r.headers["Retry-After"]) >= 1
    w.until(lambda: waiting(w) == 0, 60)
    lock.release()
    assert w.api.call("GET", f"/api/workspaces/{ws['id']}").json()["name"] == "locked"
    assert w.api.call("PUT", f"/api/workspaces/{ws['id']}", json={"name": "in time"}).json()["name"] == "in time"
