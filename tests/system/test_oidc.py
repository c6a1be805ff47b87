# SPDX-License-Identifier: Apache-2.0
"""Login at an identity provider: a real one, and ones that lie."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import uuid

import pytest

from conftest import free_port
from test_gateway import World
from test_people import Person

HERE = pathlib.Path(__file__).parent
VERSION = "8.8.1"


def modules():
    """Installed once, into the cache, by npm from its registry."""
    cache = pathlib.Path(os.environ.get("DEVBOX_CACHE") or pathlib.Path.home() / ".cache/devbox") / f"oidc-provider-{VERSION}"
    if not (cache / "done").exists():
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        (cache / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"oidc-provider@{VERSION}"], cwd=cache, check=True,
                       capture_output=True, timeout=600)
        (cache / "done").touch()
    return cache


class Provider:
    def __init__(self):
        self.port = free_port(1)
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.redirects = []

    def start(self):
        self.proc = subprocess.Popen(["node", HERE / "oidc_provider.mjs", modules(), str(self.port), *self.redirects],
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.proc.stdout.readline() == "ready\n"

    def stop(self):
        self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()


class Setting:
    """Gateways that send people to a provider."""

    def __init__(self, w, tmp):
        self.w, self.tmp, self.provider = w, tmp, Provider()
        self.urls = {c: self.gateway(self.provider.issuer, c) for c in ("rs", "es")}
        self.provider.redirects = [f"{u}/api/auth/oidc/callback" for u in self.urls.values()]
        self.provider.start()

    def gateway(self, issuer, client):
        secret = self.tmp / f"{client}.secret"
        secret.write_text(f"{client}-secret & more\n")
        return self.w.gateway(f"--oidc-issuer={issuer}", f"--oidc-client-id={client}", f"--oidc-secret-file={secret}")


@pytest.fixture(scope="module")
def s(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("oidc")
    w = World(tmp)
    setting = Setting(w, tmp)
    yield setting
    setting.provider.stop()
    w.close()


def follow(p, r, name):
    """What a browser and its owner do: redirects, the provider's form of login, its form of consent; up to our callback."""
    for _ in range(12):
        if r.status_code in (302, 303):
            url = urllib.parse.urljoin(r.url, r.headers["Location"])
            if "/api/auth/oidc/callback" in url:
                return url
            r = p.http.get(url, allow_redirects=False, timeout=60)
        else:
            action = re.search(r'<form[^>]* action="([^"]+)"', r.text)
            assert r.status_code == 200 and action, r.text
            login = 'value="login"' in r.text
            form = {"prompt": "login", "login": name, "password": "x"} if login else {"prompt": "consent"}
            r = p.http.post(urllib.parse.urljoin(r.url, action[1]), data=form, allow_redirects=False, timeout=60)
    raise AssertionError("it goes round in circles")


def begin(p, return_to="/w/1"):
    r = p.http.get(f"{p.url}/api/auth/oidc/login?return_to={return_to}", allow_redirects=False, timeout=60)
    assert r.status_code == 303, r.text
    return r


def come_in(p, name, return_to="/w/1"):
    r = p.http.get(follow(p, begin(p, return_to), name), allow_redirects=False, timeout=60)
    if r.status_code == 303:
        p.me = p.call("GET", "/api/me").json()
        p.csrf = p.me["csrf_token"]
    return r


@pytest.mark.parametrize("client", ["rs", "es"])
def test_login(s, client):
    name = "ann" + client
    p = Person(s.w, s.urls[client])
    away = urllib.parse.parse_qs(urllib.parse.urlsplit(begin(p).headers["Location"]).query)
    assert away["code_challenge_method"] == ["S256"] and away["response_type"] == ["code"] and away["state"] and away["nonce"]
    r = come_in(p, name)
    assert r.status_code == 303 and r.headers["Location"] == "/w/1", r.text
    assert p.me["email"] == f"{name}@provider.example" and p.me["guest"] is False
    again = Person(s.w, s.urls[client])
    assert come_in(again, name, "//evil.example").headers["Location"] == "/"
    assert again.me["id"] == p.me["id"]
    assert s.w.pg.sql(f"select count(*) from audit where action = 'login_oidc' and actor = '{p.me['id']}'") == [["2"]]


