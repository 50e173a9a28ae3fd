"""What can go wrong, said so that the reader knows whose fault it is and what to do next.

``code`` is the HTTP status the API answers with, ``error_code`` the optional open word of the wire
(`spec/`). A message ends with what to do next where there is something to do.
"""

from __future__ import annotations

from typing import ClassVar


class AtollError(Exception):
    """Base of every error we raise on purpose; its text is shown to the caller as it is."""

    code: ClassVar[int] = 500
    error_code: str | None = None

    def __init__(self, message: str, *, error_code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if error_code is not None:
            self.error_code = error_code


class InvalidRequest(AtollError):
    """The caller's request cannot mean anything."""

    code = 400


class Unauthorized(AtollError):
    """No key, or a key we do not know."""

    code = 401


class Forbidden(AtollError):
    code = 403


class NotFound(AtollError):
    code = 404


class Conflict(AtollError):
    """The sandbox is in a state that does not allow this."""

    code = 409


class Unprocessable(AtollError):
    """The request contradicts an earlier one."""

    code = 422


class TooMany(AtollError):
    """A quota of the team is used up."""

    code = 429


class HostError(AtollError):
    """This machine could not do its part: a tool failed, a kernel feature is missing."""

    code = 500
    error_code = "sandbox_create_failed"


class CapacityUnavailable(AtollError):
    """The machine is full; the same request may succeed later."""

    code = 503
    error_code = "sandbox_capacity_unavailable"


class PlacementTimeout(CapacityUnavailable):
    """The machine was too busy for too long; nothing was begun."""

    code = 504
    error_code = "sandbox_placement_timeout"


class GuestBusy(AtollError):
    """The daemon inside does not answer now, and the caller wanted to be sure that it does."""

    code = 503


class BootUnconfirmed(AtollError):
    """A sandbox was booted from its files, and its service did not come up."""

    code = 503
    error_code = "sandbox_filesystem_boot_unconfirmed"


class BuildDamaged(AtollError):
    """A build's files are not what its manifest says. Never restored."""

    code = 500
    error_code = "template_build_damaged"


class GuestUnresponsive(AtollError):
    """The daemon inside the sandbox does not answer."""

    code = 500
    error_code = "sandbox_create_failed"
