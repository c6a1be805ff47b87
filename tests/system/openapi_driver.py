# SPDX-License-Identifier: Apache-2.0
"""Drives every operation of an OpenAPI document by schemathesis; run by test_openapi.py with the Python that has it.

argv: the document, the URL, an administrator's key, examples an operation and mode, a seed (0: always the same examples). Prints one JSON
object: `breaches` (words), `answers` (operation -> status -> how many)."""

import collections
import io
import itertools
import json
import random
import re
import sys
import tarfile
import time
import uuid

import hypothesis
import requests
import schemathesis
import schemathesis.checks
import yaml
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.core import NotSet
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

PASSWORD = "correct horse battery"
CHECKS = [checks.status_code_conformance, checks.content_type_conformance, checks.response_headers_conformance, checks.response_schema_conformance]
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
GARBAGE = ("x", "0", "%00", "..", "%2e%2e", "' or 1=1 --", "é", "a" * 300, "00000000-0000-0000-0000-00000000000", "{id}", "%ff", "null")
ANY = {"email": "somebody@example.org", "slug": "x" * 22}
ENDING = ("delete", "/input", "/cancel", "/signal", "/recovery")  # what takes things away, or wants them as they began: of one's own each time


class World:
    """Somebody with a few of everything, and means to make more of what is used up."""

    def __init__(self, url, admin_key):
        self.url, self.admin = url, {"Authorization": f"Bearer {admin_key}"}
        self.email = f"{uuid.uuid4().hex}@example.org"
        self.http = requests.Session()
        entered = self.http.post(url + "/api/auth/register", json={"email": self.email, "password": PASSWORD}, timeout=60).json()
        self.id, csrf = entered["id"], {"X-CSRF-Token": entered["csrf_token"]}
        scopes = ["read", "write", "run", "account"]
        key = self.http.post(url + "/api/keys", json={"scopes": scopes}, headers=csrf, timeout=60).json()["key"]
        self.http.cookies.clear()
        self.user = {"Authorization": f"Bearer {key}"}
        self.make("PUT", f"/api/users/{self.id}", {"max_workspaces": 100000, "max_running": 1000}, self.admin)
        self.kept, self.others = {}, []

    def make(self, method, path, body=None, headers=None):
        r = requests.request(method, self.url + path, json=body, headers=headers or self.user, timeout=60)
        assert r.ok, (method, path, r.status_code, r.text)
        return r.json()

    def workspace(self):
        return self.make("POST", "/api/workspaces", {"name": "x", "template": "python"})["id"]

    def execution(self):
        return self.make("POST", "/api/executions", {"template": "python", "files": [{"path": "main.py", "content": "input()"}],
                                                     "limits": {"wall_ms": 5000}})

    def registered(self):
        """Another account. They are few, for passwords are slow on purpose and tries are counted."""
        if not self.others:
            for _ in range(3):
                self.others.append(self.make("POST", "/api/auth/register", {"email": f"{uuid.uuid4().hex}@example.org", "password": PASSWORD})["id"])
        return random.choice(self.others)

    def new(self, kind):
        if kind == "workspaces":
            ws = self.workspace()
            self.make("PUT", f"/api/workspaces/{ws}/members/third@example.org", {"role": "viewer"})
            return {"id": ws, "email": "third@example.org"}
        if kind == "files":
            return {"id": self.make("POST", f"/api/workspaces/{self.workspace()}/files", {"path": "a/b.txt", "content": "hello"})["id"]}
        if kind == "executions":
            return {"id": self.execution()["id"]}
        if kind in ("processes", "sandboxes", "stream"):
            run = self.make("POST", f"/api/workspaces/{self.workspace()}/run", {"command": "cat", "limits": {"wall_ms": 20000}})
            deadline = time.monotonic() + 60
            while self.make("GET", f"/api/processes/{run['process_id']}")["status"] == "pending" and time.monotonic() < deadline:
                time.sleep(0.05)
            return {"id": run["process_id" if kind == "processes" else "sandbox_id"], "sandbox_id": run["sandbox_id"], "token": run["stream_token"]}
        if kind == "batches":
            return {"id": self.make("POST", "/api/batches", {"template": "python", "executions": [{"stdin": "1"}], "webhook": {"url": "https://192.0.2.1/"}})["id"]}
        if kind == "keys":
            return {"id": self.make("POST", "/api/keys")["id"]}
        if kind == "sessions":
            requests.post(self.url + "/api/auth/login", json={"email": self.email, "password": PASSWORD}, timeout=60)
            return {"id": random.choice(self.make("GET", "/api/sessions")["items"])["id"]}
        if kind == "users":
            return {"id": self.registered()}
        ws = self.workspace()
        link = self.make("POST", f"/api/workspaces/{ws}/links", {"role": "viewer"})
        return {"id": ws, "link_id": link["id"], "slug": link["slug"]}

    def thing(self, path, method):
        """Values for the variables of a path: old ones, or new ones where the operation takes them away."""
        kind = "links" if "{link_id}" in path or path.startswith("/s/") else path.split("/")[2]
        if method == "delete" or path.endswith(ENDING):
            return self.new(kind)
        if kind not in self.kept:
            self.kept[kind] = self.new(kind)
        return self.kept[kind]

    def session(self):
        r = requests.post(self.url + "/api/auth/login", json={"email": self.email, "password": PASSWORD}, timeout=60)
        return r.cookies["devbox"], r.json()["csrf_token"]


def tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        entry = tarfile.TarInfo("from/archive.txt")
        entry.size = 1
        t.addfile(entry, io.BytesIO(b"x"))
    return out.getvalue()


def widen_body(case, world, likely):
    """What a schema cannot say of bodies: names that exist, paths that may be, what fits together."""
    path, body = case.operation.path, case.body
    if path.endswith("/archive") and case.operation.method == "post" and likely(0.5):
        case.body = tar()
        (case.query or {}).pop("path", None)
    if not isinstance(body, dict):
        return
    if isinstance(body.get("template"), str) and likely(0.8):
        body["template"] = "python"
    if (case.query or {}).get("wait") and body.get("limits") in (None, {}) and likely(0.9):
        body["limits"] = {"wall_ms": 2000}
    if isinstance(body.get("path"), str) and likely(0.7):
        body.update(path=f"d/{uuid.uuid4().hex[:6]}.txt", **({} if path.endswith("/move") else {"type": "file"}))
        if not path.endswith("/move") and "content" not in body and "content_base64" not in body:
            body["content"] = "x"
    if path.endswith("/run") and "command" in body and likely(0.5):
        body.clear()
        body["command"] = "true"
    if path.endswith("/sandbox") and likely(0.5):
        body.clear()
    if path in ("/api/auth/login", "/api/auth/register") and likely(0.5):
        email = world.email if path.endswith("login") else f"{uuid.uuid4().hex}@example.org"
        case.body = {"email": email, "password": PASSWORD}
    if path == "/api/me" and likely(0.5):
        case.body = {"password": PASSWORD, "current_password": PASSWORD}
    if path == "/api/auth/recover" and likely(0.5):
        token = world.make("POST", f"/api/users/{world.registered()}/recovery", headers=world.admin)["token"]
        case.body = {"token": token, "password": PASSWORD}


def widen(case, world, rng, likely):
    """What a schema cannot say: names of things that are there."""
    path, method = case.operation.path, case.operation.method
    if likely(0.8):  # most headers would end the request before anything else is looked at
        case.headers = {k: v for k, v in (case.headers or {}).items() if k in ("Idempotency-Key", "If-Match") and v.isprintable() and v.isascii()}
        case.cookies = {}
    if likely(0):
        case.headers = {}
    case.path_parameters = dict(case.path_parameters or {})
    if "{" in path and likely(0.85):
        thing = world.thing(path, method)
        for name in case.path_parameters:
            if name in thing:
                case.path_parameters[name] = thing[name]
        if "token" in thing and path.startswith("/api/stream") and likely(0.7):
            case.query = {**(case.query or {}), "token": thing["token"]}
            case.query.pop("resume", None)
    elif "{" in path and rng.random() < 0.6:
        case.path_parameters[rng.choice(list(case.path_parameters))] = rng.choice(GARBAGE)
    widen_body(case, world, likely)