def test_a_guest_keeps_what_he_made(s):
    g = Person(s.w, s.urls["rs"]).guest()
    path, before = g.workspace(), g.me["id"]
    assert come_in(g, "formerguest").status_code == 303
    assert g.me["id"] == before and g.me["guest"] is False and g.call("GET", path).json()["role"] == "owner"


def test_addresses(s):
    """An unverified address is none; that of another account does not open it."""
    p = Person(s.w, s.urls["rs"])
    assert come_in(p, "unverified").status_code == 303 and p.me["email"] is None
    q = Person(s.w, s.urls["rs"])
    assert come_in(q, "mailless").status_code == 303 and q.me["email"] is None and q.me["id"] != p.me["id"]
    Person(s.w).register("taken@provider.example")
    r = come_in(Person(s.w, s.urls["rs"]), "taken")
    assert r.status_code == 403 and r.json()["error"]["code"] == "login_refused"


def test_a_role_waits_for_a_verified_address(s):
    owner, p = Person(s.w).register(), Person(s.w, s.urls["rs"])
    path = owner.workspace()
    for name in ("awaited", "unverified"):
        assert owner.call("PUT", f"{path}/members/{name}@provider.example", json={"role": "editor"}).status_code == 200
    assert come_in(p, "awaited").status_code == 303
    assert p.call("GET", path).json()["role"] == "editor"
    assert [x["id"] for x in p.call("GET", "/api/workspaces").json()["items"]] == [path.split("/")[-1]]
    listed = {m["email"].split("@")[0]: (m["pending"], m["verified"]) for m in owner.call("GET", f"{path}/members").json()["items"]}
    assert listed == {"awaited": (False, True), "unverified": (True, False)}
    p = Person(s.w, s.urls["rs"])
    assert come_in(p, "unverified").status_code == 303 and p.call("GET", path).status_code == 404


def test_an_answer_is_good_once_and_in_its_browser(s):
    p, thief = Person(s.w, s.urls["rs"]), Person(s.w, s.urls["rs"])
    url = follow(p, begin(p), "once")
    begin(thief)  # has a login of his own on its way
    assert thief.http.get(url, allow_redirects=False, timeout=60).status_code == 403
    assert p.http.get(re.sub(r"state=[^&]+", "state=" + "x" * 43, url), allow_redirects=False, timeout=60).status_code == 403
    assert p.http.get(url, allow_redirects=False, timeout=60).status_code == 303
    assert p.http.get(url, allow_redirects=False, timeout=60).status_code == 403
    q = Person(s.w, s.urls["rs"])
    url = follow(q, begin(q), "late")
    s.w.pg.sql("update oidc_logins set expires_at = now()")
    assert q.http.get(url, allow_redirects=False, timeout=60).status_code == 403
    q = Person(s.w, s.urls["rs"])
    url = follow(q, begin(q), "wrongcode")
    assert q.http.get(re.sub(r"code=[^&]+", "code=guessed", url), allow_redirects=False, timeout=60).status_code == 403
    for query in ("", "?state=", "?code=x", "?state=%00", "?error=access_denied", "?state=" + "x" * 3000):
        assert q.http.get(f"{q.url}/api/auth/oidc/callback{query}", allow_redirects=False, timeout=60).status_code in (400, 403)


def test_the_provider_changes_its_keys_and_goes_away(s):
    assert come_in(Person(s.w, s.urls["rs"]), "before").status_code == 303
    s.provider.stop()
    p = Person(s.w, s.urls["rs"])
    r = p.http.get(f"{p.url}/api/auth/oidc/callback?code=x&state={'x' * 43}", timeout=60)
    assert r.status_code == 403
    other = s.gateway(s.provider.issuer, "rs")  # knows nothing of it yet
    r = Person(s.w, other).http.get(f"{other}/api/auth/oidc/login", allow_redirects=False, timeout=60)
    assert r.status_code == 503 and r.json()["error"]["code"] == "provider_unavailable" and r.headers["Retry-After"]
    s.provider.start()

    p = Person(s.w, s.urls["rs"])

    def back():
        r = p.http.get(f"{p.url}/api/auth/oidc/login", allow_redirects=False, timeout=60)
        if r.status_code == 303:
            return p.http.get(follow(p, r, "after"), allow_redirects=False, timeout=60).status_code == 303
        time.sleep(float(r.headers["Retry-After"]))  # not back yet, or asked too often

    s.w.until(back, 60)


