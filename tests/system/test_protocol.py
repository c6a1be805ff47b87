# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/protocols.md, "The stream that clients see", executed: the server says messages of just these shapes, and takes
those of clients. (Those of the workspace's socket and of webhooks: test_socket.py, test_webhooks.py.)"""

import json
import re
import struct
import uuid

import pytest

from test_gateway import ERR, GAP, OUT, ROOT, World, outcome


@pytest.fixture(scope="module")
def w(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("protocol"))
    yield world
    world.close()


def examples(heading):
    """The JSON objects of the code block below a heading; one may go over several lines."""
    section = (ROOT / "docs/protocols.md").read_text().split("## The stream that clients see")[1].split("\n## ")[0]
    block = re.search(r"```json\n(.*?)```", section.split(f"### {heading}\n")[1], re.S)[1]
    return [json.loads(x) for x in re.sub(r"\n ", " ", block).strip().split("\n")]


def shape(value):
    """Names of fields and kinds of values; what stands for a text or number may be any. Words of the protocol stay."""
    if isinstance(value, dict):
        return {k: v if k in ("type", "status", "phase", "stream", "encoding", "code") else shape(v) for k, v in value.items() if k != "_at"}
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def test_what_the_server_says(w):
    p, a = w.start()
    p.started()
    s = w.api.stream(a)
    p.phase("compile")
    p.write("warning: …\n".encode(), ERR, compile=True)
    p.phase("run")
    p.write(b"Hello\n")
    p.write(b"\xff")
    s.send(type="input", process_id=p.pid, data="x", seq=7)
    s.until(lambda m: m["type"] == "input_taken")
    p.append(p.record(GAP, struct.pack("<QQB", 7, 4096, 1)))
    p.at[OUT, False] = 4096
    p.write(b"later\n")
    s.until(lambda m: m.get("data") == "later\n")
    last = next(m for m in s.seen if m["type"] == "output")["id"]
    s.send(type="resume", process_id=p.pid, last_seen_id=last)
    s.until(lambda m: m["type"] == "resumed")
    p.end(run=outcome(out=4102), record=True)
    s.until_end()
    viewer = w.api.stream(a)
    viewer.send(type="cancel", process_id=str(uuid.uuid4()))
    viewer.until(lambda m: m["type"] == "error")
    said = [shape(m) for m in s.seen + viewer.seen]
    for example in examples("From the server"):
        wanted = shape(example)
        if example["type"] == "log":  # Kafka's alone: test_kafka.py
            continue
        if example["type"] == "error":  # the code is another here
            said = [{**m, "code": wanted["code"]} if m["type"] == "error" else m for m in said]
        if example["type"] == "status" and "usage" in example:  # what usage has besides is told by the node
            said = [{**m, "usage": {k: v for k, v in m["usage"].items() if k in wanted["usage"]}} if m.get("usage") else m for m in said]
        assert any({**m, "stream": wanted.get("stream")} == {**wanted, "stream": wanted.get("stream")} for m in said), (example, said)


def test_what_clients_say(w):
    p, a = w.start()
    p.started()
    p.phase("run")
    s = w.api.stream(a)
    s.until(lambda m: m["type"] == "status")
    seen = set()
    for example in examples("From the client"):
        seen.add(example["type"])
        s.send(**{**example, "process_id": p.pid, **({"last_seen_id": "0"} if example["type"] == "resume" else {})})
    s.send(type="no such thing")
    s.until(lambda m: m["type"] == "error" and m["code"] == "unknown_type")
    refused = [m for m in s.seen if m["type"] == "error" and m["code"] in ("malformed", "invalid", "unknown_type")]
    assert len(refused) == 1 and seen == {"input", "eof", "cancel", "resume", "ack", "resize"}
