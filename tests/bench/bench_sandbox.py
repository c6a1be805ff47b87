# SPDX-License-Identifier: Apache-2.0
"""The sandbox engine: warm and parked starts, cold ones, refill, what a warm one costs, teardown, and quiet streams beside a
flood. Pairs are measured in turns."""

import json
import os
import pathlib
import re
import resource
import select
import shutil
import subprocess
import threading
import time

from bench_run import FIRST_BYTE, PYTHON_HELLO, SANDBOX, STATIC_HELLO, body, is_static, native_python, one
from bench_stream import LIMITS, Peer, go, upgrade
from benchlib import DevBox, Http, Rows, Runsc, machine_facts, median, percentile, say, wait_for

TEARDOWN = "devbox_shim_sandbox_teardown_seconds"
NODE_HELLO = "console.log('hello')\n"
GO_HELLO = "package main\nfunc main() { println(1) }\n"
LINE = re.compile(rb'"data":"(\d{19}) ')


def hello(template):
    file, code = {"python": ("main.py", PYTHON_HELLO), "node": ("main.js", NODE_HELLO), "go": ("main.go", GO_HELLO)}[template]
    return {"template": template, "files": [{"path": file, "content": code}]}


def waited(http, request):
    begin = time.perf_counter()
    result = http.post("/api/executions?wait=true", request)
    took = (time.perf_counter() - begin) * 1000
    if result["verdict"] != "OK":
        raise RuntimeError(f"it ended with {result['verdict']}: {result}")
    return took


def observed(box, http, template, request):
    """{histogram: ms} of one execution in a warm sandbox, and of the making of the next; None where it was not one."""
    box.wait_warm(template)
    before = box.metrics()
    waited(http, request)
    box.wait_warm(template)
    after = box.metrics()
    cold = f'devbox_shim_starts_total{{template="{template}",warm="false"}}'
    warm = after.get(cold, 0) == before.get(cold, 0)
    return {name: one(before, after, name) if warm or name != FIRST_BYTE else None for name in (FIRST_BYTE, SANDBOX, TEARDOWN)}


def cold(box, http, workspace):
    """ms from the order of a sandbox to its readiness, nothing warm and nothing parked: a workspace's of the size that no pool keeps."""
    before = box.metrics()
    sandbox = http.post(f"/api/workspaces/{workspace}/sandbox", {"size": "cpu-large"})["sandbox_id"]
    wait_for(lambda: http.get(f"/api/sandboxes/{sandbox}/status")["status"] == "idle", 60, "the sandbox is ready",
             every=0.1)  # to ask costs CPU, which is measured here, and the shim's own clock says how long it took
    took = one(before, box.metrics(), SANDBOX)
    http.delete(f"/api/sandboxes/{sandbox}")
    return took


def kept(values, rounds, what):
    values = [v for v in values if v is not None]
    if len(values) < rounds / 2:
        raise RuntimeError(f"of {rounds} rounds of {what} only {len(values)} were warm and alone")
    return values


def native(*args):
    begin = time.perf_counter()
    p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    p.stdout.read(1)
    took = (time.perf_counter() - begin) * 1000
    p.stdout.read()
    p.wait()
    return took


def bench_in_a_row(box, http, rows):
    """The first thirty tell the pool what is asked for; the second are measured."""
    for _ in range(30):
        waited(http, hello("python"))
    box.wait_warm("python")
    ours = [waited(http, hello("python")) for _ in range(30)]
    other = [native_python() for _ in range(30)]
    say(f"30 Python hellos in a row, POST sent -> whole answer read: p50 {percentile(ours, 50):.1f}, p90 {percentile(ours, 90):.1f}, "
        f"largest {max(ours):.1f} ms; native: python3 -c of the same, first byte; the goal bounds `ours`")
    rows.add("waited Python hello, 30 in a row, p50: DevBox, native python3", percentile(ours, 50), median(other), "ms", goal=40, of="ours")


