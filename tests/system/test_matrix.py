# SPDX-License-Identifier: Apache-2.0
"""The tenant-isolation matrix: every operation of docs/openapi.yaml for everyone who may come.

A row that is missing fails the test, and so does a route that the document does not know. Each cell that changes something gets a
workspace of its own."""

import re
import tarfile
import uuid

import pytest
import requests

from client import Client, Stream
from test_files import tar_of
from test_gateway import DOC, KEY, ROOT, World
from test_people import PASSWORD, Person

CALLERS = ("owner", "editor", "viewer", "stranger", "guest", "admin")
INVALID = ("expired", "revoked", "wrong", "nobody")

READ = (200, 200, 200, 404, 404, 200)     # whoever is anything in the workspace
OWN = (200, 404, 404, 404, 404, 200)      # an execution: its owner, and administrators
ONLY = (200, 404, 404, 404, 404, 404)     # of an account: nobody else's, not even an administrator's
ADMIN = (403, 403, 403, 403, 403, 200)
ALL = (200,) * 6


def like(row, code):
    """The same row, where 200 is another success."""
    return tuple(code if c == 200 else c for c in row)


WRITE = (200, 200, 403, 404, 404, 200)    # editors
GIVE = (200, 403, 403, 404, 404, 200)     # the owner
PUBLIC = "public"                         # the same for everyone, whatever he came with

MATRIX = {
    ("post", "/api/executions"): like(ALL, 202),
    ("get", "/api/executions"): ALL,
    ("get", "/api/executions/{id}"): OWN,
    ("delete", "/api/executions/{id}"): like(OWN, 202),
    ("get", "/api/executions/{id}/output"): OWN,
    ("get", "/api/processes"): ALL,
    ("get", "/api/sandboxes/{id}/status"): READ,
    ("delete", "/api/sandboxes/{id}"): like(WRITE, 204),
    ("get", "/api/processes/{id}"): READ,
    ("get", "/api/processes/{id}/output"): READ,
    ("post", "/api/processes/{id}/input"): like(WRITE, 204),
    ("post", "/api/processes/{id}/signal"): like(WRITE, 204),
    ("post", "/api/processes/{id}/cancel"): like(WRITE, 202),
    ("get", "/api/stream/{sandbox_id}"): ("unknown_process", "unknown_process", "forbidden", 404, 404, "unknown_process"),
    ("post", "/api/batches"): like(ALL, 202),
    ("get", "/api/batches"): ALL,
    ("get", "/api/batches/{id}"): OWN,
    ("delete", "/api/batches/{id}"): like(OWN, 202),
    ("get", "/api/batches/{id}/results"): OWN,
    ("get", "/api/batches/{id}/webhook"): OWN,
    ("post", "/api/batches/{id}/webhook"): OWN,
    ("get", "/api/templates"): ALL,
    ("get", "/api/version"): (PUBLIC, 200),
    ("get", "/healthz"): (PUBLIC, 200),
    ("get", "/readyz"): (PUBLIC, 200),
    ("get", "/metrics"): (PUBLIC, 200),
    ("post", "/api/workspaces"): like(ALL, 201),
    ("get", "/api/workspaces"): ALL,
    ("get", "/api/workspaces/{id}"): READ,
    ("put", "/api/workspaces/{id}"): WRITE,
    ("delete", "/api/workspaces/{id}"): like(GIVE, 204),
    ("get", "/api/workspaces/{id}/files"): READ,
    ("post", "/api/workspaces/{id}/files"): like(WRITE, 201),
    ("post", "/api/workspaces/{id}/run"): like(WRITE, 202),
    ("post", "/api/workspaces/{id}/sandbox"): READ,
    ("post", "/api/workspaces/{id}/fork"): like(READ, 201),
    ("get", "/api/workspaces/{id}/archive"): READ,
    ("post", "/api/workspaces/{id}/archive"): like(WRITE, 201),
    ("post", "/api/workspaces/{id}/upload"): like(WRITE, 201),
    ("get", "/api/files/{id}/content"): READ,
    ("post", "/api/workspaces/{id}/token"): READ,
    ("get", "/api/workspaces/{id}/socket"): like(ALL, 426),  # who may open it: test_socket.py
    ("get", "/api/workspaces/{id}/members"): WRITE,
    ("put", "/api/workspaces/{id}/members/{email}"): GIVE,
    ("delete", "/api/workspaces/{id}/members/{email}"): like(GIVE, 204),
    ("get", "/api/workspaces/{id}/links"): GIVE,
    ("post", "/api/workspaces/{id}/links"): like(GIVE, 201),
    ("delete", "/api/workspaces/{id}/links/{link_id}"): like(GIVE, 204),
    ("get", "/s/{slug}"): ALL,
    ("post", "/s/{slug}"): ALL,
    ("get", "/api/files/{id}"): READ,
    ("put", "/api/files/{id}"): WRITE,
    ("delete", "/api/files/{id}"): like(WRITE, 204),
    ("post", "/api/files/{id}/move"): WRITE,
    ("post", "/api/auth/register"): (PUBLIC, 201),
    ("post", "/api/auth/login"): (PUBLIC, 200),
    ("post", "/api/auth/guest"): (PUBLIC, 201),
    ("post", "/api/auth/recover"): (PUBLIC, 403),
    ("get", "/api/auth/oidc/login"): (PUBLIC, 404),  # no provider here; test_oidc.py has one
    ("get", "/api/auth/oidc/callback"): (PUBLIC, 404),
    ("post", "/api/auth/logout"): like(ALL, 204),
    ("get", "/api/me"): ALL,
    ("put", "/api/me"): like(ALL, 403),  # with a wrong current password
    ("get", "/api/sessions"): ALL,
    ("delete", "/api/sessions/{id}"): like(ONLY, 204),
    ("get", "/api/keys"): ALL,
    ("post", "/api/keys"): like(ALL, 201),
    ("get", "/api/keys/{id}"): ONLY,
    ("delete", "/api/keys/{id}"): like(ONLY, 204),
    ("get", "/api/users"): ADMIN,
    ("put", "/api/users/{id}"): ADMIN,
    ("post", "/api/users/{id}/recovery"): like(ADMIN, 201),
    ("get", "/api/audit"): ADMIN,
}

