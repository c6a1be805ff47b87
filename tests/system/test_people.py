# SPDX-License-Identifier: Apache-2.0
"""People: accounts, sessions, keys, roles, links, quotas, recovery, the audit log. The gateway alone, with real PostgreSQL."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pty
import stat
import statistics
import subprocess
import threading
import time
import uuid

import pytest
import requests
import websocket

from client import Client, Stream
from test_gateway import KEY, World

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def w(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("people"))
    yield world
    world.close()


class Person:
    """Somebody in a browser: a cookie jar, and the CSRF token of the session in it."""

    def __init__(self, w, url=None):
        self.w, self.url, self.http, self.csrf = w, url or w.url, requests.Session(), None

    def call(self, method, path, csrf=True, headers=None, **kw):
        headers = dict(headers or {})
        if csrf and self.csrf and method not in ("GET", "HEAD"):
            headers["X-CSRF-Token"] = self.csrf
        return self.http.request(method, self.url + path, headers=headers, timeout=60, **kw)

    def enter(self, how, expect=(200, 201), **body):
        r = self.call("POST", f"/api/auth/{how}", json=body)
        assert r.status_code in expect, r.text
        if r.ok:
            self.me, self.csrf = r.json(), r.json()["csrf_token"]
        return r

    def register(self, email=None, password=PASSWORD):
        self.email = email or f"{uuid.uuid4().hex}@example.org"
        self.enter("register", (201,), email=self.email, password=password)
        return self

    def guest(self):
        self.enter("guest", (201,))
        return self

    def key(self, **body):
        r = self.call("POST", "/api/keys", json=body)
        assert r.status_code == 201, r.text
        return Client(self.url, r.json()["key"]), r.json()

    def workspace(self, **fields):
        r = self.call("POST", "/api/workspaces", json={"name": "mine", "template": "python", **fields})
        assert r.status_code == 201, r.text
        return f"/api/workspaces/{r.json()['id']}"


def code(r):
    return r.status_code, r.json()["error"]["code"]


def admin(w):
    return Client(w.url, KEY)


# --- accounts ---

def test_register_login_logout(w):
    p = Person(w).register("Ann.Lee@Example.org")
    assert p.me["email"] == "ann.lee@example.org" and p.me["role"] == "user" and p.me["guest"] is False
    me = p.call("GET", "/api/me").json()
    assert (me["id"], me["by"], me["csrf_token"]) == (p.me["id"], "session", p.csrf)
    assert code(Person(w).call("POST", "/api/auth/register", json={"email": "ann.lee@EXAMPLE.org", "password": PASSWORD})) == (409, "email_taken")
    q = Person(w)
    r = q.enter("login", email="ANN.lee@example.org", password=PASSWORD)
    assert q.me["id"] == p.me["id"] and r.headers["RateLimit-Limit"] == "10" and r.headers["Cache-Control"] == "no-store"
    assert q.call("POST", "/api/auth/logout").status_code == 204
    assert q.http.cookies.get_dict() == {}
    assert code(q.call("GET", "/api/me")) == (401, "unauthorized")
    assert p.call("GET", "/api/me").status_code == 200  # the other session stays
    stored = w.pg.sql(f"select password from users where id = '{p.me['id']}'")[0][0]
    assert stored.startswith("$argon2id$v=19$m=65536,t=2,p=1$")


def test_cookies(w):
    r = requests.post(w.url + "/api/auth/guest", timeout=60)
    cookies = r.raw.headers.getlist("Set-Cookie")
    host = [c for c in cookies if c.startswith("__Host-devbox=")]
    plain = [c for c in cookies if c.startswith("devbox=")]
    assert len(host) == len(plain) == 1 == len(cookies) - 1
    for attribute in ("Path=/", "HttpOnly", "SameSite=Lax", "Secure"):
        assert attribute in host[0]
    assert "Secure" not in plain[0] and "HttpOnly" in plain[0] and "Domain" not in host[0] + plain[0]
    value = host[0].split("=", 1)[1].split(";")[0]
    both = f"devbox={'x' * 43}; __Host-devbox={value}"  # a tossed cookie does not win over the prefixed one
    assert requests.get(w.url + "/api/me", headers={"Cookie": both}, timeout=60).status_code == 200
    for bad in ("", "devbox=", "devbox=" + "x" * 43, "devbox=" + "x" * 5000, "devbox=%00", f"__Host-devbox={value}x", "=;=;,;", f'devbox="{value}"'):
        assert requests.get(w.url + "/api/me", headers={"Cookie": bad}, timeout=60).status_code == 401
    # A session's secret is no key, and a key is no session.
    assert requests.get(w.url + "/api/me", headers={"Authorization": f"Bearer {value}"}, timeout=60).status_code == 401
    assert requests.get(w.url + "/api/me", headers={"Cookie": f"devbox={KEY}"}, timeout=60).status_code == 401


def test_csrf(w):
    p = Person(w).register()
    body = {"json": {"name": "x", "template": "python"}}
    assert code(p.call("POST", "/api/workspaces", csrf=False, **body)) == (403, "csrf")
    for wrong in ("", "x", p.csrf[:-1], p.csrf + "0", "0" * 32):
        assert code(p.call("POST", "/api/workspaces", csrf=False, headers={"X-CSRF-Token": wrong}, **body)) == (403, "csrf")
    assert code(p.call("POST", "/api/workspaces", headers={"Origin": "https://evil.example"}, **body)) == (403, "csrf")
    assert code(p.call("POST", "/api/workspaces", headers={"Origin": "null"}, **body)) == (403, "csrf")
    assert p.call("POST", "/api/workspaces", headers={"Origin": w.url}, **body).status_code == 201
    assert p.call("GET", "/api/workspaces", csrf=False).status_code == 200
    for how in ("login", "register", "guest", "recover"):  # nobody is signed in by a page of others
        r = requests.post(f"{w.url}/api/auth/{how}", json={"email": p.email, "password": PASSWORD}, headers={"Origin": "https://evil.example"}, timeout=60)
        assert code(r) == (403, "foreign_origin")
    # A key goes before a session, and needs no token.
    client, _ = p.key()
    assert p.call("POST", "/api/workspaces", csrf=False, headers={"Authorization": f"Bearer {client.key}"}, **body).status_code == 201


def test_guest_becomes_an_account_with_everything_made(w):
    g = Person(w).guest()
    assert g.me["guest"] is True and g.me["email"] is None
    path = g.workspace()
    a = g.call("POST", "/api/executions", json={"template": "python", "files": [{"path": "main.py", "content": "1"}]}).json()
    before = g.http.cookies.get_dict()
    r = g.call("POST", "/api/auth/register", csrf=False, json={"email": "g1@example.org", "password": PASSWORD})
    assert code(r) == (403, "csrf")
    g.register()
    assert g.me["guest"] is False and g.call("GET", path).json()["role"] == "owner"
    assert g.call("GET", f"/api/executions/{a['id']}").status_code == 200
    old = requests.get(w.url + "/api/me", cookies=before, timeout=60)
    assert old.status_code == 401, "the guest's session was not replaced"
    fresh = Person(w)
    fresh.enter("login", email=g.email, password=PASSWORD)
    assert fresh.call("GET", path).status_code == 200
    other = Person(w).guest()
    assert code(other.call("POST", "/api/auth/register", json={"email": g.email, "password": PASSWORD})) == (409, "email_taken")
    assert other.call("GET", "/api/me").json()["guest"] is True  # still what he was


def test_wrong_password_and_unknown_address_are_the_same(w):
    p = Person(w).register()
    wrong, unknown = [], []
    for i in range(6):
        for times, email in ((wrong, p.email), (unknown, f"nobody{i}@example.org")):
            t = time.monotonic()
            r = requests.post(w.url + "/api/auth/login", json={"email": email, "password": "not this one"}, timeout=60)
            times.append(time.monotonic() - t)
            assert code(r) == (401, "wrong_credentials")
            body = r.json()["error"]
            assert (body["message"], body["field"]) == ("this e-mail and password do not fit", None)
    a, b = min(wrong), min(unknown)  # what else the machine does comes on top of some
    assert 0.4 < a / b < 2.5, (a, b)
    lines = w.pg.sql(f"select actor, object from audit where action = 'login_failed' and object = '{p.email}'")
    assert len(lines) == 6 and lines[0][0] == p.me["id"]


def test_guessing_is_limited(w):
    p = Person(w).register()
    seen = [requests.post(w.url + "/api/auth/login", json={"email": p.email, "password": "guess"}, timeout=60) for _ in range(11)]
    assert [r.status_code for r in seen] == [401] * 10 + [429]
    assert [int(r.headers["RateLimit-Remaining"]) for r in seen] == [*range(9, -1, -1), 0]
    assert code(seen[-1]) == (429, "rate_limited") and 1 <= int(seen[-1].headers["Retry-After"]) <= 30
    # Not even the right password tells, and others are not locked out.
    assert requests.post(w.url + "/api/auth/login", json={"email": p.email, "password": PASSWORD}, timeout=60).status_code == 429
    Person(w).register()
    misses = [requests.get(f"{w.url}/s/{uuid.uuid4().hex[:22]}", timeout=60).status_code for _ in range(70)]
    assert misses[0] == 404 and misses[-1] == 429 and set(misses) == {404, 429}


def test_passwords_do_not_hold_up_the_loop(w):
    """Twenty logins at once take seconds of processor time; a read beside them takes milliseconds."""
    people = [Person(w).register() for _ in range(3)]
    stop, worst = threading.Event(), []

    def watch():
        while not stop.is_set():
            t = time.monotonic()
            assert requests.get(w.url + "/api/version", timeout=60).status_code == 200
            worst.append(time.monotonic() - t)

    t = threading.Thread(target=watch)
    t.start()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        def login(i):
            p = people[i % 3]
            return requests.post(w.url + "/api/auth/login", json={"email": p.email, "password": PASSWORD}, timeout=60).status_code
        codes = list(pool.map(login, range(24)))
    stop.set()
    t.join()
    assert set(codes) <= {200, 429} and codes.count(200) >= 10
    assert statistics.median(worst) < 0.05


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"{}", b'{"email":"a@b.c"}', b'{"email":"a@b.c","password":"x","password":"y"}',
                                  b'{"email":"a@b.c","password":"longenough","admin":true}', b'{"email":"a@b.c","password":null}',
                                  b'{"email":["a@b.c"],"password":"longenough"}', b'{"email":"a@b.c","password":"short"}',
                                  b'{"email":"a b@c.d","password":"longenough"}', b'{"email":"a@b.c\\u0000","password":"longenough"}',
                                  b'{"email":"a@b.c","password":"' + b"x" * 1025 + b'"}', b'{"email":"a@b.c","password":"\\ud800longenough"}',
                                  b"[" * 3000, b'{"email":"\xff@b.c","password":"longenough"}'])
def test_bad_bodies(w, body):
    r = requests.post(w.url + "/api/auth/register", data=body, timeout=60)
    assert r.status_code == 400 and r.json()["error"]["code"] == "invalid", r.text


def test_names_are_data(w):
    """D12: what looks like SQL, or like a pattern, is a name."""
    for name in ("o'hara@x.org", "a;drop--table@x.org", "%@x.org", "a_%@x.org"):
        r = requests.post(w.url + "/api/auth/login", json={"email": name, "password": "'; drop table users; --"}, timeout=60)
        assert r.status_code in (400, 401), r.text
    p = Person(w).register("o'hara2@example.org")
    _, key = p.key(label="'); drop table api_keys; --")
    assert p.call("GET", f"/api/keys/{key['id']}").json()["label"] == "'); drop table api_keys; --"


def test_sessions_expire_and_are_revoked(w):
    p = Person(w).register()
    q = Person(w)
    q.enter("login", email=p.email, password=PASSWORD)
    rows = p.call("GET", "/api/sessions").json()["items"]
    assert len(rows) == 2 and [r["current"] for r in rows] == [False, True]
    assert p.call("DELETE", f"/api/sessions/{rows[0]['id']}").status_code == 204
    assert q.call("GET", "/api/me").status_code == 401
    assert p.call("DELETE", f"/api/sessions/{rows[0]['id']}").status_code == 404
    stranger = Person(w).register()
    assert stranger.call("DELETE", f"/api/sessions/{rows[1]['id']}").status_code == 404
    url = w.gateway("--session-seconds=8")
    short = Person(w, url)
    short.enter("login", email=p.email, password=PASSWORD)
    assert short.call("GET", "/api/me").status_code == 200
    cookies = dict(short.http.cookies.get_dict())
    w.until(lambda: requests.get(url + "/api/me", cookies=cookies, timeout=60).status_code == 401)


def test_another_password_ends_the_other_sessions(w):
    p = Person(w).register()
    q = Person(w)
    q.enter("login", email=p.email, password=PASSWORD)
    assert code(p.call("PUT", "/api/me", json={"password": "another one", "current_password": "wrong"})) == (403, "wrong_credentials")
    assert code(p.call("PUT", "/api/me", json={"password": "another one"})) == (403, "wrong_credentials")
    assert p.call("PUT", "/api/me", json={"password": "another one", "current_password": PASSWORD}).status_code == 200
    assert p.call("GET", "/api/me").status_code == 200 and q.call("GET", "/api/me").status_code == 401
    Person(w).enter("login", (401,), email=p.email, password=PASSWORD)
    Person(w).enter("login", email=p.email, password="another one")


def open_socket(w, workspace, key=None, query=""):
    """The role that its first message says, or the status with which it was refused."""
    header = [f"Authorization: Bearer {key}"] if key else []
    try:
        ws = websocket.create_connection(w.url.replace("http", "ws", 1) + f"{workspace}/socket{query}", timeout=60, header=header)
    except websocket.WebSocketBadStatusException as e:
        return e.status_code
    hello = json.loads(ws.recv())
    ws.close()
    return hello["role"]


def test_scopes_hold_on_streams_and_sockets(w):
    """A key that may only read does not write by a stream or a socket; one that may only run does not read files by the socket."""
    p = Person(w).register()
    space = p.workspace()
    clients = {scope: p.key(scopes=[scope])[0] for scope in ("read", "run")}
    accepted = clients["run"].submit("python", {"main.py": "1"}).json()
    tokens = {"run": accepted["stream_token"], "read": clients["read"].call("GET", f"/api/executions/{accepted['id']}").json()["stream_token"]}
    answers = {}
    for scope, token in tokens.items():
        s = Stream(w.url, accepted["sandbox_id"], token)
        s.send(type="cancel", process_id=str(uuid.uuid4()))
        answers[scope] = s.until(lambda m: m["type"] == "error")["code"]
        s.close()
    assert answers == {"run": "unknown_process", "read": "forbidden"}

    assert open_socket(w, space, clients["read"].key) == "viewer"
    assert open_socket(w, space, clients["run"].key) == 403
    r = clients["read"].call("POST", space + "/token")
    assert r.json()["role"] == "viewer" and open_socket(w, space, query=f"?token={r.json()['token']}") == "viewer"
    assert code(clients["run"].call("POST", space + "/token")) == (403, "forbidden")
    bound = clients["run"].call("POST", space + "/sandbox").json()["stream_token"]  # good for the stream, not for the files
    assert open_socket(w, space, query=f"?token={bound}") == 404
    both = p.key(scopes=["read", "run"])[0]
    assert open_socket(w, space, both.key) == "owner"


def test_idempotency_key_on_what_may_be_done_again(w):
    """Under the same key: a deletion that was done stays done, another request is refused, and what failed leaves the key free."""
    p = Person(w).register()

    def call(method, path, key, **kw):
        return p.call(method, path, headers={"Idempotency-Key": key}, **kw)

    one, other = p.key()[1]["id"], p.key()[1]["id"]
    assert [call("DELETE", f"/api/keys/{one}", "a").status_code for _ in range(2)] == [204, 204]
    assert code(call("DELETE", f"/api/keys/{other}", "a")) == (409, "idempotency_key_reused")
    assert p.call("DELETE", f"/api/keys/{one}").status_code == 404  # without the key it is another request
    missing = str(uuid.uuid4())
    assert call("DELETE", f"/api/keys/{missing}", "b").status_code == 404
    w.until(lambda: call("DELETE", f"/api/keys/{other}", "b").status_code == 204, 60)  # the key is given back behind the answer
    assert code(call("DELETE", f"/api/sessions/{missing}", "a")) == (409, "idempotency_key_reused")
    assert call("DELETE", f"/api/keys/{one}", "").json()["error"]["field"] == "Idempotency-Key"

    boss = admin(w)
    for path, body in ((f"/api/users/{p.me['id']}", {"max_running": 7}), (f"/api/users/{p.me['id']}/recovery", None)):
        method, key = ("PUT" if body else "POST"), str(uuid.uuid4())
        first, again = (boss.call(method, path, json=body, headers={"Idempotency-Key": key}) for _ in range(2))
        assert first.status_code == again.status_code in (200, 201)
        if body:
            assert first.json() == again.json()
            assert code(boss.call(method, path, json={"max_running": 8}, headers={"Idempotency-Key": key})) == (409, "idempotency_key_reused")

    batch = boss.call("POST", "/api/batches", json={"template": "python", "executions": [{"stdin": ""}]}).json()["id"]
    assert [boss.call("DELETE", f"/api/batches/{batch}", headers={"Idempotency-Key": "c"}).status_code for _ in range(2)] == [202, 202]
    assert code(boss.call("POST", f"/api/batches/{batch}/webhook", headers={"Idempotency-Key": "c"})) == (409, "idempotency_key_reused")


# --- keys ---

def test_keys(w):
    p = Person(w).register()
    client, made = p.key(label="ci", scopes=["read", "run"], expires_at="2099-01-01T00:00:00Z")
    assert made["key"].startswith("dbx_") and made["hint"] == made["key"][:8] and made["scopes"] == ["read", "run"]
    listed = p.call("GET", "/api/keys").json()["items"]
    assert [k["id"] for k in listed] == [made["id"]] and "key" not in listed[0] and listed[0]["last_used_at"] is None
    stored = w.pg.sql(f"select encode(hash, 'hex') from api_keys where id = '{made['id']}'")[0][0]
    assert stored == hashlib.sha256(made["key"].encode()).hexdigest()
    assert client.call("GET", "/api/me").json()["by"] == "key"
    w.until(lambda: p.call("GET", f"/api/keys/{made['id']}").json()["last_used_at"])
    assert client.submit("python", {"main.py": "1"}).status_code == 202
    assert code(client.call("POST", "/api/workspaces", json={"name": "x", "template": "python"})) == (403, "forbidden")
    assert code(client.call("GET", "/api/keys")) == (403, "forbidden")
    assert Person(w).register().call("DELETE", f"/api/keys/{made['id']}").status_code == 404
    assert p.call("DELETE", f"/api/keys/{made['id']}").status_code == 204
    assert client.call("GET", "/api/me").status_code == 401
    assert p.call("GET", f"/api/keys/{made['id']}").status_code == 404
    r = p.call("POST", "/api/keys", json={"expires_at": "2001-01-01T00:00:00Z"})
    assert r.status_code == 400 and r.json()["error"]["field"] == "expires_at"
    # A key makes no key that can do more than itself.
    maker, _ = p.key(scopes=["read", "account"])
    r = maker.call("POST", "/api/keys", json={"scopes": ["run"]})
    assert r.status_code == 400 and r.json()["error"]["field"] == "scopes"
    assert maker.call("POST", "/api/keys").json()["scopes"] == ["read", "account"]
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    assert p.call("POST", "/api/keys", json={}, headers=headers).status_code == 201
    assert code(p.call("POST", "/api/keys", json={}, headers=headers)) == (409, "key_shown_once")


def test_an_administrators_key_is_one_only_with_the_scope(w):
    boss = admin(w)
    plain = boss.call("POST", "/api/keys", json={}).json()
    assert "admin" not in plain["scopes"]
    client = Client(w.url, plain["key"])
    path = Person(w).register().workspace()
    assert code(client.call("GET", "/api/users")) == (403, "forbidden")
    assert client.call("GET", path).status_code == 404 and boss.call("GET", path).json()["role"] == "admin"
    full = boss.call("POST", "/api/keys", json={"scopes": ["read", "admin"]}).json()
    assert Client(w.url, full["key"]).call("GET", "/api/users").status_code == 200


def test_an_expired_key(w):
    p = Person(w).register()
    client, made = p.key()
    w.pg.sql(f"update api_keys set expires_at = now() + interval '1 second' where id = '{made['id']}'")
    w.until(lambda: client.call("GET", "/api/me").status_code == 401)


# --- roles ---

def test_members(w):
    owner, editor, viewer, stranger = (Person(w).register() for _ in range(4))
    path = owner.workspace()
    assert stranger.call("GET", path).status_code == 404
    for p, role in ((editor, "editor"), (viewer, "viewer")):
        r = owner.call("PUT", f"{path}/members/{p.email}", json={"role": role})
        assert r.status_code == 200 and r.json() == {"email": p.email, "role": role}
        assert p.call("GET", path).json()["role"] == role
        assert [x["id"] for x in p.call("GET", "/api/workspaces").json()["items"]] == [path.split("/")[-1]]
    f = editor.call("POST", f"{path}/files", json={"path": "a.txt", "content": "a"}).json()
    assert viewer.call("GET", f"/api/files/{f['id']}").json()["content"] == "a"
    assert code(viewer.call("PUT", f"/api/files/{f['id']}", json={"content": "b"})) == (403, "forbidden")
    assert code(viewer.call("POST", f"{path}/run", json={"command": "true"})) == (403, "forbidden")
    assert code(editor.call("PUT", path, json={"sharing_mode": "edit"})) == (403, "forbidden")
    assert editor.call("PUT", path, json={"name": "renamed"}).status_code == 200
    assert code(editor.call("DELETE", path)) == (403, "forbidden")
    assert code(editor.call("PUT", f"{path}/members/{stranger.email}", json={"role": "editor"})) == (403, "forbidden")
    assert code(viewer.call("GET", f"{path}/members")) == (403, "forbidden")
    assert {(m["email"], m["role"]) for m in editor.call("GET", f"{path}/members").json()["items"]} == {(editor.email, "editor"), (viewer.email, "viewer")}
    assert owner.call("PUT", f"{path}/members/{viewer.email.upper()}", json={"role": "editor"}).status_code == 200
    assert viewer.call("PUT", f"/api/files/{f['id']}", json={"content": "b"}).status_code == 200
    assert viewer.call("DELETE", f"{path}/members/{viewer.email}").status_code == 204  # leaves by himself
    assert viewer.call("GET", path).status_code == 404
    assert owner.call("DELETE", f"{path}/members/{viewer.email}").status_code == 404
    r = owner.call("PUT", f"{path}/members/{editor.email}", json={"role": "owner"})
    assert r.status_code == 400 and r.json()["error"]["field"] == "role"
    for bad in ("nobody", "a%40b%40c", "%00@b", "a%2", "a" * 300 + "@b"):
        assert owner.call("PUT", f"{path}/members/{bad}", json={"role": "viewer"}).status_code in (400, 404)
    # Named before there is an account: the same answer, and the role waits until it is given to the account.
    later = f"{uuid.uuid4().hex}@example.org"
    assert owner.call("PUT", f"{path}/members/{later}", json={"role": "viewer"}).status_code == 200
    late = Person(w).register(later)
    assert late.call("GET", path).status_code == 404
    assert late.call("GET", "/api/workspaces").json()["items"] == []
    listed = owner.call("GET", f"{path}/members").json()["items"]
    assert {m["email"]: m["pending"] for m in listed} == {editor.email: False, later: True}
    assert not any(m["verified"] for m in listed)  # nobody has proven these
    assert owner.call("PUT", f"{path}/members/{later}", json={"role": "viewer"}).status_code == 200
    assert late.call("GET", path).json()["role"] == "viewer"
    assert not any(m["pending"] for m in owner.call("GET", f"{path}/members").json()["items"])
    # Nor does a guest get it who was there before and takes the address now, nor who takes that of an account that has gone.
    guest, other = Person(w).guest(), f"{uuid.uuid4().hex}@example.org"
    assert owner.call("PUT", f"{path}/members/{other}", json={"role": "editor"}).status_code == 200
    assert guest.register(other).call("GET", path).status_code == 404
    w.pg.sql(f"delete from users where email = '{later}'")
    assert Person(w).register(later).call("GET", path).status_code == 404
    later = f"{uuid.uuid4().hex}@example.org"
    assert owner.call("PUT", f"{path}/members/{later}", json={"role": "viewer"}).status_code == 200
    key = {"Idempotency-Key": "m1"}
    assert owner.call("PUT", f"{path}/members/{later}", json={"role": "viewer"}, headers=key).status_code == 200
    assert code(owner.call("PUT", f"{path}/members/{later}", json={"role": "editor"}, headers=key)) == (409, "idempotency_key_reused")


def test_sharing_mode(w):
    owner, other, guest = Person(w).register(), Person(w).register(), Person(w).guest()
    path = owner.workspace(sharing_mode="view")
    for p in (other, guest):
        assert p.call("GET", path).json()["role"] == "viewer"
        assert code(p.call("POST", f"{path}/files", json={"path": "x", "content": ""})) == (403, "forbidden")
        assert p.call("GET", "/api/workspaces").json()["items"] == []  # whoever has the URL; it is not announced
    assert requests.get(w.url + path, timeout=60).status_code == 401
    owner.call("PUT", path, json={"sharing_mode": "edit"})
    assert guest.call("POST", f"{path}/files", json={"path": "x", "content": ""}).status_code == 201
    owner.call("PUT", path, json={"sharing_mode": "private"})
    assert other.call("GET", path).status_code == guest.call("GET", path).status_code == 404


def test_links(w):
    owner, friend = Person(w).register(), Person(w).register()
    path = owner.workspace()
    link = owner.call("POST", f"{path}/links", json={"role": "viewer"})
    assert link.status_code == 201 and link.json()["url"] == f"{w.url}/s/{link.json()['slug']}"
    link = link.json()
    assert len(link["slug"]) == 22 and friend.call("GET", path).status_code == 404
    r = friend.call("GET", f"/s/{link['slug']}")
    assert r.status_code == 200 and r.json()["role"] == "viewer" and path.endswith(r.json()["workspace_id"])
    assert friend.call("GET", path).json()["role"] == "viewer"
    r = friend.call("GET", f"/s/{link['slug']}", headers={"Accept": "text/html"}, allow_redirects=False)
    assert r.status_code == 303 and r.headers["Location"] == f"/w/{path.split('/')[-1]}"
    # Nobody at all becomes a guest.
    visitor = Person(w)
    r = visitor.call("GET", f"/s/{link['slug']}")
    assert r.status_code == 200 and visitor.call("GET", path).json()["role"] == "viewer"
    assert visitor.call("GET", "/api/me").json()["guest"] is True
    wrong_key = Client(w.url, "wrong")
    assert wrong_key.call("GET", f"/s/{link['slug']}").status_code == 401
    client, _ = Person(w).register().key()
    assert client.call("POST", f"/s/{link['slug']}").json()["role"] == "viewer" and client.call("GET", path).status_code == 200
    # A second link gives more; without it he is what he was.
    more = owner.call("POST", f"{path}/links", json={"role": "editor", "expires_at": "2099-01-01T00:00:00Z"}).json()
    assert friend.call("POST", f"/s/{more['slug']}").json()["role"] == "editor"
    assert code(friend.call("GET", f"{path}/links")) == (403, "forbidden")
    assert {x["slug"] for x in owner.call("GET", f"{path}/links").json()["items"]} == {link["slug"], more["slug"]}
    assert owner.call("DELETE", f"{path}/links/{more['id']}").status_code == 204
    assert friend.call("GET", path).json()["role"] == "viewer"
    assert owner.call("DELETE", f"{path}/links/{link['id']}").status_code == 204
    assert friend.call("GET", path).status_code == 404 and friend.call("GET", f"/s/{link['slug']}").status_code == 404
    assert owner.call("DELETE", f"{path}/links/{link['id']}").status_code == 404
    soon = owner.call("POST", f"{path}/links", json={"role": "viewer"}).json()
    friend.call("POST", f"/s/{soon['slug']}")
    w.pg.sql(f"update share_links set expires_at = now() where id = '{soon['id']}'")
    assert friend.call("GET", path).status_code == 404 and friend.call("GET", f"/s/{soon['slug']}").status_code == 404
    for bad in ("x", "x" * 23, "..%2f..", "%00" * 8, "'; drop table x;--" + "x" * 4):
        assert friend.call("GET", f"/s/{bad}").status_code in (400, 404, 429)


# --- streams ---

def closed(stream, within=60):
    """The close code, which has to come in time."""
    stream.ws.settimeout(within)
    while True:
        opcode, frame = stream.ws.recv_data_frame(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(frame.data[:2], "big"), frame.data[2:].decode()


def shared(w, **fields):
    """A workspace with a process that runs, and its owner."""
    owner = Person(w).register()
    path = owner.workspace(**fields)
    run = owner.call("POST", f"{path}/run", json={"command": "cat"})
    assert run.status_code == 202, run.text
    w.pg.sql(f"update processes set status = 'running', started_at = now() where id = '{run.json()['process_id']}'")
    return owner, path, run.json()


def stream_of(person, path, url):
    r = person.call("POST", f"{path}/sandbox")
    assert r.status_code == 200, r.text
    return Stream(url, r.json()["sandbox_id"], r.json()["stream_token"])


def refused(stream, process, **message):
    stream.send(process_id=process, **message)
    return stream.until(lambda m: m["type"] == "error")["code"]


def test_a_viewers_stream_only_shows(w):
    owner, path, run = shared(w)
    viewer = Person(w).register()
    owner.call("PUT", f"{path}/members/{viewer.email}", json={"role": "viewer"})
    pid = run["process_id"]
    assert viewer.call("GET", f"/api/processes/{pid}").json()["status"] == "running"
    for verb, body in (("input", {"data": "x"}), ("cancel", None)):
        assert code(viewer.call("POST", f"/api/processes/{pid}/{verb}", json=body)) == (403, "forbidden")
    s = stream_of(viewer, path, w.url)
    for message in ({"type": "input", "data": "x"}, {"type": "cancel"}, {"type": "resize", "cols": 80, "rows": 24}, {"type": "eof"}):
        assert refused(s, pid, **message) == "forbidden"
    # Raised, a new token may write; lowered, the open stream may no more.
    w.script["resize"] = lambda h: {"error": {"kind": "conflict", "field": "", "message": "the process has no terminal"}}
    owner.call("PUT", f"{path}/members/{viewer.email}", json={"role": "editor"})
    e = stream_of(viewer, path, w.url)
    assert refused(e, pid, type="resize", cols=80, rows=24) == "no_terminal"
    owner.call("PUT", f"{path}/members/{viewer.email}", json={"role": "viewer"})
    deadline = time.monotonic() + 60
    while refused(e, pid, type="resize", cols=80, rows=24) != "forbidden":
        assert time.monotonic() < deadline
    s.close()
    e.close()


def test_what_is_taken_away_closes_streams(w):
    owner, path, run = shared(w)
    other_gateway = w.gateway()

    def member():
        p = Person(w).register()
        owner.call("PUT", f"{path}/members/{p.email}", json={"role": "viewer"})
        return p, lambda: owner.call("DELETE", f"{path}/members/{p.email}")

    def by_link():
        p = Person(w).register()
        link = owner.call("POST", f"{path}/links", json={"role": "editor"}).json()
        p.call("POST", f"/s/{link['slug']}")
        return p, lambda: owner.call("DELETE", f"{path}/links/{link['id']}")

    def by_key():
        p = Person(w).register()
        owner.call("PUT", f"{path}/members/{p.email}", json={"role": "viewer"})
        client, key = p.key()
        return client, lambda: p.call("DELETE", f"/api/keys/{key['id']}")

    def by_session():
        p = Person(w).register()
        owner.call("PUT", f"{path}/members/{p.email}", json={"role": "viewer"})
        return p, lambda: p.call("POST", "/api/auth/logout")

    def disabled():
        p = Person(w).register()
        owner.call("PUT", f"{path}/members/{p.email}", json={"role": "viewer"})
        return p, lambda: admin(w).call("PUT", f"/api/users/{p.me['id']}", json={"disabled": True})

    for way in (member, by_link, by_key, by_session, disabled):
        p, take_away = way()
        token = p.call("POST", f"{path}/sandbox").json()
        here, there = (Stream(url, token["sandbox_id"], token["stream_token"]) for url in (w.url, other_gateway))
        for s in (here, there):
            assert refused(s, str(uuid.uuid4()), type="ack", bytes=0) == "unknown_process"
        assert take_away().ok
        began = time.monotonic()
        assert closed(here) == closed(there) == (1008, "revoked"), way.__name__
        assert time.monotonic() - began < 20
        late = Stream(w.url, token["sandbox_id"], token["stream_token"])  # the token is good for minutes yet
        assert closed(late) == (1008, "revoked"), way.__name__
    mode_owner, mode_path, _ = shared(w, sharing_mode="view")
    guest = Person(w).guest()
    s, own = stream_of(guest, mode_path, w.url), stream_of(mode_owner, mode_path, w.url)
    mode_owner.call("PUT", mode_path, json={"sharing_mode": "private"})
    assert closed(s) == (1008, "revoked")
    assert refused(own, str(uuid.uuid4()), type="cancel") == "unknown_process"  # the owner's stays


# --- quotas, recovery, the audit log ---

def test_quotas(w):
    p = Person(w).register()
    boss = admin(w)
    r = boss.call("PUT", f"/api/users/{p.me['id']}", json={"max_workspaces": 1, "max_running": 2})
    assert r.status_code == 200 and (r.json()["max_workspaces"], r.json()["max_running"]) == (1, 2)
    assert p.call("GET", "/api/me").json()["quotas"] == {"max_workspaces": 1, "max_running": 2, "max_bytes": 10 << 30, "bytes_used": 0}
    path = p.workspace()
    assert code(p.call("POST", "/api/workspaces", json={"name": "x", "template": "python"})) == (409, "workspaces")
    body = {"template": "python", "files": [{"path": "main.py", "content": "1"}]}
    made = [p.call("POST", "/api/executions", json=body) for _ in range(3)]
    assert [r.status_code for r in made] == [202, 202, 429] and code(made[2]) == (429, "quota") and made[2].headers["Retry-After"]
    assert code(p.call("POST", f"{path}/run", json={"command": "true"})) == (429, "running")
    assert code(p.call("POST", f"{path}/sandbox")) == (429, "running")
    w.pg.sql(f"update processes set status = 'completed', ended_at = now() where id = '{made[0].json()['process_id']}'")
    assert p.call("POST", f"{path}/run", json={"command": "true"}).status_code == 202
    assert boss.submit("python", {"main.py": "1"}).status_code == 202


def test_administrators(w):
    p, boss = Person(w).register(), admin(w)
    for method, path in (("GET", "/api/users"), ("GET", "/api/audit"), ("PUT", f"/api/users/{p.me['id']}"), ("POST", f"/api/users/{p.me['id']}/recovery")):
        assert code(p.call(method, path, json={"role": "admin"} if method == "PUT" else None)) == (403, "forbidden")
    found = boss.call("GET", f"/api/users?email={p.email}").json()["items"]
    assert [u["id"] for u in found] == [p.me["id"]]
    seen, cursor = [], ""
    while cursor is not None:
        page = boss.call("GET", f"/api/users?limit=3{cursor}").json()
        seen += [u["id"] for u in page["items"]]
        cursor = "&cursor=" + page["next_cursor"] if page["next_cursor"] else None
    assert len(seen) == len(set(seen)) == int(w.pg.sql("select count(*) from users")[0][0])
    for bad in ("limit=0", "cursor=x", "email=x"):
        assert boss.call("GET", f"/api/users?{bad}").status_code == 400
    assert boss.call("PUT", f"/api/users/{uuid.uuid4()}", json={}).status_code == 404
    assert boss.call("PUT", f"/api/users/{p.me['id']}", json={"role": "admin"}).json()["role"] == "admin"
    assert p.call("GET", "/api/users").status_code == 200
    assert boss.call("PUT", f"/api/users/{p.me['id']}", json={"role": "user"}).json()["role"] == "user"
    assert boss.call("PUT", f"/api/users/{p.me['id']}", json={"disabled": True}).json()["disabled"] is True
    assert p.call("GET", "/api/me").status_code == 401
    Person(w).enter("login", (401,), email=p.email, password=PASSWORD)
    assert boss.call("PUT", f"/api/users/{p.me['id']}", json={"disabled": False}).json()["disabled"] is False
    Person(w).enter("login", email=p.email, password=PASSWORD)


def test_recovery(w):
    p, boss = Person(w).register(), admin(w)
    first = boss.call("POST", f"/api/users/{p.me['id']}/recovery")
    assert first.status_code == 201 and first.json()["url"].startswith(w.url + "/recover#")
    second = boss.call("POST", f"/api/users/{p.me['id']}/recovery").json()
    back = Person(w)
    back.enter("recover", (403,), token=first.json()["token"], password="a new password")  # only the newest is good
    back.enter("recover", (200,), token=second["token"], password="a new password")
    assert back.me["id"] == p.me["id"] and p.call("GET", "/api/me").status_code == 401  # the old sessions are gone
    back.enter("recover", (403,), token=second["token"], password="once more please")
    Person(w).enter("login", email=p.email, password="a new password")
    assert boss.call("POST", f"/api/users/{uuid.uuid4()}/recovery").status_code == 404
    assert boss.call("POST", f"/api/users/{Person(w).guest().me['id']}/recovery").status_code == 404
    third = boss.call("POST", f"/api/users/{p.me['id']}/recovery").json()
    w.pg.sql("update recoveries set expires_at = now()")
    Person(w).enter("recover", (403,), token=third["token"], password="a new password")


def test_audit(w):
    p, boss = Person(w).register(), admin(w)
    path = p.workspace()
    _, key = p.key(label="x")
    p.call("PUT", f"{path}/members/a@b.c", json={"role": "viewer"}, headers={"X-Request-Id": "audited-1"})
    p.call("DELETE", f"/api/keys/{key['id']}")
    boss.call("PUT", f"/api/users/{p.me['id']}", json={"max_running": 5})
    lines = boss.call("GET", "/api/audit?limit=10").json()
    mine = [x for x in lines["items"] if x["actor"] == p.me["id"]]
    assert [x["action"] for x in mine] == ["key_revoke", "member_put", "key_create", "register"]
    assert mine[1]["detail"] == "a@b.c viewer" and mine[1]["origin"] == "127.0.0.1 audited-1"
    assert lines["items"][0]["action"] == "user_put" and lines["items"][0]["detail"] == "max_running=5"
    older = boss.call("GET", f"/api/audit?limit=10&cursor={lines['next_cursor']}").json()["items"]
    assert older[0]["id"] < lines["items"][-1]["id"]
    assert PASSWORD not in str(w.pg.sql("select * from audit")) and key["key"] not in str(w.pg.sql("select * from audit"))


# --- the command ---

def test_cli(w, tmp_path):
    p = Person(w).register()
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "DEVBOX_URL": w.url}

    def cli(*args, stdin="", expect=0):
        r = subprocess.run([w.bin / "devbox-cli", *args], input=stdin, env=env, capture_output=True, text=True, timeout=60)
        assert r.returncode == expect, r.stderr
        return json.loads(r.stdout) if r.stdout else r.stderr

    assert "login" in cli("keys", expect=125)
    assert "do not fit" in cli("login", "--email", p.email, stdin="wrong\n", expect=125)
    assert "signed in" in cli("login", "--email", p.email, stdin=PASSWORD + "\n")
    kept = tmp_path / ".config/devbox/keys"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and PASSWORD not in kept.read_text()
    assert [k["label"].startswith("login on ") for k in cli("keys")["items"]] == [True]
    assert len(p.call("GET", "/api/sessions").json()["items"]) == 1  # the one of login has ended
    made = cli("keys", "create", "--label", "ci", "--scopes", "read,run")
    assert made["scopes"] == ["read", "run"] and Client(w.url, made["key"]).call("GET", "/api/me").status_code == 200
    assert cli("keys", "revoke", made["id"]) == "" and "scopes" in cli("keys", "create", "--scopes", "x", expect=125)
    ws = cli("workspaces", "create", "from the shell")
    assert ws["role"] == "owner" and [x["id"] for x in cli("workspaces")["items"]] == [ws["id"]]
    link = cli("share", ws["id"], "--role", "editor")
    assert link["url"].startswith(w.url + "/s/") and Person(w).call("GET", link["url"][len(w.url):]).json()["role"] == "editor"
    assert cli("share", ws["id"], "--email", "friend+1@example.org") == {"email": "friend+1@example.org", "role": "viewer"}
    assert "no such object" in cli("share", str(uuid.uuid4()), expect=125)
    cli("share", "../../x", expect=125)
    for bad in (["keys", "x"], ["keys", "--label"], ["share"], ["workspaces", "create"], ["nonsense"], ["keys", "a", "b", "c"], ["keys", "--evil", "x"]):
        cli(*bad, expect=125)
    # On a terminal: a table.
    ours, theirs = pty.openpty()
    subprocess.run([w.bin / "devbox-cli", "workspaces"], env=env, stdout=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # its end
        while piece := os.read(ours, 4096):
            shown += piece
    assert b"from the shell" in shown
    os.close(ours)
    assert cli("workspaces", "delete", ws["id"]) == ""
