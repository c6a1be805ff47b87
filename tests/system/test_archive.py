# SPDX-License-Identifier: Apache-2.0
"""What a process wrote stays readable when the output log has lost it: by offset, in results, on streams, after a resume; archived once,
whoever dies at it; and it goes with its process."""

import hashlib
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import pytest
import requests
import websocket

from conftest import DevBox, free_port
from inject import freeze
from s3_fixture import S3, files_below
from test_output_log import program

LOGS = {"files": [], "kafka": ["--kafka"]}
BYTES = 5 << 20


def until(fn, timeout=90):
    deadline = time.monotonic() + timeout
    while not (value := fn()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
    return value


def argument(box, daemon, name):
    args = pathlib.Path(f"/proc/{box.daemons(daemon)[0]['pid']}/cmdline").read_text().split("\0")
    return next(v for a, following in zip(args, args[1:]) for v in [a.removeprefix(f"--{name}=") if "=" in a else following]
                if a == f"--{name}" or a.startswith(f"--{name}="))


def sql(box, text):
    r = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", argument(box, "scheduler", "database"), "-c", text], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return r.stdout.split()


class Held:
    """Nobody writes the table meanwhile (or refers to its rows): who wants to waits within his statement."""

    def __init__(self, box, table, rows=False):
        self.box, self.what = box, f"select 1 from {table} for update" if rows else f"lock table {table} in exclusive mode"

    def __enter__(self):
        self.p = subprocess.Popen(["psql", "-X", "-q", "-A", "-t", argument(self.box, "scheduler", "database")], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        self.p.stdin.write(f"begin; {self.what}; select 'held';\n")
        self.p.stdin.flush()
        assert any(line == "held\n" for line in self.p.stdout)
        return self

    def waiting(self):
        """The processes of PostgreSQL that do."""
        return sql(self.box, "select distinct pid from pg_locks where not granted")

    def __exit__(self, *_):
        self.p.communicate("commit;\n")


def wait_archived(box):
    until(lambda: sql(box, "select count(*) from processes where archived_at is null") == ["0"])


def partition(sandbox_id):
    h = 0xCBF29CE484222325
    for b in bytes.fromhex(sandbox_id.replace("-", "")):
        h = (h ^ b) * 0x100000001B3 % (1 << 64)
    return h % 64


def has_bytes(path):
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:  # the log removed it just now
        return False


def forget(box, kind, sandboxes):
    """The log loses all that it has."""
    if kind == "kafka":
        address = argument(box, "gateway", "output-log").split("?")[0].removeprefix("kafka:")
        for p in {partition(s) for s in sandboxes}:
            r = subprocess.run([program("kafka_trim"), address, "devbox.output", str(p), "end"], capture_output=True, text=True)
            assert r.returncode == 0, r.stderr
        return
    box.down()
    box.env["DEVBOX_SHIM_LOG_RETAIN_MS"] = "1"
    box.up()
    until(lambda: not [f for f in files_below(box.state / "output") if f.endswith(".seg") and has_bytes(box.state / "output" / f)])


@pytest.fixture(params=LOGS)
def box(request):
    state = tempfile.mkdtemp(prefix="devbox-archive-")
    box = DevBox(state, free_port())
    box.kind = request.param
    box.env["DEVBOX_GATEWAY_ARCHIVE_AFTER_MS"] = "0"
    try:
        yield box.up(*LOGS[request.param])
    finally:
        box.down()
        shutil.rmtree(state, ignore_errors=True)


PROGRAM = f"""import random, sys
data = random.Random(7).randbytes({BYTES} // 2).hex()
sys.stderr.write('grüße 🎉\\n')
sys.stderr.flush()
sys.stdout.write(data)
sys.stdout.flush()
sys.stderr.buffer.write(b'\\xff\\xfe\\n')
"""
STDOUT = random.Random(7).randbytes(BYTES // 2).hex().encode()
STDERR = "grüße 🎉\n".encode() + b"\xff\xfe\n"


def output(api, execution, stream, start=0):
    """All of it, read in as many answers as it takes."""
    got = b""
    while True:
        r = api.call("GET", f"/api/executions/{execution}/output?stream={stream}&from={start + len(got)}")
        assert r.status_code == 200 and int(r.headers["X-First-Offset"]) == start + len(got)
        got += r.content
        if not r.content:
            return got


def read_binary(box, accepted, token, resume=None):
    """The records of a stream in the binary protocol, to the end of the process."""
    s = box.client().stream(accepted | {"stream_token": token}, subprotocol="devbox.bin.v1", resume=resume)
    records = []
    while not records or records[-1][0] != 5:
        opcode, data = s.ws.recv_data()
        assert opcode == websocket.ABNF.OPCODE_BINARY, data
        magic, version, kind, _, length, seq = struct.unpack_from("<BBBBIQ", data)
        assert (magic, version, length) == (0xDB, 1, len(data) - 48)
        records.append((kind, seq, data[48:]))
    s.close()
    return records


def test_output_outlives_the_log(box):
    api = box.client()
    accepted = api.start("python", {"main.py": PROGRAM})
    assert accepted["status"] == "pending"
    small = api.run("python", {"main.py": "print('small')"})
    silent = api.run("python", {"main.py": ""})
    s = api.stream(accepted)
    s.until_end()
    assert s.output("stdout") == STDOUT
    ids = [m["id"] for m in s.seen if m["type"] == "output"]
    halfway, got = ids[len(ids) // 2], sum(len(m["data"]) for m in s.seen if m["type"] == "output" and m["stream"] == "stdout" and m["id"] <= ids[len(ids) // 2])
    first = read_binary(box, accepted, accepted["stream_token"])
    before = api.call("GET", f"/api/executions/{accepted['id']}").json()
    wait_archived(box)
    forget(box, box.kind, [accepted["sandbox_id"]] + sql(box, "select sandbox_id from processes"))
    api = box.client()

    # by offset, and in the objects of results
    assert output(api, accepted["id"], "stdout") == STDOUT
    assert output(api, accepted["id"], "stdout", 3333333) == STDOUT[3333333:]
    assert output(api, accepted["id"], "stderr") == STDERR
    after = api.call("GET", f"/api/executions/{accepted['id']}").json()
    token = after.pop("stream_token")
    before.pop("stream_token")
    assert after == before and after["stdout"].encode() == STDOUT[:1 << 20] and after["truncated"]
    assert api.call("GET", f"/api/executions/{small['id']}").json()["stdout"] == "small\n"
    assert api.call("GET", f"/api/executions/{silent['id']}").json()["stdout"] == ""

    # on streams: all of it, the rest behind an id, the same records
    again = api.stream(accepted | {"stream_token": token}, resume=f"{accepted['process_id']}:0")
    again.until_end()
    assert again.output("stdout") == STDOUT and again.output("stderr") == STDERR
    rest = api.stream(accepted | {"stream_token": token}, resume=f"{accepted['process_id']}:{halfway}")
    rest.until_end()
    assert rest.output("stdout") == STDOUT[got:]
    for viewer in (again, rest):
        assert not [m for m in viewer.seen if m["type"] == "gap"]
        assert [m["verdict"] for m in viewer.seen if m["type"] == "status" and m["status"] == "completed"] == ["OK"]
    resume = f"{accepted['process_id']}:"
    assert read_binary(box, accepted, token, resume + "0") == first
    middle = len(first) // 2
    assert read_binary(box, accepted, token, resume + f"s{first[middle][1]}") == first[middle + 1:]

    # large pieces in the blob store, small ones in rows, the bytes counted; all of it goes with the process
    objects = sql(box, "select object from process_outputs where object is not null")
    stored = {str(f.relative_to(box.state / "blobs")) for f in (box.state / "blobs/outputs").rglob("*") if f.is_file()}
    assert objects and stored == set(objects)
    assert sql(box, "select count(*) from process_outputs where object is null and length(content) = size") != ["0"]
    assert sql(box, "select sum(size) from process_outputs") == sql(box, "select sum(bytes) from output_usage")
    sql(box, f"delete from processes where id = '{accepted['process_id']}'")
    assert sql(box, "select sum(size) from process_outputs") == sql(box, "select sum(bytes) from output_usage")
    assert set(objects) <= set(sql(box, "select name from blob_garbage"))


def requests_ok(api):
    try:
        return api.call("GET", "/readyz").status_code == 200
    except requests.ConnectionError:
        return False


def test_killed_at_it(own_devbox):
    """All gateways die while they archive: their heirs do it anew, once, and no object is left that no row knows."""
    box = own_devbox
    box.env |= {"DEVBOX_GATEWAY_ARCHIVE_AFTER_MS": "0", "DEVBOX_GATEWAY_ARCHIVE_LEASE_MS": "5000"}
    box.up("--no-images")
    api = box.client()
    held_one = api.start("python", {"main.py": "import sys\nsys.stdin.readline()\nsys.stdout.write('held ' * 600000)"})
    wanted = {held_one["id"]: hashlib.sha256(b"held " * 600000).hexdigest()}
    s = api.stream(held_one)
    with Held(box, "process_outputs") as held:
        s.send(type="input", process_id=held_one["process_id"], data="\n")  # what is behind a statement that is held waits: no calls now
        until(held.waiting)
        for gateway in box.daemons("gateway"):
            os.kill(gateway["pid"], signal.SIGKILL)
    until(lambda: requests_ok(api))
    for i in range(9):
        size = (100, 90000, 3 << 20)[i % 3]
        accepted = api.start("python", {"main.py": f"import sys\nsys.stdout.write(('{i:02d} ' * {size})[:{size}])"})
        wanted[accepted["id"]] = hashlib.sha256((f"{i:02d} " * size)[:size].encode()).hexdigest()
    wait_archived(box)
    assert sql(box, "select count(*) from processes where archive_try > 1") != ["0"], "nobody was killed at it"
    forget(box, "files", [])
    api = box.client()
    for id, digest in wanted.items():
        assert hashlib.sha256(output(api, id, "stdout")).hexdigest() == digest
    objects = sql(box, "select object from process_outputs where object is not null")
    known = set(objects) | set(sql(box, "select name from blob_garbage"))
    stored = {str(f.relative_to(box.state / "blobs")) for f in (box.state / "blobs/outputs").rglob("*") if f.is_file()}
    assert set(objects) <= stored <= known
    assert sql(box, "select sum(size) from process_outputs") == sql(box, "select sum(bytes) from output_usage")


DRIFT = """select owner from (select owner, sum(size) as bytes from process_outputs group by owner) o full join output_usage u using (owner)
where coalesce(o.bytes, 0) <> coalesce(u.bytes, 0)"""


def test_several_in_one_statement(own_devbox):
    """What ended together is written together, an owner at a time, for all of it is counted in one row. Who is killed at it has changed
    nothing."""
    box = own_devbox
    box.env |= {"DEVBOX_GATEWAY_ARCHIVE_AFTER_MS": "3600000", "DEVBOX_GATEWAY_ARCHIVE_LEASE_MS": "5000"}
    box.up("--no-images", "--gateways", "1")
    api = box.client()
    wanted = {}
    other = box.client(key=None)
    other.http.headers["X-CSRF-Token"] = other.call("POST", "/api/auth/guest", json={}).json()["csrf_token"]

    def some(api, n):  # the first of all writes nothing
        body = {"template": "python", "files": [{"path": "main.py", "content": "import sys\nn = int(sys.stdin.read())\nsys.stdout.write(str(n) * n)"}],
                "executions": [{"stdin": str(len(wanted) + i)} for i in range(n)]}
        path = f"/api/batches/{api.call('POST', '/api/batches', json=body).json()['id']}"
        until(lambda: api.call("GET", path + "?limit=0").json()["status"] != "running")
        results = api.call("GET", path + "?limit=100").json()["results"]
        wanted.update({r["id"]: str(len(wanted) + r["index"]) * (len(wanted) + r["index"]) for r in results})

    some(api, 5)
    some(other, 3)
    with Held(box, "users", rows=True) as held:
        sql(box, "update processes set ended_at = ended_at - interval '2 hours'")  # now all of them are due
        until(lambda: sql(box, "select count(*) from processes where archive_until is not null") == ["8"] and len(held.waiting()) == 2)
        os.kill(box.daemons("gateway")[0]["pid"], signal.SIGKILL)
        sql(box, f"select pg_terminate_backend(pid) from unnest(array[{', '.join(held.waiting())}]::int[]) as t (pid)")
        until(lambda: not held.waiting())
        assert sql(box, "select count(*) from process_outputs") == ["0"] and not sql(box, DRIFT)
    wait_archived(box)
    assert sql(box, "select count(*) from process_outputs") == ["7"] and not sql(box, DRIFT)
    assert sql(box, "select count(*) from processes where archive_try > 1") == ["8"]
    assert sql(box, "select count(*) from output_usage") == ["2"]
    # whose transaction it was: not one a row
    assert int(sql(box, "select count(distinct xmin::text) from process_outputs")[0]) <= 4
    forget(box, "files", [])
    api = box.client()
    for id, text in wanted.items():  # an admin's key
        assert output(api, id, "stdout").decode() == text


def test_quota_and_time(own_devbox):
    """What ends when an owner's archive is full is not archived, and goes with the log: told as a gap. What is old goes."""
    box = own_devbox
    box.env |= {"DEVBOX_GATEWAY_ARCHIVE_AFTER_MS": "0", "DEVBOX_GATEWAY_ARCHIVE_USER_BYTES": "100000"}
    box.up("--no-images")
    api = box.client()
    first = api.run("python", {"main.py": "print('x' * 150000)"})
    wait_archived(box)
    second = api.start("python", {"main.py": "print('y' * 5)"})
    api.wait_end(second["id"])
    wait_archived(box)
    box.env |= {"DEVBOX_SCHEDULER_SWEEP_MS": "100"}
    forget(box, "files", [])
    api = box.client()
    assert output(api, first["id"], "stdout") == b"x" * 150000 + b"\n"
    lost = api.call("GET", f"/api/executions/{second['id']}").json()
    assert lost["stdout"] == "" and lost["truncated"] and lost["verdict"] == "OK"
    s = api.stream(second | {"stream_token": lost["stream_token"]})
    s.until_end()
    assert [(m["from"], m["to"]) for m in s.seen if m["type"] == "gap"] == [(0, 6)]
    sql(box, "update process_outputs set at = now() - interval '40 days'")
    until(lambda: sql(box, "select count(*) from process_outputs") == ["0"])
    assert sql(box, "select sum(bytes) from output_usage") == ["0"]


def readable(api, execution):
    """Its output's answer, which is whole, or says that one should ask again."""
    r = api.call("GET", f"/api/executions/{execution}/output")
    if r.status_code == 503:
        assert int(r.headers["Retry-After"]) >= 1 and r.json()["error"]["code"] == "output_unavailable", r.text
        return None
    assert r.status_code == 200, r.text
    return r.content


def test_s3_away(own_devbox):
    """Killed, then hung: what ends meanwhile is archived later, what is archived answers 503 and comes back by itself; no output is lost."""
    box, s3, size = own_devbox, S3(), 200000
    box.env |= {"DEVBOX_GATEWAY_ARCHIVE_AFTER_MS": "0", "DEVBOX_GATEWAY_ARCHIVE_LEASE_MS": "5000", "DEVBOX_GATEWAY_BLOBS": s3.url,
                "DEVBOX_GATEWAY_BLOB_KEYS_FILE": str(s3.keys)}

    def write(letter):
        accepted = box.client().run("python", {"main.py": f"print('{letter}' * {size})"})
        assert accepted["verdict"] == "OK"
        return accepted["id"]

    try:
        box.up("--no-images")
        first = write("a")
        wait_archived(box)
        forget(box, "files", [])
        del box.env["DEVBOX_SHIM_LOG_RETAIN_MS"]
        box.down()
        s3.stop()
        box.up("--no-images")  # needs no store to come up
        api = box.client()
        assert readable(api, first) is None
        r = api.call("GET", f"/api/executions/{first}")
        assert (r.status_code, r.json()["error"]["code"]) == (503, "output_unavailable") and int(r.headers["Retry-After"]) >= 1
        second = write("b")
        until(lambda: any("keep the output of a process, trying again" in f.read_text(errors="replace") for f in (box.state / "logs").glob("gateway*")))
        assert readable(api, second) == b"b" * size + b"\n"  # from the log
        s3.start()
        assert until(lambda: readable(api, first)) == b"a" * size + b"\n"
        wait_archived(box)

        freeze(s3.process.pid)
        assert readable(api, first) is None
        third = write("c")
        assert readable(api, third) == b"c" * size + b"\n"
        s3.process.send_signal(signal.SIGCONT)
        assert until(lambda: readable(api, first)) == b"a" * size + b"\n"
        wait_archived(box)
        forget(box, "files", [])
        api = box.client()
        for id, letter in ((first, b"a"), (second, b"b"), (third, b"c")):
            assert readable(api, id) == letter * size + b"\n"
        objects = sql(box, "select object from process_outputs where object is not null")
        known = {f"some/prefix/{o}" for o in objects + sql(box, "select name from blob_garbage")}
        assert len(objects) == 3 and {f"some/prefix/{o}" for o in objects} <= set(s3.objects()) <= known
    finally:
        s3.close()
