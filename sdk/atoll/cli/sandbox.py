"""`sandbox create|list|info|rollback|kill`: the life of sandboxes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from atoll.cli.client import Client
from atoll.cli.failures import Failure
from atoll.cli.output import describe, print_json, print_table, tell_metadata, tell_time
from atoll.cli.server import ensure_server
from atoll.cli.settings import Settings
from atoll_wire.api import Ended, NewSandbox, SandboxInfo

COLUMNS = ("sandbox id", "template", "state", "started at", "end at", "vcpus", "ram mb", "metadata")


def create(settings: Settings, new: NewSandbox, as_json: bool) -> None:
    with Client(settings) as client:
        ensure_server(client)
        created = client.create(new)
        sandbox = created.sandbox
    if as_json:
        print_json(
            {
                "sandboxID": sandbox.sandbox_id,
                "templateID": sandbox.template_id,
                "alias": sandbox.alias,
                "envdVersion": sandbox.envd_version,
                "envdAccessToken": sandbox.access_token,
                "domain": sandbox.domain,
                "timingsMs": dict(created.timings_ms),
            }
        )
    else:
        print(sandbox.sandbox_id)


def list_(settings: Settings, query: Mapping[str, str], limit: int, as_json: bool) -> None:
    with Client(settings) as client:
        found = list(client.list_sandboxes(query, limit))
    if as_json:
        print_json([describe(info) for info in found])
    elif found:
        print_table(COLUMNS, [_row(info) for info in found])
    else:
        sys.stderr.write("atoll: no sandbox; `./atoll sandbox create` makes one\n")


def info(settings: Settings, sandbox_id: str, as_json: bool) -> None:
    with Client(settings) as client:
        found = client.look_up(sandbox_id)
    if isinstance(found, Ended):
        _tell_end(sandbox_id, found, as_json)
        return
    if as_json:
        print_json(describe(found))
        return
    lines: list[tuple[str, str]] = [*zip(COLUMNS, _row(found), strict=True)]
    if found.kept_until is not None:
        lines.append(("kept until", tell_time(found.kept_until)))
    for name, value in lines:
        print(f"{name + ':':<14}{value}")


def rollback(settings: Settings, sandbox_id: str, snapshot_id: str, as_json: bool) -> None:
    with Client(settings) as client:
        rolled = client.roll_back(sandbox_id, snapshot_id)
    if as_json:
        print_json({"sandboxID": rolled.sandbox.sandbox_id, "timingsMs": dict(rolled.timings_ms)})
    else:
        print(rolled.sandbox.sandbox_id)


def _tell_end(sandbox_id: str, end: Ended, as_json: bool) -> None:
    told = {"reason": end.reason, "detail": end.detail, "at": end.at.isoformat()}
    if as_json:
        print_json({"sandboxID": sandbox_id, "state": "ended", "ended": told})
        return
    told["at"] = tell_time(end.at)
    for name, value in {"sandbox id": sandbox_id, "state": "ended", **told}.items():
        print(f"{name + ':':<14}{value}")


def kill(settings: Settings, sandbox_ids: Sequence[str], every: bool, as_json: bool) -> None:
    """Raises :class:`Failure` after all have been tried when one did not exist."""
    if every == bool(sandbox_ids):
        what = "there are ids and --all" if every else "there is no sandbox to kill"
        raise Failure(what, hint="give ids, or --all for all that run", exit_code=2)
    with Client(settings) as client:
        ids = [found.sandbox_id for found in client.list_sandboxes({}, 100_000)] if every else sandbox_ids
        outcome = {sandbox_id: client.kill(sandbox_id) for sandbox_id in ids}
    if as_json:
        print_json({"killed": [i for i, done in outcome.items() if done]})
    else:
        for sandbox_id in (i for i, done in outcome.items() if done):
            print(f"killed {sandbox_id}")
    missing = [] if every else [sandbox_id for sandbox_id, done in outcome.items() if not done]
    if missing:
        raise Failure(
            f"there is no sandbox {', '.join(missing)}",
            why="it has ended already, or the id is another server's",
            hint="`./atoll sandbox list` shows those that run",
        )


def plan_query(state: str, metadata: Mapping[str, str], template: str | None) -> dict[str, str]:
    """The API's filter. It wants metadata percent-encoded twice, and the query encodes it once more."""
    query = {"state": state}
    if metadata:
        query["metadata"] = urlencode({quote(k, safe=""): quote(v, safe="") for k, v in metadata.items()})
    if template is not None:
        query["template"] = template
    return query


def _row(info: SandboxInfo) -> list[str]:
    return [
        info.sandbox_id,
        info.alias or info.template_id,
        info.state,
        tell_time(info.started_at),
        tell_time(info.end_at),
        str(info.vcpu),
        str(info.memory_mb),
        tell_metadata(info.metadata),
    ]
