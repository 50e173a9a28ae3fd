"""Languages: their names on the wire, how each sets environment variables, how its kernel tells an error.
Pure.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ALIASES = {"": "python", "js": "javascript", "ts": "typescript"}
BUILT_IN = ("python", "javascript", "typescript", "r", "java", "bash")
_TRACEBACKS_WITH_LINE_ENDS = ("python", "javascript", "typescript", "bash")


def normalise(language: str | None) -> str:
    """The language's one name: lower case, trimmed, aliases resolved; none given is python."""
    name = (language or "").strip().lower()
    return _ALIASES.get(name, name)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Variables to set and to remove, in the kernel's process."""

    set: Mapping[str, str]
    remove: tuple[str, ...] = ()


def plan_undo(per_call: Mapping[str, str], base: Mapping[str, str]) -> Assignment:
    """What takes `per_call` back: a variable that `base` (start environment, global ones over it) has gets
    that value.
    """
    return Assignment(
        set={name: base[name] for name in per_call if name in base},
        remove=tuple(name for name in per_call if name not in base),
    )


def environment_code(language: str, assignment: Assignment) -> str:
    """Code that carries out `assignment` in that language; "" when the language has no way we know."""
    render = _RENDER.get(language)
    return "\n".join(render(assignment)) if render else ""


def _bash(assignment: Assignment) -> list[str]:
    quoted = {name: "'" + value.replace("'", "'\\''") + "'" for name, value in assignment.set.items()}
    return [f"export {name}={value}" for name, value in quoted.items()] + [
        f"unset {name}" for name in assignment.remove
    ]


def _javascript(assignment: Assignment) -> list[str]:
    set_lines = [
        f"process.env[{json.dumps(name)}] = {json.dumps(value)};" for name, value in assignment.set.items()
    ]
    return set_lines + [f"delete process.env[{json.dumps(name)}];" for name in assignment.remove]


def _r(assignment: Assignment) -> list[str]:
    set_lines = [f"Sys.setenv(`{name}` = {_r_string(value)})" for name, value in assignment.set.items()]
    return set_lines + [f"Sys.unsetenv({_r_string(name)})" for name in assignment.remove]


def _r_string(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _java(assignment: Assignment) -> list[str]:
    set_lines = [
        f"System.setProperty({json.dumps(name)}, {json.dumps(value)});"
        for name, value in assignment.set.items()
    ]
    return set_lines + [f"System.clearProperty({json.dumps(name)});" for name in assignment.remove]


_RENDER = {
    "bash": _bash,
    "javascript": _javascript,
    "typescript": _javascript,
    "r": _r,
    "java": _java,
}


def read_traceback(language: str, lines: Sequence[str]) -> str:
    """A kernel's traceback as one text; lines that lack their ends get them."""
    if language in _TRACEBACKS_WITH_LINE_ENDS:
        return "".join(lines)
    return "\n".join(line.removesuffix("\n") for line in lines)
