# SPDX-License-Identifier: Apache-2.0
"""Calls of the API are limited, a caller: who makes too many is told when to come again, on every operation; nobody else notices."""

import re
import secrets
import shutil
import tempfile
import time
import uuid

import pytest
import requests
import yaml

from conftest import ROOT, DevBox, free_port

PASSWORD = "correct horse battery"
METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def box():
    state = tempfile.mkdtemp(prefix="devbox-rate-")
    box = DevBox(state, free_port())
    box.env |= {"DEVBOX_GATEWAY_RATE_PER_SECOND": "1", "DEVBOX_GATEWAY_RATE_BURST": "30"}
    try:
        yield box.up("--gateways", "1", "--no-images")
    finally:
        box.down()
        shutil.rmtree(state, ignore_errors=True)


def patient(fn):
    """The address may be out of calls."""
    deadline = time.monotonic() + 90
    while (r := fn()).status_code == 429:
        assert time.monotonic() < deadline, r.text
        time.sleep(float(r.headers["Retry-After"]))
    assert r.ok, r.text
    return r.json()


def person(box):
    """A key of somebody new."""
    http = requests.Session()
    who = {"email": f"{uuid.uuid4().hex}@example.org", "password": PASSWORD}
    me = patient(lambda: http.post(box.url + "/api/auth/register", json=who, timeout=60))
    scopes, csrf = {"scopes": ["read", "write", "run", "account"]}, {"X-CSRF-Token": me["csrf_token"]}
    return patient(lambda: http.post(box.url + "/api/keys", json=scopes, headers=csrf, timeout=60))["key"]


def call(box, method, path, key=None, **kw):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return requests.request(method, box.url + path, headers=headers, timeout=60, **kw)


def exhaust(box, key):
    """Calls until there is a 429; all answers."""
    answers = []
    while not answers or answers[-1].status_code != 429:
        assert len(answers) < 200
        answers.append(call(box, "GET", "/api/templates", key))
    return answers


def test_a_user(box):
    key, other = person(box), person(box)
    began = time.monotonic()
    answers = exhaust(box, key)
    allowed, last = answers[:-1], answers[-1]
    assert 29 <= len(allowed) <= 30 + time.monotonic() - began
    assert {r.status_code for r in allowed} == {200} and {r.headers["RateLimit-Limit"] for r in allowed} == {"30"}
    left = [int(r.headers["RateLimit-Remaining"]) for r in allowed]
    assert max(left) <= 29 and left[-1] == 0
    assert last.json()["error"]["code"] == "rate_limited" and last.json()["error"]["type"] == "limit"
    assert last.headers["RateLimit-Remaining"] == "0" and last.headers["Retry-After"] == last.headers["RateLimit-Reset"] == "1"
    assert call(box, "GET", "/api/templates", other).status_code == 200, "it is another's"
    assert int(call(box, "GET", "/api/templates", box.key).headers["RateLimit-Limit"]) == 3000, "an administrator"
    for free in ("/healthz", "/readyz", "/metrics"):
        r = call(box, "GET", free, key)
        assert r.status_code == 200 and "RateLimit-Limit" not in r.headers
    deadline = time.monotonic() + 60
    while call(box, "GET", "/api/templates", key).status_code == 429:
        assert time.monotonic() < deadline, "not again"


def test_an_address(box):
    """Whoever shows no key, or a wrong one."""
    answers = [call(box, "GET", "/api/me", None if i % 2 else secrets.token_hex(16)) for i in range(100)]
    assert {r.status_code for r in answers} == {401, 429}
    assert all(r.headers["Retry-After"] == "1" for r in answers if r.status_code == 429)
    assert call(box, "GET", "/api/templates", box.key).status_code == 200
    r = call(box, "GET", "/api/version")
    assert r.status_code in (200, 429) and r.headers["RateLimit-Limit"] == "30"


def test_every_operation(box):
    """No operation is left out, in the server and in the document."""
    doc = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    key = person(box)
    exhaust(box, key)
    for path, methods in doc["paths"].items():
        for method in METHODS:
            if method not in methods or not path.startswith(("/api/", "/s/")) or path.startswith("/api/stream/"):
                continue  # a stream is opened by its token, not by a call
            assert "429" in methods[method]["responses"], (method, path)
            url = re.sub(r"\{\w+\}", str(uuid.uuid4()), path)
            for _ in range(30):  # one comes back each second
                r = call(box, method.upper(), url, key, allow_redirects=False)
                if r.status_code == 429:
                    break
            assert r.status_code == 429 and r.headers["Retry-After"] and r.headers["RateLimit-Limit"], (method, path, r.status_code)