def test_without_a_provider(s):
    r = Person(s.w).http.get(f"{s.w.url}/api/auth/oidc/login", timeout=60)
    assert r.status_code == 404 and r.json()["error"]["code"] == "no_oidc"


class Liar(http.server.BaseHTTPRequestHandler):
    """Describes itself as it should, and answers for tokens with what it is told to."""

    token = about = None

    def answer(self, body, status=200, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for h in headers:
            self.send_header(*h)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        base = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.path == "/keys":
            self.answer({"keys": [{"kty": "oct", "kid": "o", "k": "c2VjcmV0"}, {"kty": "RSA", "kid": "r", "n": "AQAB" * 90, "e": "AQAB"}]})
        else:
            self.answer({"issuer": base, "authorization_endpoint": base + "/a", "token_endpoint": base + "/t", "jwks_uri": base + "/keys",
                         **(Liar.about or {})})

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        form = urllib.parse.parse_qs(self.rfile.read(length).decode())
        assert form["grant_type"] == ["authorization_code"] and len(form["code_verifier"][0]) == 43
        user, secret = base64.b64decode(self.headers["Authorization"].split()[1]).decode().split(":")
        assert (user, urllib.parse.unquote(secret)) == ("rs", "rs-secret & more")
        Liar.token(self)

    def log_message(self, *args):
        pass


def b64(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_provider_that_lies(s):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    issuer = f"http://127.0.0.1:{server.server_address[1]}"
    url = s.gateway(issuer, "rs")

    def claims(nonce, **other):
        return {"iss": issuer, "aud": "rs", "sub": "x", "iat": int(time.time()), "exp": int(time.time()) + 100, "nonce": nonce, **other}

    def login(token, status=200, headers=()):
        p = Person(s.w, url)
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(begin(p).headers["Location"]).query)
        body = token(query["nonce"][0]) if callable(token) else token
        Liar.token = lambda handler: handler.answer(body, status, headers)
        r = p.http.get(f"{url}/api/auth/oidc/callback?code=c&state={query['state'][0]}", allow_redirects=False, timeout=60)
        assert "devbox" not in r.cookies and p.call("GET", "/api/me").status_code == 401
        return r.status_code

    def signed(head, nonce, key, **other):
        text = b64(head) + "." + b64(claims(nonce, **other))
        return {"id_token": text + "." + b64(hmac.new(key, text.encode(), hashlib.sha256).digest())}

    assert login(lambda n: {"id_token": b64({"alg": "none"}) + "." + b64(claims(n)) + "."}) == 403
    assert login(lambda n: {"id_token": b64({"alg": "NONE", "kid": "r"}) + "." + b64(claims(n)) + ".AAAA"}) == 403
    assert login(lambda n: signed({"alg": "HS256", "kid": "o"}, n, b"secret")) == 403
    assert login(lambda n: signed({"alg": "HS256", "kid": "r"}, n, base64.b64decode("AQAB" * 90))) == 403
    assert login(lambda n: signed({"alg": "RS256", "kid": "r"}, n, b"x")) == 403
    assert login(lambda n: signed({"alg": "RS256", "kid": "../../etc/passwd"}, n, b"x")) == 403
    assert login(lambda n: signed({"alg": "ES256"}, n, b"x")) == 403
    for bad in ({}, [], {"id_token": None}, {"id_token": ""}, {"id_token": "a.b.c"}, {"id_token": "." * 5000}, {"id_token": "A" * 100000}, b"", b"\xff", b"[" * 100000):
        assert login(bad) == 403
    assert login({"id_token": "x"}, 400) == 403 and login({}, 302, [("Location", issuer + "/elsewhere")]) == 403
    assert login({}, 500) == 503 and login(b"x" * (1 << 20)) == 503
    for about in ({"issuer": "http://other"}, {"token_endpoint": "file:///etc/passwd"}, {"jwks_uri": None}, {"authorization_endpoint": 7}):
        Liar.about = about
        fresh = s.gateway(issuer, "rs")
        r = Person(s.w, fresh).http.get(f"{fresh}/api/auth/oidc/login", allow_redirects=False, timeout=60)
        assert r.status_code == 503
    Liar.about = None
    server.shutdown()
    assert uuid.UUID(Person(s.w, url).guest().me["id"])  # and the gateway is well