BODIES = {
    ("post", "/api/executions"): {"template": "python", "files": [{"path": "main.py", "content": "1"}]},
    ("post", "/api/batches"): {"template": "python", "executions": [{}], "webhook": {"url": "https://example.org/"}},
    ("post", "/api/processes/{id}/input"): {"data": "x"},
    ("post", "/api/processes/{id}/signal"): {"signal": "SIGTERM"},
    ("post", "/api/workspaces"): {"name": "x", "template": "python"},
    ("put", "/api/workspaces/{id}"): {"name": "y"},
    ("post", "/api/workspaces/{id}/files"): {"path": "new.txt", "content": "n"},
    ("post", "/api/workspaces/{id}/run"): {"command": "true"},
    ("put", "/api/workspaces/{id}/members/{email}"): {"role": "viewer"},
    ("post", "/api/workspaces/{id}/links"): {"role": "viewer"},
    ("put", "/api/files/{id}"): {"content": "other"},
    ("post", "/api/files/{id}/move"): {"path": "moved.txt"},
    ("post", "/api/auth/recover"): {"token": "x" * 43, "password": PASSWORD},
    ("put", "/api/me"): {"password": PASSWORD, "current_password": "not this one"},
    ("put", "/api/users/{id}"): {"max_running": 100},
}


