# SPDX-License-Identifier: Apache-2.0
"""DevBox behind a certificate of its own: HTTPS and WSS, cookies that stay with it, and no way around it."""

import socket
import ssl
import subprocess

import pytest
import requests
import websocket


@pytest.fixture()
def box(own_devbox, tmp_path):
    """Off loopback would be any address; here it is every one."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=devbox",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    box = own_devbox
    r = box.command("up", "--port", str(box.port), "--bind", "0.0.0.0", "--no-images")
    assert r.returncode != 0 and "--tls-cert" in r.stderr  # before anything is started
    box.up("--bind", "0.0.0.0", "--no-images", "--tls-cert", str(cert), "--tls-key", str(key))
    box.cert = str(cert)
    return box


def test_tls(box):
    url = f"https://127.0.0.1:{box.port}"
    assert box.url.startswith("https://")
    s = requests.Session()
    s.verify, s.trust_env = box.cert, False  # an environment that names certificates would win
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url + "/healthz", timeout=60)  # nobody has vouched for it
    r = s.get(url + "/api/version", timeout=60)
    assert r.status_code == 200
    hsts = r.headers["Strict-Transport-Security"]
    assert int(hsts.split("max-age=")[1].split(";")[0]) >= 15552000 and "includeSubDomains" not in hsts

    # The cookie: only the prefixed one, only by TLS.
    r = s.post(url + "/api/auth/guest", timeout=60)
    cookies = r.raw.headers.getlist("Set-Cookie")
    assert len(cookies) == 1 and cookies[0].startswith("__Host-devbox=")
    assert all(a in cookies[0] for a in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/")) and "Domain" not in cookies[0]
    secret, csrf = cookies[0].split("=", 1)[1].split(";")[0], r.json()["csrf_token"]
    s.cookies.clear()
    assert s.get(url + "/api/me", headers={"Cookie": f"devbox={secret}"}, timeout=60).status_code == 401  # the plain twin is none here
    assert s.get(url + "/api/me", headers={"Cookie": f"__Host-devbox={secret}"}, timeout=60).status_code == 200

    # A run, and its stream by WSS.
    headers = {"Cookie": f"__Host-devbox={secret}", "X-CSRF-Token": csrf, "Origin": url}
    body = {"template": "python", "files": [{"path": "main.py", "content": "print(input())"}]}
    a = s.post(url + "/api/executions", json=body, headers=headers, timeout=60).json()
    wss = f"wss://127.0.0.1:{box.port}/api/stream/{a['sandbox_id']}?token={a['stream_token']}"
    ws = websocket.create_connection(wss, timeout=60, sslopt={"ca_certs": box.cert}, origin=url)
    ws.send('{"type":"input","process_id":"%s","data":"by TLS\\n"}' % a["process_id"])
    text = ""
    while '"completed"' not in text:
        text += ws.recv()
    assert "by TLS" in text
    ws.close()
    with pytest.raises(websocket.WebSocketBadStatusException):
        websocket.create_connection(wss, timeout=60, sslopt={"ca_certs": box.cert}, origin="https://127.0.0.1.example")

    # No plain HTTP on the port, and nothing older than TLS 1.2.
    with socket.create_connection(("127.0.0.1", box.port), timeout=60) as plain:
        plain.sendall(b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert b"DevBox-API-Version" not in plain.recv(4096)
        except ConnectionError:
            pass
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", box.port), timeout=60) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(raw)
    assert requests.get(url + "/healthz", verify=box.cert, timeout=60).status_code == 200
