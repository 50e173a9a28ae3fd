"""The control API's HTTP skin: routes, bodies, errors; the contract is ``spec/openapi.yaml``.

``schema`` is the only place that knows wire field names. Decides nothing: every rule is ``control``'s. Served
on a unix socket behind the front door, so it never sees the network. May import ``control`` and below.
"""

from atolld.api.app import build_app

__all__ = ["build_app"]
