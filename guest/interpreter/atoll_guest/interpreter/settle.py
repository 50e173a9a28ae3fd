"""Makes a Python process ready for a snapshot that many clones share: what it holds is written no more.

Clones share the snapshot's pages until they write to them, and Python writes to an object whenever it is
used: a first `1 + 1` counted references on half of the pages it touched. Objects that live at the time of the
snapshot are made immortal, as `None` is (PEP 683; Cinder's `gc.immortalize_heap()` does the same for
processes that fork): they are neither counted nor freed again. Objects made later are as ever.
"""

import asyncio
import ctypes
import gc
import io
import socket
import sys
from collections.abc import Iterable
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType, TracebackType
from typing import Any

_ENDING = (
    FrameType,
    TracebackType,
    CoroutineType,
    GeneratorType,
    AsyncGeneratorType,
    asyncio.Future,
    io.IOBase,
    socket.socket,
    memoryview,
)
"""They stay mortal: their end does something, or frees much."""


def settle() -> None:
    """Collect garbage, give free memory back, and leave what remains alone from now on: reference counts
    (where the interpreter has immortal objects, 3.12 and later) and later collections do not touch it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    _immortalize()
    gc.freeze()


def _immortalize() -> None:
    mark = _count_of(None).value
    if mark < 1 << 31 or mark != sys.getrefcount(None):
        return  # an older interpreter, or one that counts elsewhere
    seen = set[int]()
    found: list[Any] = gc.get_objects()
    while found:
        seen.update((id(seen), id(found)))
        behind: list[Any] = []
        for one in found:
            if id(one) in seen or issubclass(type(one), _ENDING):
                continue
            seen.add(id(one))
            behind += _held_by(one)
            count = _count_of(one)
            if count.value < mark:
                count.value = mark
        found = behind


def _count_of(one: Any) -> ctypes.c_uint32:
    """The lower half of its reference count, which the interpreter looks at."""
    return ctypes.c_uint32.from_address(id(one))


def _held_by(one: Any) -> Iterable[Any]:
    """What the collector knows of, and what it need not know: keys that are strings, a code object's all."""
    if type(one) is CodeType:
        texts = (one.co_name, one.co_qualname, one.co_filename, one.co_linetable, one.co_exceptiontable)
        return (one.co_consts, one.co_names, *texts, *one.co_varnames, *one.co_cellvars, *one.co_freevars)
    held = gc.get_referents(one)
    if issubclass(type(one), dict):
        held += dict[Any, Any].keys(one)
    return held
