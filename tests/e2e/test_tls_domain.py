"""The published SDK with nothing but a domain and a key, over https, as it reaches E2B itself."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from server_process import ServerProcess

pytestmark = pytest.mark.machine

CLIENT = """
import json, logging, os, sys
import httpx
from e2b_code_interpreter import Sandbox

assert not {"E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DEBUG"} & set(os.environ)
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
# The SDK's transport says there what was spoken; on httpx's logger its adapter always says HTTP/1.1.
logging.getLogger("pyqwest.access").addHandler(handler)
logging.getLogger("pyqwest.access").setLevel(logging.DEBUG)

sandbox = Sandbox.create(timeout=120)
try:
    out = []
    execution = sandbox.run_code("print('one')\\n40 + 2", on_stdout=lambda m: out.append(m.line))
    sandbox.files.write("www/index.html", "grüße")
    sandbox.commands.run("python3 -m http.server 3000 --directory www", background=True)
    public = sandbox.get_host(3000)
    sdk_lines = list(lines)
    with httpx.Client(http2=True) as client:
        while (answer := client.get(f"https://{public}/")).status_code == 502:
            pass
    signed = httpx.get(sandbox.download_url("www/index.html")).text
    json.dump({
        "text": execution.text, "out": "".join(out), "whoami": sandbox.commands.run("whoami").stdout,
        "read": sandbox.files.read("www/index.html"), "public": public, "id": sandbox.sandbox_id,
        "fetched": answer.text, "version": answer.http_version, "signed": signed, "requests": sdk_lines,
        "again": Sandbox.connect(sandbox.sandbox_id).commands.run("echo found").stdout,
    }, sys.stdout)
finally:
    sandbox.kill()
"""


@pytest.fixture(scope="module")
def told(atoll: ServerProcess) -> dict[str, Any]:
    """What the SDK saw in a process that has the variables of `./atoll env --domain`."""
    environ = atoll.domain_environ()
    ran = subprocess.run(
        [sys.executable, "-c", CLIENT], env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return {**json.loads(ran.stdout), "domain": environ["E2B_DOMAIN"]}


def test_code_commands_and_files_work_by_the_domain_alone(told: dict[str, Any]) -> None:
    assert (told["text"], told["out"], told["whoami"]) == ("42", "one\n", "user\n")
    assert told["read"] == told["signed"] == "grüße"
    assert told["again"] == "found\n"


def test_a_port_is_fetched_over_https_by_its_public_name(told: dict[str, Any]) -> None:
    assert told["public"] == f"3000-{told['id']}.{told['domain']}"
    assert (told["fetched"], told["version"]) == ("grüße", "HTTP/2")


def test_the_sdk_speaks_https_only_and_http_2_where_it_wants_to(told: dict[str, Any]) -> None:
    """It asks for HTTP/1.1 itself where closing the connection is to be noticed: executions, downloads."""
    assert all(" https://" in line for line in told["requests"])
    for start in (f"https://api.{told['domain']}/", f"https://49983-{told['id']}.{told['domain']}/process"):
        spoken = [line for line in told["requests"] if start in line]
        assert spoken
        assert all('"HTTP/2 20' in line for line in spoken)
