# SPDX-License-Identifier: Apache-2.0
"""How long until the IDE's editor is painted in Chromium, and what it weighs; beside it Monaco as its npm package ships it, alone on a page."""

import json
import os
import pathlib
import subprocess

from benchlib import DevBox, Rows, machine_facts, median, say

RUN = pathlib.Path(__file__).resolve().parents[1] / "browser/run"


def main():
    rows = Rows(__doc__)
    machine_facts()
    rounds = rows.args.rounds or 5
    with DevBox() as box:
        env = {**os.environ, "DEVBOX_URL": box.url, "DEVBOX_API_KEY": box.key, "DEVBOX_ROUNDS": str(rounds)}
        out = subprocess.run([RUN, "--bench"], env=env, stdout=subprocess.PIPE, text=True, timeout=1200, check=True).stdout
    seen = [json.loads(line) for line in out.splitlines()]

    def of(side, what):
        return median([r[side][what] for r in seen])

    say(f"{rounds} rounds in turns, on loopback; cold: a browser context of its own; warm: median of three reloads; painted: the first coloured line is on "
        "the screen. Ours is the whole workspace, with its calls to the server. Times bound `ours`; bytes are those until the first edit was saved")
    rows.add("editor painted, cold: IDE, bare Monaco", of("ours", "cold"), of("other", "cold"), "ms", goal=1000, of="ours")
    rows.add("editor painted, warm: IDE, bare Monaco", of("ours", "warm"), of("other", "warm"), "ms", goal=400, of="ours")
    rows.add("bytes to the first edit: IDE, bare Monaco", of("ours", "bytes") / 1000, of("other", "bytes") / 1000, "kB", goal=1100, of="ours")
    rows.done()


if __name__ == "__main__":
    main()
