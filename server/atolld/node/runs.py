"""A run: one container in one slot, from its making to its removal.

It is nobody's until it is given a sandbox's identity. Everything it holds hangs on its exit stack; unwinding
that removes all of it, in reverse.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from atolld.model.sandbox import Resources, SandboxId
from atolld.model.template import Build, StoredFile
from atolld.node.guest import GuestConnection
from atolld.node.records import Record, write_record
from atolld.node.runtime.protocol import ContainerSpec
from atolld.node.slots import Slot


@dataclass(slots=True, eq=False)
class Run:
    slot: Slot
    resources: Resources
    stack: AsyncExitStack
    timings_ms: dict[str, float] = field(default_factory=dict[str, float])
    connection: GuestConnection | None = None
    """Kept open to the daemon of a warm one: saves the handshake at the claim."""
    sandbox_id: SandboxId | None = None
    allow_internet: bool = True
    surroundings: str = ""
    """Digest of the surroundings that the daemon was told of."""
    build: Build | None = None
    """What it was restored from; ``None`` while a template is being built."""
    bases: tuple[StoredFile, ...] = ()
    """As in its record."""
    frozen: bool = False
    memory_mib: int | None = None
    """What a frozen one takes, as last measured."""
    paged_out: bool = False
    """Not in memory, for as long as it is frozen or idle."""
    spec: ContainerSpec | None = None

    @property
    def record(self) -> Record:
        return Record(
            self.slot.name,
            self.slot.index,
            self.sandbox_id,
            self.resources,
            self.allow_internet,
            self.frozen,
            self.bases,
        )

    def write_record(self) -> None:
        write_record(self.slot.directory, self.record)

    def drop_connection(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Stopwatch:
    """Milliseconds between the marks of one start, by name."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self.timings_ms[name] = (now - self._last) * 1000
        self._last = now
