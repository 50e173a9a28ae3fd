"""What a context does when it finds itself in another sandbox than before, as after a memory restore."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Client, start_service, stop_service


class Envd(http.server.BaseHTTPRequestHandler):
    """`GET /envs` of envd, for the token `secret`."""

    variables: dict[str, str]
    asked: int

    def do_GET(self) -> None:
        type(self).asked += 1
        is_allowed = self.path == "/envs" and self.headers["X-Access-Token"] == "secret"
        self.send_response(200 if is_allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps(self.variables if is_allowed else {}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def envd() -> Iterator[type[Envd]]:
    Envd.variables, Envd.asked = {"GLOBAL": "one"}, 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Envd)
    Envd.address = f"127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever).start()
    yield Envd
    server.shutdown()


def say(client: Client, code: str, **env_vars: str) -> str:
    body = {"code": f"import os, random\nprint({code})", "env_vars": env_vars}
    _, answer = client.call("POST", "/execute", body, **{"X-Access-Token": "secret"})
    return "".join(json.loads(line).get("text", "") for line in answer.splitlines()).strip()


@pytest.mark.slow
def test_a_clone_gets_its_own_environment_and_random_numbers(envd: type[Envd], tmp_path: Path) -> None:
    identity = tmp_path / "id"
    identity.write_text("template")
    process, client = start_service(
        ATOLL_SANDBOX_ID_FILE=str(identity),
        ATOLL_ENVD_ADDRESS=envd.address,  # type: ignore[attr-defined]
        ATOLL_INTERPRETER_CWD=str(tmp_path),
    )
    try:
        envd.asked = 0
        assert say(client, "os.environ['GLOBAL']") == "one"
        assert say(client, "os.environ['GLOBAL']", GLOBAL="mine") == "mine"
        assert say(client, "os.environ['GLOBAL']") == "one"
        assert envd.asked == 1
        assert say(client, "random.seed(7) or random.random()") == say(
            client, "random.seed(7) or random.random()"
        )

        say(client, "random.seed(7)")
        identity.write_text("clone")
        envd.variables = {"GLOBAL": "two"}
        assert say(client, "random.random()") != str(0.32383276483316237)  # what seed 7 gives
        assert say(client, "os.environ['GLOBAL']") == "two"
        assert envd.asked == 2
    finally:
        stop_service(process)
