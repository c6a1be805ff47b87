# SPDX-License-Identifier: Apache-2.0
"""How long until a program runs: warm, seen by a client, and with a new sandbox. Pairs are measured in turns."""

import subprocess
import time

from benchlib import DevBox, Http, Rows, Runsc, Stream, is_end, is_output, machine_facts, median, percentile, say, wait_for

# Statically linked, in every Debian image, and says one line: what is left is the start itself.
STATIC_HELLO = ["/sbin/ldconfig", "-V"]
PYTHON_HELLO = "print('hello')\n"
FIRST_BYTE, STARTED = "devbox_shim_first_byte_seconds", "devbox_shim_start_seconds"
SANDBOX = "devbox_shim_sandbox_start_seconds"


def body(command=None):
    b = {"template": "python", "files": [{"path": "main.py", "content": PYTHON_HELLO}]}
    return {**b, "command": command} if command else b


def is_static(http):
    """The program has no interpreter: asked in the sandbox, where it runs."""
    code = ("import struct\nd = open('/sbin/ldconfig', 'rb').read(4096)\nat, = struct.unpack_from('<Q', d, 32)\n"
            "size, n = struct.unpack_from('<HH', d, 54)\nprint(any(struct.unpack_from('<I', d, at + i * size)[0] == 3 for i in range(n)))\n")
    r = http.post("/api/executions?wait=true", {"template": "python", "files": [{"path": "main.py", "content": code}]})
    return r["stdout"] == "False\n"


def one(before, after, name):
    """The one observation of a histogram that was made in between, in ms; None when it was not one."""
    if after[f"{name}_count"] - before.get(f"{name}_count", 0) != 1:
        return None
    return (after[f"{name}_sum"] - before.get(f"{name}_sum", 0)) * 1000


def warm_start(box, http):
    """From the start order at the shim to the first byte there, and to the running program; and the sandbox that takes the
    used one's place. Each None when it was not one, or not warm."""
    box.wait_warm("python")
    before = box.metrics()
    http.post("/api/executions?wait=true", body(STATIC_HELLO))
    box.wait_warm("python")
    after = box.metrics()
    cold = 'devbox_shim_starts_total{template="python",warm="false"}'
    was_warm = after.get(cold, 0) == before.get(cold, 0)
    start = (one(before, after, FIRST_BYTE), one(before, after, STARTED)) if was_warm else (None, None)
    return *start, one(before, after, SANDBOX)


def first_byte_at_client(box, http):
    """Seconds from the submission to the first byte of output at a WebSocket, the connection of which is counted."""
    box.wait_warm("python")
    begin = time.perf_counter()
    accepted = http.post("/api/executions", body())
    stream = Stream(box.url, accepted)
    message = stream.until(is_output)
    took = time.perf_counter() - begin
    if not message["data"].startswith("h"):
        raise RuntimeError(f"unexpected output: {message}")
    stream.until(is_end)
    stream.close()
    return took * 1000


def native_python():
    begin = time.perf_counter()
    p = subprocess.Popen(["/usr/bin/python3", "-c", PYTHON_HELLO], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    p.stdout.read(1)
    took = time.perf_counter() - begin
    p.stdout.read()
    p.wait()
    return took * 1000


def bench_start(box, http, rows, rounds):
    runsc = Runsc(box, "python")
    ours, started, other, cold, run = [], [], [], [], []
    sandbox = runsc.start(["/bin/sleep", "1000000"])
    try:
        runsc.exec_first_byte(sandbox, STATIC_HELLO)
        warm_start(box, http)
        for _ in range(rounds):
            start, started_ms, sandbox_ms = warm_start(box, http)
            ours += [start] if start is not None else []
            started += [started_ms] if started_ms is not None else []
            cold += [sandbox_ms] if sandbox_ms is not None else []
            other.append(runsc.exec_first_byte(sandbox, STATIC_HELLO) * 1000)
            run.append(runsc.run(["/bin/true"]) * 1000)
    finally:
        runsc.end(sandbox)
        runsc.close()
    if len(ours) < rounds / 2 or len(cold) < rounds / 2:
        raise RuntimeError(f"of {rounds} rounds only {len(ours)} were warm and {len(cold)} made one sandbox")
    say(f"warm start: {len(ours)} starts at the shim ({FIRST_BYTE}: order taken -> first byte seen, files written in between; "
        f"the program ran after {median(started):.1f} ms), "
        f"{len(other)} times runsc exec (called -> first byte read), the same static program, image and runsc")
    say(f"cold sandbox: {len(cold)} times {SANDBOX} (order -> init ready), {len(run)} times runsc run of /bin/true (called -> ended), "
        "the same bundle and flags")
    rows.add("warm start, order to first byte: DevBox, runsc exec", median(ours), median(other), "ms", goal=0.125)
    rows.add("cold sandbox, order to ready: DevBox, runsc run", median(cold), median(run), "ms", goal=1.0)


def bench_client(box, http, rows, rounds):
    ours, native = [], []
    first_byte_at_client(box, http)
    native_python()
    for _ in range(rounds):
        ours.append(first_byte_at_client(box, http))
        native.append(native_python())
    say(f"first byte at a client: {rounds} submissions (POST sent -> output message read, opening the WebSocket included), the pool warm; "
        f"{rounds} times /usr/bin/python3 -c on this machine without any sandbox; these two goals bound `ours`")
    rows.add("submit to first byte, python hello, p50: DevBox, native", percentile(ours, 50), percentile(native, 50), "ms", goal=8, of="ours")
    rows.add("submit to first byte, python hello, p99: DevBox, native", percentile(ours, 99), percentile(native, 99), "ms", goal=30, of="ours")


def main():
    rows = Rows(__doc__)
    machine_facts()
    with DevBox() as box:
        http = Http(box.url, box.key)
        wait_for(lambda: is_static(http), 1, "/sbin/ldconfig of the image is a static program")
        bench_start(box, http, rows, rows.args.rounds or 30)
        bench_client(box, http, rows, rows.args.rounds or 100)
        http.close()
    rows.done()


if __name__ == "__main__":
    main()
