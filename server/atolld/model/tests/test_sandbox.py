"""The transition table, walked by a machine that knows only what must always be true of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from atolld.model.sandbox import (
    ASLEEP,
    SETTLED,
    TRANSITIONS,
    UP,
    USING_QUOTA,
    Event,
    State,
    new_sandbox_id,
    parse_sandbox_id,
    transition,
)


class Life(RuleBasedStateMachine):
    """``memory`` and ``disk``: whether a running guest, or a snapshot that can be resumed, exists."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State.STARTING
        self.memory = False
        self.disk = False
        self.killed = 0

    @rule(event=st.sampled_from(Event))
    def happen(self, event: Event) -> None:
        following = transition(self.state, event)
        if following is None:
            return
        if event in (Event.STARTED, Event.RESUME_DONE):
            self.memory, self.disk = True, False
        elif event is Event.PAUSE_DONE:
            self.memory, self.disk = False, True
        elif event is Event.KILL_DONE:
            self.memory, self.disk = False, False
            self.killed += 1
        self.state = following

    @invariant()
    def what_runs_is_up_and_what_sleeps_has_a_snapshot(self) -> None:
        if self.state in UP:
            assert self.memory
        if self.state in (State.PAUSED, State.RESUMING):
            assert self.disk

    @invariant()
    def it_dies_once_and_for_good(self) -> None:
        assert self.killed == (self.state is State.KILLED)
        if self.state is State.KILLED:
            assert all(transition(self.state, event) is None for event in Event)

    @invariant()
    def it_can_always_be_killed(self) -> None:
        if self.state not in (State.KILLING, State.KILLED):
            assert transition(self.state, Event.KILL) is State.KILLING


TestLife = Life.TestCase


def test_the_table_is_total_and_every_state_is_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    reached = {State.STARTING} | {state for row in TRANSITIONS.values() for state in row.values()}
    assert reached == set(State)


def test_no_state_is_a_dead_end_but_the_last() -> None:
    assert {state for state, row in TRANSITIONS.items() if not row} == {State.KILLED}


def test_the_groups_of_states_fit_together() -> None:
    assert not UP & ASLEEP
    assert UP <= USING_QUOTA
    assert not SETTLED & USING_QUOTA
    assert frozenset(State) == UP | ASLEEP | {State.STARTING, State.KILLING, State.KILLED}


def test_new_ids_are_what_a_host_name_takes() -> None:
    for _ in range(100):
        sandbox_id = new_sandbox_id()
        assert len(sandbox_id) == 21
        assert sandbox_id.startswith("i")
        assert parse_sandbox_id(sandbox_id) == sandbox_id
        assert parse_sandbox_id(f"{sandbox_id}-client") == sandbox_id


@given(st.text())
def test_what_is_parsed_as_an_id_is_one(text: str) -> None:
    parsed = parse_sandbox_id(text)
    if parsed is not None:
        assert parsed == text.split("-")[0]
        assert parsed.isascii()
        assert parsed.isalnum()
        assert parsed == parsed.lower()
        assert text.count("-") <= 1