def call(case, world, likely):
    path = case.operation.path
    headers, more = dict(world.admin if path.startswith(("/api/users", "/api/audit")) else world.user), {}
    if path == "/api/auth/logout" and likely(0.5):
        session, csrf = world.session()
        headers, case.cookies = {"X-CSRF-Token": csrf}, {"devbox": session}
    if path.startswith("/api/stream"):
        headers = {}
    if path.startswith("/api/stream") or path.endswith("/socket") and likely(0.7):
        headers.update(UPGRADE)
    if path.endswith("/upload") and likely(0.5):
        (case.query or {}).pop("path", None)
        case.body, more["files"] = NotSet(), [("file", ("from-upload.txt", b"x"))]
    session = requests.Session()
    session.trust_env = False
    r = case.call(session=session, headers=headers, timeout=60, allow_redirects=False, **more)
    session.close()
    return r


def own_breaches(r, documented):
    headers = {k.lower(): v[0] for k, v in r.headers.items()}
    if r.status_code >= 500 and not (r.status_code == 503 and headers.get("retry-after")):
        yield "a server error"
    if r.status_code == 429 and not headers.get("retry-after"):
        yield "no Retry-After"
    if r.status_code != 101 and headers.get("devbox-api-version") != "1":
        yield "no DevBox-API-Version"
    if documented is not None and "content" not in documented and r.content:
        yield f"a body where none is documented: {r.content[:80]!r}"


def resolve(doc, entry):
    while entry is not None and "$ref" in entry:
        entry = doc["components"]["responses"][entry["$ref"].split("/")[-1]]
    return entry


def drive(operation, mode, world, doc, settings, seed, found, answers):
    name = f"{operation.method.upper()} {operation.path}"
    responses = doc["paths"][operation.path][operation.method]["responses"]
    rng = random.Random(f"{seed} {name} {mode}")
    given = {n: ANY.get(n, str(uuid.UUID(int=7))) for n in re.findall(r"\{(\w+)\}", operation.path)}  # widen() has others
    left = [mode == GenerationMode.POSITIVE]  # one, at least, shall be as good as it gets

    @hypothesis.settings(settings)
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode, **({"path_parameters": given} if given else {})))
    def one(case):
        best = left[0]
        left[0] = False

        def likely(p):
            return best or rng.random() < p

        widen(case, world, rng, likely)
        r = call(case, world, likely)
        answers[name][r.status_code] += 1
        words = list(own_breaches(r, resolve(doc, responses.get(str(r.status_code)))))
        try:
            case.validate_response(r, checks=CHECKS)
        except FailureGroup as e:
            words += [f"{type(f).__name__}: {str(f)[:300]}" for f in e.exceptions]
        for w in words:
            found[name, r.status_code, w.split(":")[0]].append(f"{w}\n  {case.as_curl_command()[:600]}\n  {r.text[:300]}")

    try:
        one()
    except hypothesis.errors.Unsatisfiable:
        assert mode == GenerationMode.NEGATIVE, name  # nothing can be wrong about it


def main(document, url, admin_key, examples, seed):
    doc = yaml.safe_load(open(document))
    schema = schemathesis.openapi.from_dict(doc)
    schema.config.update(base_url=url)
    settings = hypothesis.settings(max_examples=int(examples), derandomize=seed == "0", database=None, deadline=None,
                                   suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
    world = World(url, admin_key)
    found, answers = collections.defaultdict(list), collections.defaultdict(collections.Counter)
    operations = [o.ok() for o in schema.get_all_operations()]
    for operation, mode in itertools.product(operations, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):
        if mode == GenerationMode.NEGATIVE and not (operation.query or any(b.media_type == "application/json" for b in operation.body)):
            continue  # what may be wrong about an id is among GARBAGE, about archives and forms in fuzz targets and tests of their own
        print(f"{time.monotonic():.1f} {mode.value} {operation.label}", file=sys.stderr, flush=True)
        drive(operation, mode, world, doc, settings, seed, found, answers)
    print(json.dumps({"breaches": [f"{n} {status}: {words[0]} ({len(words)} times)" for (n, status, _), words in sorted(found.items())],
                      "answers": answers}))


if __name__ == "__main__":
    main(*sys.argv[1:])