class People:
    def __init__(self, w):
        self.w = w
        self.person = {name: Person(w).register() for name in ("owner", "editor", "viewer", "stranger")}
        self.person["guest"] = Person(w).guest()
        self.client = {name: p.key(scopes=["read", "write", "run", "account"])[0] for name, p in self.person.items()}
        self.client["admin"] = Client(w.url, KEY)
        _, revoked = self.person["owner"].key()
        assert self.person["owner"].call("DELETE", f"/api/keys/{revoked['id']}").status_code == 204
        _, expired = self.person["owner"].key()
        w.pg.sql(f"update api_keys set expires_at = now() where id = '{expired['id']}'")
        self.client.update(revoked=Client(w.url, revoked["key"]), expired=Client(w.url, expired["key"]),
                           wrong=Client(w.url, "dbx_" + "x" * 43))

    def stage(self, path=""):
        """Things of the owner; the editor and the viewer are members."""
        o = self.client["owner"]

        def made(r):
            assert r.ok, r.text
            return r.json()

        ws = made(o.call("POST", "/api/workspaces", json={"name": "x", "template": "python"}))["id"]
        for name in ("editor", "viewer"):
            made(o.call("PUT", f"/api/workspaces/{ws}/members/{self.person[name].email}", json={"role": name}))
        made(o.call("PUT", f"/api/workspaces/{ws}/members/third@example.org", json={"role": "viewer"}))
        link = made(o.call("POST", f"/api/workspaces/{ws}/links", json={"role": "viewer"}))
        f = made(o.call("POST", f"/api/workspaces/{ws}/files", json={"path": "a.txt", "content": "a"}))["id"]
        run = made(o.call("POST", f"/api/workspaces/{ws}/run", json={"command": "cat"}))
        ex = made(o.call("POST", "/api/executions", json=BODIES["post", "/api/executions"]))["id"]
        batch = made(o.call("POST", "/api/batches", json=BODIES["post", "/api/batches"]))["id"]
        session = key = None
        if path.startswith("/api/sessions/"):
            p = Person(self.w)
            p.enter("login", email=self.person["owner"].email, password=PASSWORD)
            session = next(s for s in p.call("GET", "/api/sessions").json()["items"] if s["current"])["id"]
        if path.startswith("/api/keys/"):
            key = self.person["owner"].key()[1]["id"]
        return {"workspaces": ws, "files": f, "processes": run["process_id"], "sandboxes": run["sandbox_id"], "executions": ex, "batches": batch, "sessions": session, "keys": key,
                "users": self.person["stranger"].me["id"], "{email}": "third@example.org", "{link_id}": link["id"], "{slug}": link["slug"],
                "run": run}

    def cell(self, operation, caller, things):
        method, path = operation
        client = Client(self.w.url, None) if caller == "nobody" else self.client[caller]
        if path.startswith("/api/stream/"):
            return self.stream(client, things)
        url = path
        for name in ("{email}", "{link_id}", "{slug}"):
            url = url.replace(name, things[name])
        if "{id}" in url:
            url = url.replace("{id}", things[path.split("/")[2]])
        body = BODIES.get(operation)
        if path in ("/api/auth/register", "/api/auth/login"):
            body = {"email": self.person["stranger"].email if path.endswith("login") else f"{uuid.uuid4().hex}@example.org", "password": PASSWORD}
        return self.call(client, operation, url, body).status_code

    def call(self, client, operation, url, body):
        method, path = operation
        if operation == ("post", "/api/workspaces/{id}/archive"):
            return client.call("POST", url, data=tar_of(("from-archive", tarfile.REGTYPE, b"x")))
        if path.endswith("/upload"):
            return client.call("POST", url, files=[("file", ("from-upload", b"x"))])
        return client.call(method.upper(), url, json=body)

    def stream(self, client, things):
        """The answer to writing, on a stream with a token of one's own; or the status when there is none to be had."""
        r = client.call("POST", f"/api/workspaces/{things['workspaces']}/sandbox")
        if r.status_code != 200:
            return r.status_code
        s = Stream(self.w.url, r.json()["sandbox_id"], r.json()["stream_token"])
        s.send(type="cancel", process_id=str(uuid.uuid4()))
        answer = s.until(lambda m: m["type"] == "error")["code"]
        s.close()
        return answer


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("matrix"))
    yield People(world)
    world.close()


OPERATIONS = [(m, p) for p, methods in DOC["paths"].items() for m in methods if m in ("get", "post", "put", "delete", "patch")]


def test_every_operation_has_its_row():
    assert set(OPERATIONS) == set(MATRIX)


def test_every_route_is_documented():
    served = re.findall(r'\{"(\w+)",\s*"((?:/api|/s)[^"]*)"', (ROOT / "gateway/routes.c").read_text())
    known = {(m, re.sub(r"\{\w+\}", "{}", p)) for m, p in OPERATIONS}
    assert len(served) > 40 and {(m.lower(), p) for m, p in served} <= known


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o[0]} {o[1]}")
def test_matrix(people, operation):
    row, got = MATRIX[operation], {}
    public = row[0] == PUBLIC
    wanted = {c: row[1] for c in CALLERS + INVALID} if public else dict(zip(CALLERS, row))
    if not public:
        wanted.update({c: 401 for c in INVALID})
        if operation[1] == "/s/{slug}":
            wanted["nobody"] = 200  # becomes a guest
    things = people.stage(operation[1])
    for caller in wanted:
        if operation[1] == "/s/{slug}" or operation[0] != "get" and caller in ("editor", "viewer", "admin"):
            things = people.stage(operation[1])  # whoever comes after one who may change it finds it as it was
        got[caller] = people.cell(operation, caller, things)
    assert got == wanted


def test_not_for_your_eyes_is_as_if_it_were_not(people):
    """404 says the same of what is another's and of what never was."""
    things = people.stage("/api/sessions/") | {"keys": people.stage("/api/keys/")["keys"]}
    for method, path in OPERATIONS:
        if MATRIX[method, path][0] == PUBLIC or "{id}" not in path or MATRIX[method, path][3] != 404:
            continue
        kind = path.split("/")[2]
        answers = []
        for object_id in (things[kind], str(uuid.uuid4())):
            url = path.replace("{id}", object_id).replace("{email}", "third@example.org").replace("{link_id}", things["{link_id}"])
            r = people.call(people.client["stranger"], (method, path), url, BODIES.get((method, path)))
            e = r.json()["error"]
            answers.append((r.status_code, e["type"], e["code"], e["message"], e["field"]))
        assert answers[0] == answers[1] and answers[0][0] == 404, (method, path, answers)


def test_a_token_of_another_sandbox(people):
    a, b = people.stage()["run"], people.stage()["run"]
    for token, code in ((b["stream_token"], 403), ("", 401), (a["stream_token"][:-2], 401)):
        r = requests.get(f"{people.w.url}/api/stream/{a['sandbox_id']}?token={token}", timeout=60,
                         headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert r.status_code == code
