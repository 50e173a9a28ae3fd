"""Ctrl-C, a polite kill and a deadline, as one exception that unwinds what the command holds."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Not an ``Exception``, so that nothing on the way takes it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


class DeadlinePassed(BaseException):
    pass


@contextmanager
def interruptible() -> Generator[None]:
    """Inside, the signals that ask for an end raise :class:`Interrupted`. Main thread only."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Generator[None]:
    """Inside, such a signal waits; it is raised at the end. For a step that must be undone if it was done."""
    came: list[int] = []

    def keep(signum: int, frame: FrameType | None) -> None:
        came.append(signum)

    before = {number: signal.signal(number, keep) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Raises :class:`DeadlinePassed` inside once the time is over, whatever blocks."""

    def pass_(signum: int, frame: FrameType | None) -> None:
        raise DeadlinePassed

    before = signal.signal(signal.SIGALRM, pass_)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
