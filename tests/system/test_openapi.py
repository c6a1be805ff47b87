# SPDX-License-Identifier: Apache-2.0
"""Every operation of docs/openapi.yaml, driven by schemathesis against the whole of DevBox: no server error, no answer that the document
does not know. openapi_driver.py does the work, with a Python that has schemathesis."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml

from conftest import ROOT

HERE = pathlib.Path(__file__).parent
# A newer hypothesis does not have what hypothesis-jsonschema 0.23 uses of it.
PINNED = ("schemathesis==4.4.4", "hypothesis==6.151.0", "hypothesis-jsonschema==0.23.1")
NOT_HERE = {"GET /api/auth/oidc/login", "GET /api/auth/oidc/callback"}  # there is no provider: test_oidc.py


def python():
    """One that has schemathesis: installed once, into the cache, by pip from its registry."""
    cache = pathlib.Path(os.environ.get("DEVBOX_CACHE") or pathlib.Path.home() / ".cache/devbox") / PINNED[0].replace("==", "-")
    if not (cache / "done").exists():
        shutil.rmtree(cache, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", cache], check=True, timeout=120)
        subprocess.run([cache / "bin/pip", "install", "--quiet", *PINNED], check=True, timeout=600)
        (cache / "done").touch()
    return cache / "bin/python"


def test_every_operation(devbox):
    long = os.environ.get("DEVBOX_LONG", "0") not in ("", "0")
    r = subprocess.run([python(), HERE / "openapi_driver.py", ROOT / "docs/openapi.yaml", devbox.url, devbox.key, "40" if long else "2",
                        str(os.getpid()) if long else "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=3000)
    assert r.returncode == 0, r.stderr[-4000:]
    found = json.loads(r.stdout)
    assert not found["breaches"], "\n\n".join(found["breaches"])
    doc = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    operations = {f"{m.upper()} {p}" for p, methods in doc["paths"].items() for m in methods if m in ("get", "post", "put", "patch", "delete")}
    assert set(found["answers"]) == operations
    well = {o for o, answers in found["answers"].items() if any(status < "400" for status in answers)}
    assert operations - well <= NOT_HERE, found["answers"]
    assert devbox.client().run("python", {"main.py": "print(1)"})["stdout"] == "1\n"