def bench_starts(box, http, rows, rounds):
    runsc = Runsc(box, "python")
    workspace = http.post("/api/workspaces", {"name": "cold", "template": "python"})["id"]
    static, python, node, made, parked, down = [], [], [], [], [], []
    execs, runs, deletes, py, js = [], [], [], [], []
    sandbox = runsc.start(["/bin/sleep", "1000000"])
    host_node = shutil.which("node", path="/usr/bin:/usr/local/bin:/bin")
    try:
        runsc.exec_first_byte(sandbox, STATIC_HELLO)
        for _ in range(rounds):
            seen = observed(box, http, "python", body(STATIC_HELLO))
            static.append(seen[FIRST_BYTE])
            execs.append(runsc.exec_first_byte(sandbox, STATIC_HELLO) * 1000)
            seen = observed(box, http, "python", hello("python"))
            python.append(seen[FIRST_BYTE])
            parked.append(seen[SANDBOX])
            down.append(seen[TEARDOWN])
            py.append(native_python())
            node.append(observed(box, http, "node", hello("node"))[FIRST_BYTE])
            if host_node:
                js.append(native(host_node, "-e", NODE_HELLO))
            box.wait_warm("node")
            made.append(cold(box, http, workspace))
            box.wait_warm("python")
            runs.append(runsc.run(["/bin/true"]) * 1000)
            throwaway = runsc.start(["/bin/sleep", "1000000"])
            begin = time.perf_counter()
            runsc.end(throwaway)
            deletes.append((time.perf_counter() - begin) * 1000)
    finally:
        runsc.end(sandbox)
        runsc.close()
    say(f"starts: {rounds} rounds; ours = order taken by the shim -> first byte seen there ({FIRST_BYTE}, a bucketless sum of one), the "
        "sandbox warm; files written and arguments handed over in between")
    rows.add("warm static hello: DevBox, runsc exec", median(kept(static, rounds, "a static hello")), median(execs), "ms", goal=0.125)
    rows.add("parked Python hello: DevBox, native python3 -c", median(kept(python, rounds, "Python")), median(py), "ms", goal=0.25)
    if host_node:
        rows.add("parked Node hello: DevBox, native node -e", median(kept(node, rounds, "Node")), median(js), "ms", goal=0.25)
    else:
        say("no node on this machine: a parked Node hello has nothing beside it")
    rows.add("cold sandbox, order to ready, nothing parked: DevBox, runsc run of /bin/true", median(kept(made, rounds, "a cold sandbox")),
             median(runs), "ms", goal=1.0)
    rows.add("a sandbox made ahead, with a parked Python: DevBox, runsc run of /bin/true", median(kept(parked, rounds, "a parked Python")), median(runs), "ms")
    rows.add("teardown, order until nothing is left: DevBox, runsc delete --force", median(kept(down, rounds, "teardown")), median(deletes), "ms",
             goal=1.0)


def bench_floor(peer, http, rows):
    """What gVisor itself takes to start that program: no start, ours or another's, can be shorter."""
    count = 40
    inside = http.post("/api/executions?wait=true", {
        "template": "python", "files": [{"path": "peer", "content_base64": peer.content}],
        "command": f"chmod +x peer && exec ./peer spawn {count} {' '.join(STATIC_HELLO)}"})
    outside = peer.start("spawn", count, *STATIC_HELLO, stdin=subprocess.DEVNULL)
    other = int(outside.communicate()[0]) / 1000
    say(f"floor: {count} times vfork and exec of the static hello by a static program, to the first byte: within a sandbox, and natively")
    rows.add("vfork and exec of the static hello: inside gVisor, native", int(inside["stdout"]) / 1000, other, "ms")


WAITING = """import os
os.write(1, b'R')
while line := os.read(0, 65536):
    exec(compile(line, 'main.py', 'exec'), {'__name__': '__main__'})
"""


