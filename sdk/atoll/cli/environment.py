"""`env`: what the published SDKs and command line read from the environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from atoll.cli.output import print_json
from atoll.cli.settings import KEY_NAME, Settings, read_credentials

NAMES = (KEY_NAME, "E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN")


def variables(settings: Settings) -> dict[str, str]:
    """For the server of this machine, whatever the environment says now. Raises :class:`Failure`."""
    return {
        KEY_NAME: read_credentials(settings.credentials),
        "E2B_API_URL": settings.local_url,
        "E2B_SANDBOX_URL": settings.local_url,
        "E2B_DOMAIN": settings.domain,
    }


def export_lines(values: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def print_environment(settings: Settings, unset: bool, as_json: bool) -> None:
    if unset:
        print("unset " + " ".join(NAMES))
    elif as_json:
        print_json(variables(settings))
    else:
        print(export_lines(variables(settings)), end="")
