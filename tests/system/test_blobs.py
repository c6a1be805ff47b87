# SPDX-License-Identifier: Apache-2.0
"""The blob store alone, on a folder and on a real S3 (versitygw); the work is done by blob_tool (common/ext/tests)."""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from s3_fixture import S3
from test_output_log import program


def tool(url, *args, data=b"", keys=None, env=None):
    return subprocess.run([program("blob_tool"), url, *map(str, args)], input=data, capture_output=True, timeout=60,
                          env={**os.environ, **(env or {}), **({"BLOB_KEYS_FILE": str(keys)} if keys else {})})


def kind(r):
    assert r.returncode == 1, r
    return r.stderr.decode().splitlines()[-1]


@pytest.fixture(scope="module")
def s3():
    server = S3()
    yield server
    server.close()


@pytest.fixture()
def folder():
    path = tempfile.mkdtemp(prefix="devbox-blobs-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["folder", "s3"])
def store(request):
    if request.param == "folder":
        return f"file:{request.getfixturevalue('folder')}", None
    s3 = request.getfixturevalue("s3")
    return s3.url, s3.keys


def test_objects(store):
    url, keys = store
    large = os.urandom(9 << 20)
    for name, data in (("files/0a/one", b"first"), ("files/0a/large", large), ("files/empty", b"")):
        assert tool(url, "put", name, data=data, keys=keys).returncode == 0
        assert tool(url, "get", name, keys=keys).stdout == data
    assert tool(url, "get", "files/0a/large", 1000, 70000, keys=keys).stdout == large[1000:71000]
    assert tool(url, "get", "files/0a/large", len(large) - 7, 0, keys=keys).stdout == large[-7:]
    # What is there is never replaced.
    assert tool(url, "put", "files/0a/one", data=b"second", keys=keys).returncode == 0
    assert tool(url, "get", "files/0a/one", keys=keys).stdout == b"first"
    assert kind(tool(url, "get", "files/0a/none", keys=keys)) == "not_found"
    for _ in range(2):
        assert tool(url, "delete", "files/0a/one", keys=keys).returncode == 0
    assert kind(tool(url, "get", "files/0a/one", keys=keys)) == "not_found"


def test_writers_at_once_leave_one_whole_object(store):
    url, keys = store
    contents = [bytes([i]) * (1 << 20) for i in range(6)]
    runs = [subprocess.Popen([program("blob_tool"), url, "put", "race/one"], stdin=subprocess.PIPE,
                             env={**os.environ, **({"BLOB_KEYS_FILE": str(keys)} if keys else {})}) for _ in contents]
    for run, data in zip(runs, contents):
        run.stdin.write(data)
    for run in runs:
        run.stdin.close()
    assert [run.wait(60) for run in runs] == [0] * len(runs)
    assert tool(url, "get", "race/one", keys=keys).stdout in contents


def test_killed_writers_leave_no_torn_object(folder):
    size = 300_000
    for round in range(8):
        run = subprocess.Popen([program("blob_tool"), f"file:{folder}", "fill", "1000000", str(size)], stdout=subprocess.PIPE)
        said = [run.stdout.readline() for _ in range(3 + round)]  # so the kill falls anywhere in the next one
        run.send_signal(signal.SIGKILL)
        said += run.stdout.readlines()
        run.wait()
        names = [line.decode().strip() for line in said if line.endswith(b"\n")]
        here = sorted(os.listdir(f"{folder}/fill"), key=int)
        assert set(names) <= {f"fill/{n}" for n in here}
        for n in here:
            data = open(f"{folder}/fill/{n}", "rb").read()
            assert len(data) == size and data.startswith(n.encode() + b"\0")
        shutil.rmtree(f"{folder}/fill")


def test_a_full_folder(folder):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        url = f"file:{folder}"
        assert tool(url, "put", "fits", data=b"x" * 500_000).returncode == 0
        assert kind(tool(url, "put", "too/large", data=b"x" * 900_000)) == "limit"
        assert kind(tool(url, "get", "too/large")) == "not_found" and os.listdir(f"{folder}/.tmp") == []
        assert tool(url, "delete", "fits").returncode == 0
        assert tool(url, "put", "too/large", data=b"x" * 900_000).returncode == 0
    finally:
        subprocess.run(["umount", folder], check=True)


def test_keys_of_s3(s3, folder):
    wrong = f"{folder}/wrong"
    open(wrong, "w").write("test-access not-the-secret")
    r = tool(s3.url, "put", "keys/x", data=b"x", keys=wrong)
    assert kind(r) == "denied" and b"SignatureDoesNotMatch" in r.stderr and b"not-the-secret" not in r.stderr
    env = {"AWS_ACCESS_KEY_ID": s3.ACCESS, "AWS_SECRET_ACCESS_KEY": s3.SECRET}
    assert tool(s3.url, "put", "keys/x", data=b"x", env=env).returncode == 0
    assert tool(s3.url.replace("/devbox/", "/absent/"), "put", "x", data=b"x", keys=s3.keys).returncode == 1


def test_s3_that_goes_away(s3):
    s3.stop()
    assert kind(tool(s3.url, "put", "away/x", data=b"x", keys=s3.keys)) == "unavail"
    s3.start()
    assert tool(s3.url, "put", "away/x", data=b"x", keys=s3.keys).returncode == 0