def bench_parked_floor(box, rows, rounds):
    """A Python that waits in a sandbox with none of our code, given its program on a pipe: no parked one can be sooner."""
    box.wait_warm("python")
    runsc, took, py = Runsc(box, "python"), [], []
    name, words = runsc.bundle(["/usr/bin/python3", "-u", "-c", WAITING])
    p = subprocess.Popen([*words, "run", "--bundle", str(runsc.dir / name), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        if p.stdout.read(1) != b"R":
            raise RuntimeError("the waiting Python does not begin")
        for _ in range(rounds):
            time.sleep(1)  # asleep, as one that is parked is
            begin = time.perf_counter()
            p.stdin.write(PYTHON_HELLO.encode())
            p.stdout.read(1)
            took.append((time.perf_counter() - begin) * 1000)
            time.sleep(0.1)
            os.read(p.stdout.fileno(), 65536)
            py.append(native_python())
    finally:
        p.stdin.close()
        p.wait()
        runsc.end((name, words))
        runsc.close()
    say("floor: a Python in bare runsc, idle for a second, reads its program from a pipe of the host, compiles it, prints: program written -> "
        "first byte read, the same one again and again. No file is written, no arguments, environment, limits or streams change hands")
    rows.add("a waiting Python in bare runsc, woken, its print read: bare runsc, native python3 -c", median(took), median(py), "ms")


def warm_count(box, template):
    return box.metrics().get(f'devbox_shim_pool_warm{{template="{template}"}}', 0)


def cpu_ms(name):
    """Of all that ever ran in the sandbox of that name, the runsc that made it included."""
    for usage in pathlib.Path("/sys/fs/cgroup").glob(f"**/{name}/cpuacct.usage"):
        return int(usage.read_text()) / 1e6
    for stat in pathlib.Path("/sys/fs/cgroup").glob(f"**/{name}/cpu.stat"):
        return int(re.search(r"^usage_usec (\d+)", stat.read_text(), re.M).group(1)) / 1e3
    raise RuntimeError(f"no cgroup says what sandbox {name} has used")


def warm_sandboxes(box, *templates):
    """{template: names} of those that stand in the pool."""
    images = pathlib.Path(os.environ["DEVBOX_CACHE"]) / "images"
    digests = {t: json.loads((images / f"{t}.json").read_text())["digest"] for t in templates}
    found = {t: [] for t in templates}
    for config in (box.state / "node" / "sandboxes").glob("*/config.json"):
        for t, digest in digests.items():
            if digest in config.read_text():
                found[t].append(config.parent.name)
    return found


def bench_refill_cost(box, rows):
    """What one costs, in CPU time: the bound of how many a second there can be."""
    for t in ("go", "python"):
        box.wait_warm(t)
    runsc, bare = Runsc(box, "go"), []
    try:
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            sandbox = runsc.start(["/bin/sleep", "1000000"])
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            bare.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000 + cpu_ms(sandbox[0]))
            runsc.end(sandbox)
    finally:
        runsc.close()
    ours = {t: median([cpu_ms(name) for name in names]) for t, names in warm_sandboxes(box, "go", "python").items()}
    say(f"CPU of one, all of its processes: nothing parked {ours['go']:.0f} ms, a parked Python {ours['python']:.0f} ms; create and start of /bin/sleep "
        f"{median(bare):.0f} ms. {os.cpu_count()} processors make {1000 * os.cpu_count() / ours['python']:.1f} a second at most, bare ones "
        f"{1000 * os.cpu_count() / median(bare):.1f}, were they never idle and had nothing else to do")
    rows.add("CPU of making a sandbox, nothing parked: DevBox, bare runsc", ours["go"], median(bare), "ms")
    rows.add("CPU of making one with a parked Python: DevBox, bare runsc", ours["python"], median(bare), "ms")


def bench_refill(box, http, rows):
    """As many at once as are warm; then the pool has the machine for itself."""
    box.wait_warm("python")
    count = int(warm_count(box, "python"))
    clients = [Http(box.url, box.key) for _ in range(count)]
    threads = [threading.Thread(target=waited, args=(c, hello("python"))) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for c in clients:
        c.close()
    # As many are wanted as before, or fewer: what is asked for fades.
    begin = time.perf_counter()
    first = last = warm_count(box, "python")
    grew = begin
    while last < count and time.perf_counter() < grew + 10:
        time.sleep(0.02)
        if (now := warm_count(box, "python")) > last:
            last, grew = now, time.perf_counter()
    say(f"refill: from {first:.0f} to {last:.0f} warm sandboxes with a parked Python each, in {grew - begin:.2f} s")
    if last == first:
        raise RuntimeError("the pool does not fill itself again")
    rows.add("refill, with a parked Python each: DevBox", (last - first) / (grew - begin), None, "1/s", goal=20, of="ours", at_least=True)


def pss_mb(pids):
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss: +(\d+)", text, re.M).group(1))
    return total / 1024


def pids_of(name):
    """Of the sandbox of that name: all that stand in its cgroup."""
    for procs in pathlib.Path("/sys/fs/cgroup").glob("**/cgroup.procs"):
        if procs.parent.name == name and (pids := procs.read_text().split()):
            return pids
    raise RuntimeError(f"no cgroup holds sandbox {name}")


def bench_memory(box, http, rows):
    for t in ("go", "python"):
        box.wait_warm(t)
    runsc = Runsc(box, "go")
    sandboxes = [runsc.start(["/bin/sleep", "1000000"]) for _ in range(3)]
    try:
        bare = median([pss_mb(pids_of(name)) for name, _ in sandboxes])
        values = {t: [pss_mb(pids_of(name)) for name in names] for t, names in warm_sandboxes(box, "go", "python", "node").items()}
    finally:
        for sandbox in sandboxes:
            runsc.end(sandbox)
        runsc.close()
    say("memory: PSS of all processes of a sandbox that waits; " + ", ".join(f"{t} {median(v):.1f} MiB ({len(v)})" for t, v in values.items() if v)
        + f"; bare: create and start of /bin/sleep, the same image and flags, {bare:.1f} MiB")
    rows.add("memory of an idle warm sandbox, nothing parked: DevBox, bare runsc", median(values["go"]), bare, "MiB", goal=1.02)
    rows.add("memory of one with a parked Python: DevBox, bare runsc", median(values["python"]), bare, "MiB")
    rows.add("memory of one with a parked Node: DevBox, bare runsc", median(values["node"]), bare, "MiB")


def quiet_latencies(box, accepted, seconds):
    """ms from a line's own time to its reading, of all streams."""
    socks = [upgrade(box.url, a) for a in accepted]
    for s, a in zip(socks, accepted):
        go(s, a)
    got, poll, open_ = [], select.poll(), {s.fileno(): s for s in socks}
    for fd in open_:
        poll.register(fd, select.POLLIN)
    until = time.monotonic() + seconds + 60
    while open_:
        if time.monotonic() > until:
            raise RuntimeError("quiet streams do not end")
        for fd, _ in poll.poll(1000):
            data = open_[fd].recv(65536)
            at = time.time_ns()
            got += [(at - int(t)) / 1e6 for t in LINE.findall(data)]
            if not data or b'"status":"completed"' in data:
                poll.unregister(fd)
                open_.pop(fd).close()
    return got


def bench_flood(peer, rows, quiet, count, interval_us):
    settings = {**LIMITS, "DEVBOX_SHIM_MAX_SANDBOXES": str(quiet + 60)}
    with DevBox(**settings) as box:
        http = Http(box.url, box.key)
        box.wait_warm("python")
        values, flooded, stop = {}, [0], threading.Event()

        def flood():
            own = Http(box.url, box.key)
            while not stop.is_set():
                a = peer.in_sandbox(own, "blast", 16000, 65536, output_bytes=1 << 30)
                s = upgrade(box.url, a)
                go(s, a)
                s.close()
                while own.get(f"/api/executions/{a['id']}")["status"] in ("pending", "running") and not stop.wait(0.05):
                    pass
                if stop.is_set():
                    own.delete(f"/api/executions/{a['id']}")
                flooded[0] += 1
            own.close()

        for name in ("alone", "beside"):
            accepted = [peer.in_sandbox(http, "tick", count, interval_us) for _ in range(quiet)]
            for a in accepted:
                wait_for(lambda: http.get(f"/api/executions/{a['id']}")["status"] == "running", 120, "a quiet stream runs")
            wait_for(lambda: warm_count(box, "python") >= 1, 120, "one is warm for the flooder")
            thread = threading.Thread(target=flood)
            if name == "beside":
                thread.start()
                time.sleep(0.5)
            values[name] = quiet_latencies(box, accepted, count * interval_us / 1e6)
            stop.set()
            if name == "beside":
                thread.join()
            stop.clear()
        http.close()
    for name, v in values.items():
        say(f"quiet streams {name}: {len(v)} of {quiet * count} lines seen at the beginning of a message; p50 {percentile(v, 50):.1f} ms")
    rows.add(f"p99 of {quiet} quiet streams: beside a flooder, alone", percentile(values["beside"], 99), percentile(values["alone"], 99), "ms", goal=1.1)


def bench_all(rows, peer, quick):
    with DevBox() as box:
        http = Http(box.url, box.key)
        wait_for(lambda: is_static(http), 1, "/sbin/ldconfig of the image is a static program")
        bench_in_a_row(box, http, rows)
        bench_starts(box, http, rows, quick or 20)
        bench_floor(peer, http, rows)
        bench_parked_floor(box, rows, quick or 20)
        bench_memory(box, http, rows)
        bench_refill_cost(box, rows)
        bench_refill(box, http, rows)
        http.close()
    bench_flood(peer, rows, 99 if not quick else min(99, 3 * quick), 100, 100000)


def main():
    rows = Rows(__doc__)
    machine_facts()
    os.environ.setdefault("DEVBOX_CACHE", str(pathlib.Path.home() / ".cache" / "devbox"))
    quick = rows.args.rounds
    peer = Peer()
    try:
        bench_all(rows, peer, quick)
    finally:
        peer.close()
    rows.done()


if __name__ == "__main__":
    main()
