"""A settled process is not written to by using what it holds: shown in a process of its own."""

import subprocess
import sys
import textwrap

import pytest

_MORTAL_NONE = sys.version_info < (3, 12)


def _run(code: str) -> str:
    start = "import asyncio, gc, sys, weakref\nfrom atoll_guest.interpreter.settle import settle\n"
    done = subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_HOLDING = """
    class Thing:
        def __init__(self): self.name = "".join(["na", "me"])
        def method(self, argument=1_234_567): return [argument, "a constant text"]
    things = [Thing() for _ in range(3)]
    table = {"".join(["a ", "key"]): things, (1, 2): bytes(9)}
    code = Thing.method.__code__
    made = [Thing, Thing.method, code, code.co_consts, *code.co_consts[1:], code.co_linetable,
            code.co_varnames[1], things, things[1], things[1].name, table, *table, *table.values()]
    settle()
    print({sys.getrefcount(one) for one in made} == {sys.getrefcount(None)})
"""


@pytest.mark.skipif(_MORTAL_NONE, reason="this Python counts references to None")
def test_what_is_held_is_counted_no_more() -> None:
    assert _run(_HOLDING) == "True"


def test_what_is_made_afterwards_ends_as_ever() -> None:
    code = """
    class Thing: pass
    settle()
    one = Thing(); gone = weakref.ref(one); counted = sys.getrefcount(one); del one
    print(gone(), counted < 10)
    """
    assert _run(code) == "None True"


def test_what_ends_with_its_last_reference_still_does() -> None:
    code = """
    import socket
    def generator():
        try: yield 1
        finally: print("closed")
    running, ends = generator(), list(socket.socketpair())
    next(running)
    settle()
    del running
    del ends[0]
    print(ends[0].recv(1))
    """
    assert _run(code) == "closed\nb''"


def test_a_type_that_lies_about_itself_is_left_alone() -> None:
    code = """
    class Liar:
        @property
        def __class__(self): raise RuntimeError("never asked")
    liar, dead = Liar(), weakref.proxy(Liar())
    settle()
    print("lived", gc.get_freeze_count() > 1000)
    """
    assert _run(code) == "lived True"


def test_a_settled_process_works_on_and_ends_well() -> None:
    code = """
    import collections, json
    cache = collections.OrderedDict(a=1); cache["b"] = [2]
    async def main():
        settle()
        settle()
        cache.pop("b"); cache["c"] = "x" * 3; cache["c"] += "y"
        await asyncio.sleep(0)
        return json.dumps(cache)
    print(asyncio.run(main()))
    """
    assert _run(code) == '{"a": 1, "c": "xxxy"}'
