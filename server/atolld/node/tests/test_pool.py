from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atolld.model.sandbox import Resources
from atolld.node.pool import Kind, plan_pool

A, B, C = (Kind(name, Resources()) for name in "abc")
kinds = st.sampled_from([A, B, C])


def test_what_is_missing_is_made_and_what_is_too_many_is_dropped() -> None:
    plan = plan_pool({A: 2, B: 1}, [A, B, B, C])
    assert plan.make == (A,)
    assert sorted(plan.drop) == [B, C]


def test_the_kind_that_lacks_most_comes_first() -> None:
    assert plan_pool({A: 1, B: 3}, []).make[0] == B


def test_a_blocked_kind_is_not_made() -> None:
    assert plan_pool({A: 1, B: 1}, [], {A}).make == (B,)


@given(st.dictionaries(kinds, st.integers(0, 5)), st.lists(kinds, max_size=20))
def test_doing_what_the_plan_says_reaches_the_targets(targets: dict[Kind, int], waiting: list[Kind]) -> None:
    plan = plan_pool(targets, waiting)
    after = [*waiting, *plan.make]
    for kind in plan.drop:
        after.remove(kind)
    assert {kind: after.count(kind) for kind in {*targets, *after}} == {
        kind: targets[kind] for kind in targets
    }
    assert not set(plan.make) & set(plan.drop)
