"""`env`: what the published SDKs and command line read from the environment.

By URLs over plain HTTP, or by the domain over https, which is how they reach E2B itself.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from atoll.cli.failures import Failure
from atoll.cli.output import print_json
from atoll.cli.settings import KEY_NAME, Settings, read_credentials

URL_NAMES = ("E2B_API_URL", "E2B_SANDBOX_URL")
NAMES = (KEY_NAME, *URL_NAMES, "E2B_DOMAIN")
BUNDLE_NAMES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
"""Python and whatever uses OpenSSL, requests, Node. The machine may have values of its own: the bundle holds
what those named, so it may replace them, but `--unset` leaves them alone."""


def variables(settings: Settings) -> dict[str, str]:
    """For the server of this machine, whatever the environment says now. Raises :class:`Failure`."""
    return {
        KEY_NAME: read_credentials(settings.credentials),
        "E2B_API_URL": settings.local_url,
        "E2B_SANDBOX_URL": settings.local_url,
        "E2B_DOMAIN": settings.domain,
    }


def domain_variables(settings: Settings) -> dict[str, str]:
    """The same by https. Raises :class:`Failure` when the server does not serve it."""
    key = read_credentials(settings.credentials)
    announcement = settings.home / "run" / "tls.json"
    try:
        said = json.loads(announcement.read_text())
    except (OSError, ValueError):
        raise Failure(
            "https is not served on this machine",
            why=f"no server runs, or it could not open https ({announcement} is missing)",
            hint=f"start `./atoll serve`; {settings.log} says why https was left out, if it was",
        ) from None
    bundle: str | None = said["bundle"]
    return {
        KEY_NAME: key,
        "E2B_DOMAIN": said["domain"],
        **(dict.fromkeys(BUNDLE_NAMES, bundle) if bundle else {}),
    }


def export_lines(values: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def print_environment(settings: Settings, by_domain: bool, unset: bool, as_json: bool) -> None:
    values = {} if unset else domain_variables(settings) if by_domain else variables(settings)
    if unset:
        print("unset " + " ".join(NAMES))
    elif as_json:
        print_json(values)
    else:
        print(export_lines(values), end="")
        if by_domain:
            print("unset " + " ".join(URL_NAMES))
