# SPDX-License-Identifier: Apache-2.0
"""The keys that sign tokens are changed while everything runs: nothing that stands breaks, and an old key is good until it is removed."""

import base64
import secrets
import time

import pytest

from client import Stream


@pytest.fixture()
def box(own_devbox):
    own_devbox.env["DEVBOX_GATEWAY_MAX_WALL_MS"] = "600000"
    own_devbox.up("--no-images")
    return own_devbox


def key_of(token):
    """The id of the key that signed it."""
    payload = token.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))[0]


def until(fn, timeout=60):
    deadline = time.monotonic() + timeout
    while True:
        value = fn()
        if value:
            return value
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def put(path, *lines):
    """As an operator does it: written beside, moved over."""
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    new.chmod(0o600)
    new.rename(path)


def taken_over(box, times):
    return lambda: all(box.log(name).count("taken over") >= times for name in box_logs(box))


def box_logs(box):
    """The daemons that hold the ring, each with a log of its own."""
    names = sorted(p.stem for p in (box.state / "logs").glob("*.log"))
    return [n for n in names if n.startswith(("gateway", "scheduler")) or n == "shim"]


def opens(box, a, token):
    s = Stream(box.url, a["sandbox_id"], token, timeout=60)
    s.close()
    return True


def test_rotation(box):
    ring = box.state / "keys/cluster.key"
    old = next(line for line in ring.read_text().splitlines() if line and line[0] != "#")
    new = f"{(int(old.split()[0]) + 1) % 256} {secrets.token_hex(32)}"
    assert {"gateway", "scheduler", "shim"} <= {n.split("-")[0] for n in box_logs(box)}
    api = box.client()
    a = api.start("python", {"main.py": "while True:\n    print(input(), flush=True)\n"}, limits={"wall_ms": 600000})
    s = api.stream(a)
    s.send(type="input", process_id=a["process_id"], data="one\n")
    s.until_output("one\n")
    assert key_of(a["stream_token"]) == int(old.split()[0])

    put(ring, new, old)
    until(taken_over(box, 1))
    token = until(lambda: (t := api.call("GET", f"/api/executions/{a['id']}").json()["stream_token"]) and key_of(t) == int(new.split()[0]) and t)
    assert opens(box, a, token) and opens(box, a, a["stream_token"])  # both are good
    s.send(type="input", process_id=a["process_id"], data="two\n")    # and what stood, stands
    s.until_output("two\n")
    assert api.run("python", {"main.py": "print(1)"})["stdout"] == "1\n"  # a gateway dials a node anew when it has input for it

    put(ring, "no key at all")
    until(lambda: all("not '<id" in box.log(n) for n in box_logs(box)))
    assert opens(box, a, token)

    put(ring, new)
    until(taken_over(box, 2))
    with pytest.raises(Exception, match="401"):
        opens(box, a, a["stream_token"])
    assert opens(box, a, token)
    s.send(type="input", process_id=a["process_id"], data="three\n")
    s.until_output("three\n")
    s.send(type="eof", process_id=a["process_id"])
    assert s.until_end()["verdict"] == "EXIT_CODE"
    assert api.run("python", {"main.py": "print(2)"})["stdout"] == "2\n"
    assert all(d["restarts"] == 0 for d in box.status()["daemons"])
