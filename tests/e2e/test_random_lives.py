"""Random lives on the real machine: calls that race, a server that is killed, and what each sandbox holds
afterwards.

`ATOLL_LIVES` says how many, of eight moments each; 2 without it.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from e2b import NotFoundException, Sandbox, SandboxException
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from server_process import ServerProcess

LIVES = int(os.environ.get("ATOLL_LIVES", "2"))
MARK = "mark.txt"
CALLS = ("pause", "doze", "connect", "reboot", "fork", "snapshot", "rollback", "kill")
pytestmark = [pytest.mark.machine, pytest.mark.timeout(300 + LIVES * 120)]


class Lives(RuleBasedStateMachine):
    def __init__(self, atoll: ServerProcess) -> None:
        super().__init__()
        self.atoll = atoll
        self.holds: dict[str, set[str]] = {}
        """What the file of each sandbox may say; one word, once it was read."""
        self.kept: dict[str, set[str]] = {}
        """What it may say in the snapshot that is called after the sandbox."""
        self.dying: set[str] = set()
        self.hands = ThreadPoolExecutor(4)

    @initialize()
    def begin(self) -> None:
        self.create()

    def teardown(self) -> None:
        self.look()
        for sandbox_id in self.holds:
            Sandbox.kill(sandbox_id)
        self.hands.shutdown()
        deadline = time.monotonic() + 30
        for sandbox_id in self.kept:
            while self._deletes(sandbox_id) is False:
                assert time.monotonic() < deadline, "a snapshot stays in use"
                time.sleep(0.1)
        while (deep := self.atoll.run("atolld", "doctor", "--deep", "--no-hashes")).returncode != 0:
            assert time.monotonic() < deadline, deep.stdout + deep.stderr
            time.sleep(1)

    def _deletes(self, sandbox_id: str) -> bool | None:
        try:
            return Sandbox.delete_snapshot(f"of-{sandbox_id}") or None
        except SandboxException:
            return False

    # -- what happens

    @rule()
    def create(self) -> None:
        sandbox = Sandbox.create("base", timeout=600)
        self.holds[sandbox.sandbox_id] = set()
        self._write(sandbox)

    @rule(which=st.randoms(use_true_random=False))
    def write(self, which: random.Random) -> None:
        with contextlib.suppress(NotFoundException):
            self._write(Sandbox.connect(which.choice(sorted(self.holds)), timeout=600))

    @rule(
        names=st.lists(st.sampled_from(CALLS), min_size=1, max_size=3),
        which=st.randoms(use_true_random=False),
    )
    def together(self, names: list[str], which: random.Random) -> None:
        self._set_off(names, which.choice(sorted(self.holds)), lambda: None)

    @rule(
        names=st.lists(st.sampled_from(CALLS), min_size=1, max_size=2),
        which=st.randoms(use_true_random=False),
    )
    def the_server_is_killed_meanwhile(self, names: list[str], which: random.Random) -> None:
        def kill() -> None:
            time.sleep(which.random() / 2)
            self.atoll.kill()
            self.atoll.start()

        self._set_off(names, which.choice(sorted(self.holds)), kill)

    @rule()
    def look(self) -> None:
        """What each holds: nothing was lost, nothing is of another."""
        for sandbox_id, may_be in self.holds.items():
            try:
                found = Sandbox.connect(sandbox_id, timeout=600).files.read(MARK)
            except NotFoundException:
                assert sandbox_id in self.dying
                continue
            assert found in may_be
            may_be.intersection_update({found})

    # -- what always holds

    @invariant()
    def each_is_in_one_state(self) -> None:
        listed = [entry.sandbox_id for entry in self._all()]
        assert len(listed) == len(set(listed))
        assert set(self.holds) - self.dying <= set(listed)

    # -- how

    def _write(self, sandbox: Sandbox) -> None:
        word = uuid.uuid4().hex
        sandbox.files.write(MARK, word)
        self.holds[sandbox.sandbox_id] = {word}

    def _set_off(self, names: list[str], target: str, meanwhile: Callable[[], None]) -> None:
        """Calls that race, any of which may be refused or cut off. What the file may say afterwards is what
        any order of them can make of it."""
        if "kill" in names:
            self.dying.add(target)
        may_be = self.holds[target] | (self.kept.get(target, set()) if "rollback" in names else set())
        if "snapshot" in names:
            self.kept[target] = self.kept.get(target, set()) | may_be
        self.holds[target] = may_be
        before = {entry.sandbox_id for entry in self._all()} if "fork" in names else set[str]()
        under_way: list[Future[object]] = [self.hands.submit(self._call, name, target) for name in names]
        meanwhile()
        for future in under_way:
            future.result()
        if "fork" in names:
            for entry in self._all():
                if entry.sandbox_id not in before:
                    self.holds[entry.sandbox_id] = set(may_be)

    def _all(self) -> list[Any]:
        pages, found = Sandbox.list(), list[Any]()
        while pages.has_next:
            found += pages.next_items()
        return found

    def _call(self, name: str, target: str) -> None:
        calls: dict[str, Callable[[], object]] = {
            "pause": lambda: Sandbox.pause(target),
            "doze": lambda: Sandbox.pause(target, mode="filesystem"),
            "connect": lambda: Sandbox.connect(target, timeout=600),
            "reboot": lambda: Sandbox.connect(target, timeout=600, on_resume="reboot"),
            "fork": lambda: Sandbox.fork(target, timeout=600, count=2),
            "snapshot": lambda: Sandbox.create_snapshot(target, name=f"of-{target}"),
            "rollback": lambda: self._roll_back(target),
            "kill": lambda: Sandbox.kill(target),
        }
        with contextlib.suppress(SandboxException, httpx.HTTPError):
            calls[name]()

    def _roll_back(self, target: str) -> None:
        httpx.post(
            f"{self.atoll.url}/sandboxes/{target}/rollback",
            json={"snapshotID": f"of-{target}"},
            headers={"X-API-Key": self.atoll.environ["E2B_API_KEY"]},
            timeout=60,
        )


def test_random_lives(atoll: ServerProcess) -> None:
    run_state_machine_as_test(
        lambda: Lives(atoll),  # type: ignore[arg-type]
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=8,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
            derandomize=True,
            print_blob=False,
        ),
    )
