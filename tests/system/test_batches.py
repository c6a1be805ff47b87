# SPDX-License-Identifier: Apache-2.0
"""Batches: many executions posted at once, on the real thing."""

import concurrent.futures
import json
import os
import signal
import threading
import time
import uuid
import xml.etree.ElementTree as ET

import pytest



def post(api, executions, template="python", **fields):
    return api.call("POST", "/api/batches", json={"template": template, "executions": executions, **fields},
                    headers=fields.pop("headers", {}))


def start(api, executions, **fields):
    r = post(api, executions, **fields)
    assert r.status_code == 202, r.text
    assert set(r.json()) == {"id", "status"} and r.json()["status"] == "running"
    return r.json()["id"]


def program(text):
    return [{"path": "main.py", "content": text}]


def wait_over(api, batch, timeout=180):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        b = api.call("GET", f"/api/batches/{batch}?limit=0").json()
        if b["status"] != "running":
            return b
        time.sleep(0.1)
    raise AssertionError(f"not over after {timeout} s: {b}")


def all_results(api, batch, limit=50):
    """By pages, in the order of ending."""
    found, cursor = [], ""
    while cursor is not None:
        page = api.call("GET", f"/api/batches/{batch}?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json()
        assert len(page["results"]) <= limit
        found += page["results"]
        cursor = page["next_cursor"]
    return found


def lines_of(api, batch, cursor=None, url=None):
    """The stream of results; ends with it, or raises when it is cut."""
    import requests

    path = f"/api/batches/{batch}/results" + (f"?cursor={cursor}" if cursor else "")
    with requests.get((url or api.url) + path, headers={**api.http.headers, "Accept": "application/x-ndjson"},
                      stream=True, timeout=120) as r:
        assert r.status_code == 200 and r.headers["Content-Type"] == "application/x-ndjson"
        for line in r.iter_lines(chunk_size=1):
            yield json.loads(line)


def ended_once(results, n):
    assert sorted(r["index"] for r in results) == list(range(n))
    assert len({r["id"] for r in results}) == n
    assert all(r["status"] in ("completed", "failed", "cancelled") for r in results)


def test_mixed(api):
    """Shared files, each one's own, stdin, env, limits, expected output; every verdict as it is alone."""
    shared = [{"path": "main.py", "content": "import case; case.run()\n"}]
    case = [
        ("def run(): print(input())\n", {"stdin": "hello\n", "expected_stdout": "hello\n"}, "OK", True),
        ("def run(): print(input())\n", {"stdin": "hello\n", "expected_stdout": "hello"}, "OK", False),
        ("import sys\ndef run(): print(1); sys.exit(3)\n", {"expected_stdout": "1\n"}, "EXIT_CODE", False),
        ("import os\ndef run(): print(os.environ['X'], end='')\n", {"env": {"X": "ü"}, "expected_stdout": "ü"}, "OK", True),
        ("import os\ndef run(): os.kill(os.getpid(), 11)\n", {}, "SIGNAL", None),
        ("def run():\n    while True: pass\n", {"limits": {"cpu_ms": 300}}, "TIME_LIMIT", None),
        ("import time\ndef run(): time.sleep(20)\n", {"limits": {"wall_ms": 300}}, "WALL_LIMIT", None),
        ("def run(): print('x' * 100000)\n", {"limits": {"output_bytes": 1000}, "expected_stdout": "x"}, "OUTPUT_LIMIT", False),
        ("def run(): pass\n", {"command": "cat case.py", "expected_stdout": "def run(): pass\n"}, "OK", True),
    ]
    batch = start(api, [{"files": [{"path": "case.py", "content": c[0]}], **c[1]} for c in case], files=shared)
    lines = list(lines_of(api, batch))
    ended_once(lines, len(case))
    for r in lines:
        _, _, verdict, passed = case[r["index"]]
        assert r["verdict"] == verdict, r
        assert r.get("passed") == passed, r
    by_index = {r["index"]: r for r in lines}
    assert by_index[0]["stdout"] == "hello\n" and by_index[0]["usage"]["wall_ms"] > 0
    assert by_index[2]["exit_code"] == 3 and by_index[4]["signal"] == "SIGSEGV"
    b = wait_over(api, batch)
    assert b["status"] == "completed" and b["total"] == len(case) and b["ended_at"]
    assert b["counts"] == {"pending": 0, "running": 0, "completed": 6, "failed": 3, "cancelled": 0}
    assert all_results(api, batch, limit=2) == lines
    page = api.call("GET", f"/api/batches/{batch}/results?limit=4").json()
    assert page["results"] == lines[:4] and page["next_cursor"]
    # One of them is an execution like any other.
    alone = api.call("GET", f"/api/executions/{by_index[0]['id']}").json()
    assert alone["stdout"] == "hello\n" and alone["verdict"] == "OK"


def test_junit(api):
    batch = start(api, [{"files": program("print('<&\\x01')"), "expected_stdout": "<&\x01\n"},
                        {"files": program("print(2)"), "expected_stdout": "1\n"},
                        {"files": program("import sys; print('e', file=sys.stderr); sys.exit(7)")}])
    wait_over(api, batch)
    r = api.call("GET", f"/api/batches/{batch}/results", headers={"Accept": "application/xml"})
    assert r.status_code == 200 and r.headers["Content-Type"] == "application/xml"
    suite = ET.fromstring(r.content)
    assert (suite.tag, suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("testsuite", "3", "2", "0")
    cases = {c.get("name"): c for c in suite.findall("testcase")}
    assert cases["executions[0]"].find("failure") is None
    assert cases["executions[0]"].find("system-out").text == "<&\ufffd\n"
    assert cases["executions[1]"].find("failure").get("type") == "WRONG_OUTPUT"
    assert cases["executions[2]"].find("failure").get("message") == "exit code 7"
    assert cases["executions[2]"].find("system-err").text == "e\n"


BAD = [
    ({}, "template"),
    ({"template": "nosuch", "executions": [{}]}, "template"),
    ({"template": "python"}, "executions"),
    ({"template": "python", "executions": []}, "executions"),
    ({"template": "python", "executions": [{}] * 10001}, "executions"),
    ({"template": "python", "executions": {}}, "executions"),
    ({"template": "python", "executions": [{}, 5]}, "executions[1]"),
    ({"template": "python", "executions": [{}, {"files": [{"path": "/x", "content": ""}]}]}, "executions[1].files[0].path"),
    ({"template": "python", "executions": [{"limits": {"cpu_ms": 10 ** 9}}]}, "executions[0].limits.cpu_ms"),
    ({"template": "python", "executions": [{"env": {"1": ""}}]}, "executions[0].env.1"),
    ({"template": "python", "executions": [{"command": []}]}, "executions[0].command"),
    ({"template": "python", "executions": [{"stdin": 5}]}, "executions[0].stdin"),
    ({"template": "python", "executions": [{"expected_stdout": []}]}, "executions[0].expected_stdout"),
    ({"template": "python", "executions": [{"template": "node"}]}, "executions[0].template"),
    ({"template": "python", "executions": [{}], "files": [{"path": "a"}]}, "files[0].content"),
    ({"template": "python", "executions": [{"files": [{"path": "a", "content": ""}]}],
      "files": [{"path": "a", "content": ""}]}, "executions[0].files[0].path"),
    ({"template": "python", "executions": [{"files": [{"path": "a/b", "content": ""}]}],
      "files": [{"path": "a", "content": ""}]}, "executions[0].files[0].path"),
    ({"template": "python", "executions": [{}], "isolation": "none"}, "isolation"),
    ({"template": "python", "executions": [{}], "retry": "always"}, "retry"),
    ({"template": "python", "executions": [{}], "max_parallel": 0}, "max_parallel"),
    ({"template": "python", "executions": [{}], "priority": 1000}, "priority"),
    ({"template": "python", "executions": [{}], "deadline_ms": 0}, "deadline_ms"),
    ({"template": "python", "executions": [{}], "webhook": {"url": "ftp://x/"}}, "webhook.url"),
    ({"template": "python", "executions": [{}], "webhook": {"url": "http://u:p@example.org/"}}, "webhook.url"),
    ({"template": "python", "executions": [{}], "webhook": {"url": "http://10.0.0.1/"}}, "webhook.url"),
    ({"template": "python", "executions": [{}], "webhook": {"url": "http://[::1]:80/"}}, "webhook.url"),
    ({"template": "python", "executions": [{}], "webhook": {"url": "https://example.org/", "secret": "short"}}, "webhook.secret"),
    ({"template": "python", "executions": [{}], "nosuch": 1}, "nosuch"),
]


@pytest.mark.parametrize("body,field", BAD, ids=[f for _, f in BAD])
def test_bad_input(api, body, field):
    r = api.call("POST", "/api/batches", json=body)
    assert r.status_code == 400, r.text
    assert r.json()["error"]["field"] == field, r.text


def test_not_his(devbox, api):
    batch = start(api, [{"files": program("print(1)")}])
    other = devbox.client(key=None)
    assert other.call("GET", f"/api/batches/{batch}").status_code == 401
    guest = devbox.client(key=None)
    r = guest.call("POST", "/api/auth/guest", json={})
    assert r.status_code in (200, 201), r.text
    csrf = {"X-CSRF-Token": r.json().get("csrf_token", "")}
    for method, path in (("GET", ""), ("GET", "/results"), ("DELETE", ""), ("GET", "/webhook"), ("POST", "/webhook")):
        r = guest.call(method, f"/api/batches/{batch}{path}", headers=csrf)
        assert r.status_code == 404, (method, path, r.text)
    assert guest.call("GET", "/api/batches").json()["items"] == []
    for path in ("nosuch", str(uuid.uuid4())):
        assert api.call("GET", f"/api/batches/{path}").status_code == 404
    assert api.call("GET", f"/api/batches/{batch}?limit=x").json()["error"]["field"] == "limit"
    assert api.call("GET", f"/api/batches/{batch}?cursor=x").json()["error"]["field"] == "cursor"
    # A guest's quota holds for batches, too.
    r = guest.call("POST", "/api/batches", json={"template": "python", "executions": [{}] * 100}, headers=csrf)
    assert r.status_code == 429 and r.json()["error"]["code"] == "quota", r.text
    wait_over(api, batch)


def test_list(api):
    ids = [start(api, [{"files": program("print(1)")}]) for _ in range(3)]
    page = api.call("GET", "/api/batches?limit=2").json()
    assert [b["id"] for b in page["items"]] == ids[:0:-1]
    page = api.call("GET", f"/api/batches?limit=2&cursor={page['next_cursor']}").json()
    assert page["items"][0]["id"] == ids[0]
    for i in ids:
        wait_over(api, i)


def test_idempotent(api):
    body = {"template": "python", "executions": [{"files": program("print(1)")}]}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = api.call("POST", "/api/batches", json=body, headers=headers)
    again = api.call("POST", "/api/batches", json=body, headers=headers)
    assert first.status_code == again.status_code == 202 and first.json() == again.json()
    other = api.call("POST", "/api/batches", json={**body, "priority": 1}, headers=headers)
    assert other.status_code == 409, other.text
    alone = api.call("POST", "/api/executions", json={"template": "python", "files": []}, headers=headers)
    assert alone.status_code == 409, alone.text
    assert len(all_results(api, first.json()["id"])) == 1


def test_cancel(api):
    n, quick = 60, 4  # which run beside the first of the others, one after another: by then it has written
    slow = {"files": program("import time; print('in', flush=True); time.sleep(100)"), "limits": {"wall_ms": 30000}}
    batch = start(api, [slow, *[{"files": program("pass")}] * quick, *[slow] * (n - quick - 1)], max_parallel=2)
    deadline = time.monotonic() + 60
    while api.call("GET", f"/api/batches/{batch}?limit=0").json()["counts"]["completed"] < quick:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    r = api.call("DELETE", f"/api/batches/{batch}")
    assert r.status_code == 202, r.text
    b = wait_over(api, batch)
    assert b["status"] == "cancelled" and b["cancel_reason"] == "request"
    assert b["counts"] == {"pending": 0, "running": 0, "completed": quick, "failed": 0, "cancelled": n - quick}
    results = all_results(api, batch)
    ended_once(results, n)
    assert sum(r["verdict"] == "CANCELLED" for r in results) == n - quick
    assert any(r["stdout"] == "in\n" for r in results)  # what ran had written that
    again = api.call("DELETE", f"/api/batches/{batch}")
    assert again.status_code == 200 and again.json()["status"] == "cancelled"


def test_deadline(api):
    n, began = 40, time.monotonic()
    batch = start(api, [{"files": program("pass")}] + [{"files": program("import time; time.sleep(25)")}] * (n - 1), deadline_ms=4000)
    b = wait_over(api, batch)
    assert 4 <= time.monotonic() - began < 60
    assert b["status"] == "cancelled" and b["cancel_reason"] == "deadline"
    assert b["counts"]["cancelled"] > 0 and b["counts"]["cancelled"] + b["counts"]["completed"] == n
    ended_once(all_results(api, batch), n)


def test_max_parallel(api):
    """What one sees of the clock in each: never more than two at the same time, but two."""
    text = "import time; a = time.time(); time.sleep(0.5); print(a, time.time())"
    batch = start(api, [{"files": program(text)}] * 8, max_parallel=2)
    spans = [tuple(map(float, r["stdout"].split())) for r in lines_of(api, batch)]
    most = max(sum(a <= t < b for a, b in spans) for t, _ in spans)
    assert most == 2, sorted(spans)


def test_priority(api):
    slow = start(api, [{"files": program("import time; time.sleep(0.3)")}] * 300, priority=-10)
    deadline = time.monotonic() + 60
    while api.call("GET", f"/api/batches/{slow}?limit=0").json()["counts"]["completed"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    fast = start(api, [{"files": program("print(1)")}] * 4, priority=10)
    wait_over(api, fast)
    left = api.call("GET", f"/api/batches/{slow}?limit=0").json()
    assert left["status"] == "running" and left["counts"]["pending"] > 0
    api.call("DELETE", f"/api/batches/{slow}")
    wait_over(api, slow)


def test_stream_goes_on_elsewhere(devbox, api):
    """A gateway dies under a reader: he goes on at another, behind the last cursor, and has each result once."""
    gateways = devbox.daemons("gateway")
    batch = start(api, [{"files": program(f"print({i})")} for i in range(40)])
    seen, url = [], gateways[0]["url"]
    try:
        for r in lines_of(api, batch, url=url):
            seen.append(r)
            if len(seen) == 5:
                os.kill(gateways[0]["pid"], signal.SIGKILL)
    except Exception as e:
        assert "ChunkedEncodingError" in type(e).__name__ or "Connection" in type(e).__name__, e
    if len(seen) < 40:
        seen += list(lines_of(api, batch, cursor=seen[-1]["cursor"], url=gateways[1]["url"]))
    ended_once(seen, 40)
    assert all(r["stdout"] == f"{r['index']}\n" for r in seen)


def test_beside_a_batch(api):
    """Who waits for an answer gets it while a batch fills the machine."""
    batch = start(api, [{"files": program("sum(range(3000000))")}] * 60)
    first, i = time.monotonic(), 0
    while i < 5 or api.call("GET", f"/api/batches/{batch}?limit=0").json()["counts"]["completed"] == 0:
        began, i = time.monotonic(), i + 1
        assert api.run("python", {"main.py": f"print({i})"})["stdout"] == f"{i}\n"
        assert time.monotonic() - began < 20
        assert began - first < 60  # nor does it starve
    wait_over(api, batch)


@pytest.mark.campaign
@pytest.mark.parametrize("isolation", ["execution", "batch"])
def test_loops_starve_no_batch(devbox, api, isolation):
    """Who is waited for has the processors first, which is nothing for a batch while loops keep them all busy: it gets on all the same."""
    over = threading.Event()

    def loop(_):
        client, n = devbox.client(), 0
        while not over.is_set():
            assert client.run("python", {"main.py": "while True: pass"}, limits={"cpu_ms": 5000})["verdict"] in ("TIME_LIMIT", "WALL_LIMIT")
            n += 1
        return n

    hogs = 2 * os.cpu_count()
    with concurrent.futures.ThreadPoolExecutor(hogs) as pool:
        loops = [pool.submit(loop, i) for i in range(hogs)]
        try:
            items = [{"files": program(f"print(sum(range({i * 1000000})))")} for i in range(6)]
            b = wait_over(api, start(api, items, isolation=isolation), timeout=300)
        finally:
            over.set()
        assert all(f.result() > 0 for f in loops)
    assert b["counts"]["completed"] == 6, b["counts"]


CASES = [
    ("print({i}, end='')", "OK"),
    ("import sys; print({i}, end=''); sys.exit({i} % 5 + 1)", "EXIT_CODE"),
    ("import os; print({i}, end='', flush=True); os.abort()", "SIGNAL"),
    ("print({i}, end='', flush=True)\nwhile True: pass", "TIME_LIMIT"),
]


def campaign(n, limited_every):
    """Mixed ones; every limited_every-th runs into its limit."""
    items = []
    for i in range(n):
        k = 3 if i % limited_every == 0 else i % 3
        items.append({"files": program(CASES[k][0].format(i=i)), "limits": {"cpu_ms": 300}, "expected_stdout": str(i)})
    return items


def facts(results):
    return sorted((r["index"], r["status"], r["verdict"], r["exit_code"], r["signal"], r["stdout"], r["passed"]) for r in results)


def expected(n, limited_every):
    out = []
    for i in range(n):
        k = 3 if i % limited_every == 0 else i % 3
        status = "failed" if k == 3 else "completed"
        out.append((i, status, CASES[k][1], [0, i % 5 + 1, None, None][k], "SIGABRT" if k == 2 else None, str(i), k == 0))
    return out


def run_with_deaths(box, n, isolation, timeout):
    box.up("--gateways", "2")
    api = box.client()
    batch = start(api, campaign(n, 50), retry="safe", isolation=isolation)
    deadline, victims = time.monotonic() + timeout, ["shim", "scheduler", "postgres", "gateway", "shim-keeper"]
    killed = []
    while True:
        assert time.monotonic() < deadline
        try:
            b = api.call("GET", f"/api/batches/{batch}?limit=0", timeout=60)
        except Exception:
            b = None
        if b is not None and b.status_code == 200:
            b = b.json()
            done = sum(b["counts"][k] for k in ("completed", "failed", "cancelled"))
            if b["status"] != "running":
                break
            if victims and done >= n * (len(killed) + 1) // 7:
                name = victims.pop(0)
                os.kill(box.daemons(name)[0]["pid"], signal.SIGKILL)
                killed.append((name, done))
        time.sleep(0.1)
    assert len(killed) == 5, killed
    results = list(lines_of(api, batch))
    ended_once(results, n)
    assert facts(results) == expected(n, 50)
    counts = api.call("GET", f"/api/batches/{batch}?limit=0").json()["counts"]
    assert sum(counts.values()) == n and counts["cancelled"] == 0


@pytest.mark.parametrize("isolation,n", [("execution", 150), ("batch", 300)])
def test_everybody_dies_once(own_devbox, isolation, n):
    run_with_deaths(own_devbox, n, isolation, 400)


@pytest.mark.campaign
@pytest.mark.parametrize("isolation", ["batch", "execution"])
def test_ten_thousand(own_devbox, isolation):
    run_with_deaths(own_devbox, 10000, isolation, 5400)


def test_ten_thousand_accepted(api):
    """Accepting is quick, and so is cancelling."""
    began = time.monotonic()
    batch = start(api, [{"files": program("import time; time.sleep(10)"), "stdin": str(i)} for i in range(10000)])
    accepted = time.monotonic() - began
    api.call("DELETE", f"/api/batches/{batch}")
    b = wait_over(api, batch, timeout=60)
    assert b["counts"]["cancelled"] == 10000
    assert accepted < 30, accepted  # (a second on a machine with nothing else to do)
