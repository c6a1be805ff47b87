# SPDX-License-Identifier: Apache-2.0
"""Files above the threshold: in the blob store (a folder, and a real S3), shared, verified, counted; and what happens when that
store is away, slow, full, or lies. The gateway is the real one, scheduler and node are scripted."""

import base64
import hashlib
import io
import os
import re
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import zipfile

import pytest
import requests

from inject import freeze
from s3_fixture import S3, files_below
from test_gateway import ROOT, World
from test_socket import Socket, Workspace

THRESHOLD = 65536
SCHEMA = ROOT / "common/proto/schema"


@pytest.fixture(scope="module")
def s3():
    server = S3()
    yield server
    server.close()


@pytest.fixture(scope="module", params=["folder", "s3"])
def w(tmp_path_factory, request):
    tmp = tmp_path_factory.mktemp("large")
    if request.param == "folder":
        world = World(tmp, f"--blobs=file:{tmp}/blobs")
        world.objects = lambda: [p for p in (tmp / "blobs/files").rglob("*") if p.is_file()] if (tmp / "blobs/files").exists() else []
    else:
        server = request.getfixturevalue("s3")
        world = World(tmp, f"--blobs={server.url}", f"--blob-keys-file={server.keys}")
        world.objects = lambda: [server.folder / "devbox" / o for o in server.objects()]
    yield world
    world.close()


@pytest.fixture()
def ws(w):
    return Workspace(w.api)


def text(n, word="line"):
    return "".join(f"{word} {i}\n" for i in range(n // 6))[:n]


def sha(data):
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def create(w, ws, path, content, api=None):
    return (api or w.api).call("POST", ws.path + "/files", json={"path": path, "content": content})


def content(w, entry):
    return w.api.call("GET", f"/api/files/{entry['id']}/content")


def object_of(w, data):
    return [o for o in w.objects() if sha(data) in o.name]


def row(w, entry):
    """Bytes in the row, size, digest of the blob."""
    return w.pg.sql(f"select length(content), size, blob from files where id = '{entry['id']}'")[0]


def fails_503(r, code="storage_unavailable"):
    assert r.status_code == 503 and r.json()["error"]["code"] == code and int(r.headers["Retry-After"]) > 0, r.text
    return r


def test_life_of_a_large_file(w, ws):
    first, second, small = text(300_000), text(400_000, "other"), text(THRESHOLD)
    entry = create(w, ws, "d/large.txt", first).json()
    assert (entry["size"], entry["etag"]) == (300_000, sha(first))
    assert row(w, entry) == ["0", "300000", sha(first)] and len(object_of(w, first)) == 1
    assert object_of(w, first)[0].read_bytes() == first.encode()
    kept = create(w, ws, "small.txt", small).json()
    assert row(w, kept) == [str(THRESHOLD), str(THRESHOLD), ""]

    got = w.api.call("GET", f"/api/files/{entry['id']}").json()
    assert got["content"] == first and got["etag"] == sha(first)
    assert content(w, entry).text == first
    r = w.api.call("GET", f"/api/files/{entry['id']}/content", headers={"Range": "bytes=70000-70010"})
    assert (r.status_code, r.text) == (206, first[70000:70011])
    r = w.api.call("GET", f"/api/files/{entry['id']}/content", headers={"If-None-Match": f'"{sha(first)}"'})
    assert r.status_code == 304

    r = w.api.call("PUT", f"/api/files/{entry['id']}", json={"content": second}, headers={"If-Match": f'"{sha(first)}"'})
    assert (r.status_code, r.json()["etag"], r.json()["size"]) == (200, sha(second), 400_000)
    assert content(w, entry).text == second
    stale = w.api.call("PUT", f"/api/files/{entry['id']}", json={"content": first}, headers={"If-Match": f'"{sha(first)}"'})
    assert stale.status_code == 412
    # Small and large again, in the same row.
    assert w.api.call("PUT", f"/api/files/{entry['id']}", json={"content": "tiny"}).status_code == 200
    assert row(w, entry) == ["4", "4", ""] and content(w, entry).text == "tiny"
    assert w.api.call("PUT", f"/api/files/{entry['id']}", json={"content": second}).status_code == 200
    assert w.api.call("POST", f"/api/files/{entry['id']}/move", json={"path": "e/moved.txt"}).status_code == 200
    assert content(w, entry).text == second
    assert w.api.call("DELETE", f"/api/files/{entry['id']}").status_code == 204


def test_the_same_content_is_stored_once(w, ws):
    data = text(200_000, "shared")
    key = {"Idempotency-Key": "one-key-" + ws.id}
    a = w.api.call("POST", ws.path + "/files", json={"path": "a", "content": data}, headers=key).json()
    assert w.api.call("POST", ws.path + "/files", json={"path": "a", "content": data}, headers=key).json() == a
    create(w, ws, "b", data)
    fork = w.api.call("POST", ws.path + "/fork").json()
    files = w.api.call("GET", f"/api/workspaces/{fork['id']}/files").json()
    assert [f["etag"] for f in files] == [sha(data)] * 2 and len(object_of(w, data)) == 1
    assert w.api.call("DELETE", ws.path).status_code == 204
    assert content(w, files[0]).text == data


def test_upload_import_and_download(w, ws):
    large, binary = os.urandom(9 << 20), os.urandom(100_000)
    r = w.api.call("POST", ws.path + "/upload", files=[("f", ("up/large.bin", large)), ("f", ("up/small", b"x")),
                                                       ("f", ("up/copy.bin", large))])
    assert r.status_code == 201, r.text
    tree = {e["path"]: e for e in w.api.call("GET", ws.path + "/files").json()}
    assert tree["up/large.bin"]["etag"] == tree["up/copy.bin"]["etag"] == sha(large)
    assert row(w, tree["up/large.bin"])[0] == "0" and content(w, tree["up/large.bin"]).content == large
    assert "content" not in w.api.call("GET", f"/api/files/{tree['up/large.bin']['id']}").json()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as z:
        z.writestr("in/large.bin", binary)
        z.writestr("up/small", b"y" * 70_000)
    r = w.api.call("POST", ws.path + "/archive", data=packed.getvalue())
    assert r.status_code == 201, r.text
    for format in ("zip", "tar"):
        got = w.api.call("GET", ws.path + f"/archive?format={format}").content
        if format == "zip":
            z = zipfile.ZipFile(io.BytesIO(got))
            read = z.read
        else:
            t = tarfile.open(fileobj=io.BytesIO(got))
            read = lambda name: t.extractfile(name).read()
        assert read("up/large.bin") == large and read("in/large.bin") == binary and read("up/small") == b"y" * 70_000


def test_run_and_search(w, ws):
    data = text(150_000) + "\nthe needle\n"
    create(w, ws, "data.txt", data)
    create(w, ws, "main.py", "print(1)")
    r = w.api.call("POST", ws.path + "/run", json={"command": "true"})
    assert r.status_code == 202, r.text
    w.wait(lambda: r.json()["process_id"] in w.placed)
    assert data.encode() in w.placed[r.json()["process_id"]][1]
    s = Socket(w.api, ws.id)
    s.open(1, "search", query="needle")
    m = s.until("matches", ch=1)
    assert m["path"] == "data.txt" and m["matches"][0]["text"] == "the needle"
    assert s.until("done", ch=1)["matches"] == 1
    s.close()


def test_a_copy_of_the_release_before(w, ws):
    """Which copies content, size and etag, and knows nothing of blobs; and writes over them."""
    data = text(100_000, "old")
    entry = create(w, ws, "a", data).json()
    w.pg.sql(f"insert into files (id, workspace_id, path, type, content, size, etag) select gen_random_uuid(), workspace_id, 'b', "
             f"type, content, size, etag from files where id = '{entry['id']}'")
    b = [f for f in w.api.call("GET", ws.path + "/files").json() if f["path"] == "b"][0]
    assert content(w, b).text == data
    w.pg.sql(f"update files set content = 'new', size = 3, etag = '{sha('new')}' where id = '{entry['id']}'")
    assert content(w, entry).text == "new" and row(w, entry)[2] == ""


# --- the quota of bytes ---

def used(w, user):
    counted, sums = w.pg.sql(f"select bytes_used, (select coalesce(sum(size), 0) from files f join workspaces w on w.id = f.workspace_id "
                             f"where w.owner = u.id) from users u where id = '{user}'")[0]
    assert counted == sums
    return int(counted)


def test_quota_of_bytes(w):
    mine = w.user(f"quota-user-{time.time_ns()}-0123456789")
    user = mine.call("GET", "/api/me").json()["id"]
    r = w.api.call("PUT", f"/api/users/{user}", json={"max_bytes": 1_000_000})
    assert r.status_code == 200 and r.json()["max_bytes"] == 1_000_000
    spaces = [Workspace(mine) for _ in range(3)]
    entry = create(w, spaces[0], "a", "x" * 900_000, mine).json()
    assert used(w, user) == 900_000
    me = mine.call("GET", "/api/me").json()["quotas"]
    assert (me["max_bytes"], me["bytes_used"]) == (1_000_000, 900_000)
    for r in (create(w, spaces[1], "b", "y" * 100_001, mine),
              mine.call("PUT", f"/api/files/{entry['id']}", json={"content": "z" * 1_000_001}),
              mine.call("POST", spaces[0].path + "/fork"),
              mine.call("POST", spaces[1].path + "/upload", files=[("f", ("u", b"u" * 100_001))])):
        error = r.json()["error"]
        assert (r.status_code, error["code"], error["field"]) == (409, "quota", "content"), r.text
    assert not object_of(w, b"z" * 1_000_001) and not object_of(w, b"y" * 100_001)
    # What replaces something counts as the difference; what is let go is free again.
    assert mine.call("PUT", f"/api/files/{entry['id']}", json={"content": "z" * 1_000_000}).status_code == 200
    assert mine.call("DELETE", f"/api/files/{entry['id']}").status_code == 204 and used(w, user) == 0
    # Of many writers at once, in several workspaces, just so many win as there is room for.
    codes = []
    def write(i):
        codes.append(create(w, spaces[i % 3], f"f{i}", chr(97 + i) * 100_000, mine).status_code)
    threads = [threading.Thread(target=write, args=(i,)) for i in range(20)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(codes) == [201] * 10 + [409] * 10 and used(w, user) == 1_000_000
    assert mine.call("DELETE", spaces[0].path).status_code == 204
    left = used(w, user)
    assert 0 < left < 1_000_000
    # What a member writes counts for the owner.
    mine.call("PUT", spaces[1].path, json={"sharing_mode": "edit"})
    assert create(w, spaces[1], "by-other", "o" * 1000).status_code == 201 and used(w, user) == left + 1000


# --- faults ---

def test_a_store_that_lies(w, ws):
    data = text(120_000, "truth")
    entry = create(w, ws, "a", data).json()
    [stored] = object_of(w, data)
    true = stored.read_bytes()
    for lie in (b"X" + true[1:], true[:-1], true + b"more", b""):
        stored.write_bytes(lie)
        fails_503(content(w, entry))
        fails_503(w.api.call("GET", f"/api/files/{entry['id']}"))
        fails_503(w.api.call("GET", ws.path + "/archive"))
        fails_503(w.api.call("POST", ws.path + "/run", json={"command": "true"}))
    stored.unlink()
    fails_503(content(w, entry))
    stored.write_bytes(true)
    assert content(w, entry).text == data


def test_viewers_store_nothing(w, ws):
    data = text(100_000, "viewer")
    w.api.call("PUT", ws.path, json={"sharing_mode": "view"})
    other = w.user(f"viewer-{time.time_ns()}-0123456789abc")
    assert create(w, ws, "a", data, other).status_code == 403
    w.api.call("PUT", ws.path, json={"sharing_mode": "private"})
    assert create(w, ws, "a", data, other).status_code == 404
    assert not object_of(w, data)


def test_s3_away_and_slow(w, ws, s3, request):
    if "s3" not in request.node.callspec.id:
        return
    data, more = text(120_000, "away"), text(120_000, "more")
    entry, small = create(w, ws, "a", data).json(), create(w, ws, "small", "s").json()
    s3.stop()
    try:
        fails_503(create(w, ws, "b", more))
        fails_503(content(w, entry))
        assert content(w, small).text == "s" and create(w, ws, "tiny", "t").status_code == 201  # all else works
    finally:
        s3.start()
    deadline = time.monotonic() + 60
    while create(w, ws, "b", more).status_code != 201:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert content(w, entry).text == data
    freeze(s3.process.pid)
    try:
        fails_503(content(w, entry))
        assert content(w, small).text == "s"
    finally:
        s3.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 60
    while content(w, entry).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_full_store(tmp_path, kind):
    where = tempfile.mkdtemp(prefix="devbox-full-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", where], check=True)
    server = world = None
    try:
        if kind == "s3":
            server = S3(where)
        world = World(tmp_path, *([f"--blobs={server.url}", f"--blob-keys-file={server.keys}"] if server else [f"--blobs=file:{where}"]))
        ws = Workspace(world.api)
        kept = create(world, ws, "kept", "k" * 900_000).json()
        with open(f"{where}/ballast", "wb") as f:
            f.write(b"b" * 700_000)
        r = create(world, ws, "more", "m" * 900_000)
        assert r.status_code == 503 and r.json()["error"]["code"] in ("storage_full", "storage_unavailable") and r.headers["Retry-After"]
        assert kind == "s3" or r.json()["error"]["code"] == "storage_full"
        assert [f["path"] for f in world.api.call("GET", ws.path + "/files").json()] == ["kept"]
        assert content(world, kept).text == "k" * 900_000 and create(world, ws, "small", "s").status_code == 201
        os.unlink(f"{where}/ballast")
        assert create(world, ws, "more", "m" * 900_000).status_code == 201  # by itself
    finally:
        if world:
            world.close()
        if server:
            server.close()
        subprocess.run(["umount", "-l", where], check=True)
        os.rmdir(where)


# --- what programs write ---

def test_what_a_program_wrote_is_moved(tmp_path):
    """It comes into its row, as the scheduler puts it; a gateway moves what is large, and nobody sees a change."""
    world = World(tmp_path, f"--blobs=file:{tmp_path}/blobs", "--blob-sweep-ms=50")
    try:
        ws = Workspace(world.api)
        sizes = {"small": THRESHOLD, "one": THRESHOLD + 1, "two": 900_000, "same": 900_000}
        for name, size in sizes.items():
            world.pg.sql(f"insert into files (id, workspace_id, path, type, content, size, etag) values (gen_random_uuid(), '{ws.id}', '{name}', 'file', "
                         f"convert_to(repeat('x', {size}), 'utf8'), {size}, encode(sha256(convert_to(repeat('x', {size}), 'utf8')), 'hex'))")
        events = world.pg.sql("select count(*) from file_events")
        used = world.pg.sql("select max(bytes_used) from users")
        world.until(lambda: world.pg.sql("select path from files where blob is null") == [["small"]], 60)
        assert world.pg.sql("select path, length(content), size from files order by path") == [
            ["one", "0", str(THRESHOLD + 1)], ["same", "0", "900000"], ["small", str(THRESHOLD), str(THRESHOLD)], ["two", "0", "900000"]]
        assert len([p for p in (tmp_path / "blobs/files").rglob("*") if p.is_file()]) == 2
        assert (events, used) == (world.pg.sql("select count(*) from file_events"), world.pg.sql("select max(bytes_used) from users"))
        for e in world.api.call("GET", f"/api/workspaces/{ws.id}/files").json():
            assert content(world, e).text == "x" * sizes[e["path"]]
    finally:
        world.close()


def test_what_a_program_wrote_waits_for_the_store(tmp_path):
    folder = tmp_path / "blobs"
    world = World(tmp_path, f"--blobs=file:{folder}", "--blob-sweep-ms=50")
    try:
        ws = Workspace(world.api)
        (folder / "files").write_text("no folder")
        world.pg.sql(f"insert into files (id, workspace_id, path, type, content, size, etag) values (gen_random_uuid(), '{ws.id}', 'f', 'file', "
                     f"convert_to(repeat('x', 100000), 'utf8'), 100000, encode(sha256(convert_to(repeat('x', 100000), 'utf8')), 'hex'))")
        world.until(lambda: re.search(r'devbox_blob_operations_total\{op="put",result="(?!ok)[a-z_]+"} [1-9]', requests.get(world.url + "/metrics", timeout=60).text), 60)
        [entry] = world.api.call("GET", f"/api/workspaces/{ws.id}/files").json()
        assert content(world, entry).text == "x" * 100000
        (folder / "files").unlink()
        world.until(lambda: world.pg.sql("select length(content) from files") == [["0"]], 60)
        assert content(world, entry).text == "x" * 100000
    finally:
        world.close()


# --- garbage ---

def test_garbage_goes_and_nothing_else(tmp_path, s3):
    """The real scheduler sweeps at a furious pace while gateways write, replace, fork and delete the same few contents: what is
    referred to is always there as a whole; in the end nothing else is."""
    from test_scheduler import find_scheduler

    world = World(tmp_path, f"--blobs={s3.at(s3.port)}gc", f"--blob-keys-file={s3.keys}", "--blob-threshold=1000",
                  "--blob-sweep-ms=30")
    prefix = s3.folder / "devbox/some/prefixgc"
    world.pg.sql("create table schema_migrations (version integer primary key, applied_at timestamptz not null default now()); "
                 f"insert into schema_migrations (version) select generate_series(1, {len(list(SCHEMA.glob('*.sql')))})")
    scheduler = subprocess.Popen(
        [find_scheduler(), "--listen=127.0.0.1:0", f"--database={world.pg.conninfo}", f"--keys={tmp_path}/keys", "--sweep-ms=30",
         "--scan-ms=20", "--blob-grace-ms=300"],
        stderr=open(tmp_path / "scheduler.txt", "w"))
    try:
        spaces = [Workspace(world.api) for _ in range(4)]
        contents = [chr(97 + i) * 3000 for i in range(3)]
        wrong, until = [], time.monotonic() + 8

        def work(i):
            ws, n = spaces[i], 0
            while time.monotonic() < until:
                n += 1
                r = create(world, ws, "f", contents[n % 3])
                if r.status_code == 503:
                    continue  # the grace is shorter than a write may take; then it is refused, and nothing is written
                assert r.status_code == 201, r.text
                entry = r.json()
                again = world.api.call("PUT", f"/api/files/{entry['id']}", json={"content": contents[(n + 1) % 3]})
                expected = contents[(n + 1) % 3] if again.status_code == 200 else contents[n % 3]
                if content(world, entry).text != expected:
                    wrong.append((n, content(world, entry).text[:200]))
                if n % 5 == 0:
                    time.sleep(0.7)  # so that nobody refers to it for longer than the grace
                world.api.call("DELETE", f"/api/files/{entry['id']}")

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert not wrong and scheduler.poll() is None
        kept = create(world, spaces[0], "kept", contents[0]).json()
        world.until(lambda: world.pg.sql("select digest from blobs") == [[sha(contents[0])]] and
                    world.pg.sql("select count(*) from blob_garbage") == [["0"]], 60)
        assert content(world, kept).text == contents[0]
        [name] = files_below(prefix)
        assert os.path.basename(name).startswith(sha(contents[0]))
        # Twice the grace later it is still there; and when nobody refers to it, it is not.
        assert world.api.call("DELETE", spaces[0].path).status_code == 204
        world.until(lambda: not files_below(prefix), 60)
        assert int(world.pg.sql("select count(*) from blobs")[0][0]) == 0
    finally:
        try:
            scheduler.terminate()
            assert scheduler.wait(60) == 0
        finally:
            world.close()


def test_large_files_in_a_live_sandbox(devbox):
    """The whole: a program has its large file, and the next content of it while it runs."""
    api = devbox.client()
    ws = f"/api/workspaces/{api.call('POST', '/api/workspaces', json={'name': 'large', 'template': 'python'}).json()['id']}"
    first, second = text(300_000), text(250_000, "second")
    entry = api.call("POST", ws + "/files", json={"path": "data.txt", "content": first}).json()
    code = ("import hashlib, time\n"
            "def now():\n    return hashlib.sha256(open('data.txt', 'rb').read()).hexdigest()\n"
            "first = now()\nprint(first, flush=True)\n"
            f"while now() != '{sha(second)}':\n    time.sleep(0.05)\n"
            "print('second')\n")
    api.call("POST", ws + "/files", json={"path": "main.py", "content": code})
    run = api.call("POST", ws + "/run", json={"command": "python3 main.py", "limits": {"wall_ms": 60000}}).json()

    def until(what, timeout=60):
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    out = lambda: api.call("GET", f"/api/processes/{run['process_id']}/output").text
    until(lambda: sha(first) in out())
    assert api.call("PUT", f"/api/files/{entry['id']}", json={"content": second}).status_code == 200
    until(lambda: api.call("GET", f"/api/processes/{run['process_id']}").json()["status"] == "completed")
    assert out() == sha(first) + "\nsecond\n"
    assert api.call("DELETE", ws).status_code == 204
