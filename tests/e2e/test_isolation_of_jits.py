"""Programs whose compilers write code while they run, in clones that share pages: Node's and Java's, which
check what they compute, go on rightly over forks, forks of forks and a resume, and in all at once.

``ATOLL_STRESS_SECONDS``: how long they run in all, 12 unless told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

import pytest
from e2b_code_interpreter import Sandbox

SECONDS = float(os.environ.get("ATOLL_STRESS_SECONDS") or 12)
_STAGES = 4
_LIFE = int(SECONDS * 2 + 600)

pytestmark = [pytest.mark.machine, pytest.mark.timeout(SECONDS * 2 + 300)]

_NODE = """
const fs = require("fs");
const tell = (name, text) => {
  fs.writeFileSync("/tmp/node.new", text);
  fs.renameSync("/tmp/node.new", "/tmp/node." + name);
};
const held = Array.from({length: 64}, (_, n) => new Int32Array(16384).fill(n));
for (let round = 1; ; round++) {
  // A new function each time: it is interpreted, compiled, and thrown away when a type changes under it.
  const [a, b] = [round % 97 + 3, round % 31 + 1];
  const loop = `let s = 0; for (let i = 0; i < n; i++) s = (s * ${a} + of(i) ^ ${b}) | 0; return s`;
  const hot = new Function("n", "of", loop);
  const found = [i => i, i => i + 0.5 - 0.5, i => String(i)].map(of => hot(20000, of));
  const right = [0, 0, 0];
  for (let i = 0; i < 20000; i++) {
    right[0] = (right[0] * a + i ^ b) | 0;
    right[2] = (right[2] * a + String(i) ^ b) | 0;
  }
  right[1] = right[0];
  const block = held[round % 64], mark = block[0];
  if (String(found) !== String(right) || !block.every(one => one === mark))
    tell("wrong", `round ${round}: ${found}, not ${right}; ${block}`);
  block.fill(round);
  tell("rounds", String(round));
}
"""

_JAVA = """
import java.nio.file.*;
import java.util.function.*;
public class Jit {
  static long plainly(int n, int a, int b) {
    long s = 0;
    for (int i = 0; i < n; i++) s = s * a + (i ^ b);
    return s;
  }
  static long through(int n, LongBinaryOperator step) {
    long s = 0;
    for (int i = 0; i < n; i++) s = step.applyAsLong(s, i);
    return s;
  }
  static void tell(String name, String text) throws Exception {
    Files.writeString(Path.of("/tmp/java.new"), text);
    Files.move(Path.of("/tmp/java.new"), Path.of("/tmp/java." + name), StandardCopyOption.REPLACE_EXISTING);
  }
  public static void main(String[] none) throws Exception {
    int[][] held = new int[64][16384];
    for (int round = 1; ; round++) {
      final int a = round % 97 + 3, b = round % 31 + 1;
      // Each of these makes the call in `through` another: what was compiled for the last is thrown away.
      LongBinaryOperator[] steps = { (s, i) -> s * a + (i ^ b), new LongBinaryOperator() {
        public long applyAsLong(long s, long i) { return s * a + (i ^ b); } },
        (s, i) -> Math.addExact(0, s * a) + (i ^ b) };
      for (LongBinaryOperator step : steps)
        if (through(50000, step) != plainly(50000, a, b)) tell("wrong", "round " + round);
      int[] block = held[round % 64];
      for (int one : block) if (one != block[0]) tell("wrong", "memory, round " + round);
      java.util.Arrays.fill(block, round);
      tell("rounds", String.valueOf(round));
    }
  }
}
"""
_PROGRAMS = ("node", "java")


def _rounds(sandbox: Sandbox) -> list[int]:
    wrong = sandbox.commands.run("cat /tmp/*.wrong 2>/dev/null || true").stdout
    assert wrong == "", f"{sandbox.sandbox_id}: {wrong}"
    counted = sandbox.commands.run(
        "; ".join(f"echo $(cat /tmp/{name}.rounds || echo 0)" for name in _PROGRAMS)
    )
    return [int(line) for line in counted.stdout.split()]


def _look(sandbox: Sandbox) -> str:
    return sandbox.commands.run("ps aux; tail -n 20 /tmp/*.log").stdout


def _watch(sandboxes: Sequence[Sandbox], seconds: float) -> None:
    """Fails where a program computed wrongly, or got no further."""
    before = [_rounds(sandbox) for sandbox in sandboxes]
    time.sleep(seconds)
    deadline = time.monotonic() + 60
    for sandbox, least in zip(sandboxes, before, strict=True):
        while any(now <= then for now, then in zip(_rounds(sandbox), least, strict=True)):
            assert time.monotonic() < deadline, f"stands still at {least}: {_look(sandbox)}"
            time.sleep(0.2)


@pytest.fixture
def source() -> Iterator[Sandbox]:
    sandbox = Sandbox.create(timeout=_LIFE)
    sandbox.files.write("/tmp/jit.js", _NODE)
    sandbox.files.write("/tmp/Jit.java", _JAVA)
    for start in ("node --max-old-space-size=128 /tmp/jit.js", "java -Xmx128m /tmp/Jit.java"):
        sandbox.commands.run(f"exec {start} > /tmp/{start[:4]}.log 2>&1", background=True, timeout=0)
    deadline = time.monotonic() + 60
    while not all(_rounds(sandbox)):
        assert time.monotonic() < deadline, _look(sandbox)
        time.sleep(0.5)
    yield sandbox
    sandbox.kill()


def _forks(sandbox: Sandbox, count: int) -> list[Sandbox]:
    forks = [it for it in sandbox.fork(count=count, timeout=_LIFE) if isinstance(it, Sandbox)]
    assert len(forks) == count
    return forks


def test_compiled_code_is_each_clones_own(source: Sandbox) -> None:
    made = _forks(source, 2)
    try:
        _watch([source, *made], SECONDS / _STAGES)
        source.kill()
        made += _forks(made[0], 1)
        _watch(made, SECONDS / _STAGES)
        assert made[1].pause()
        resumed = Sandbox.connect(made[1].sandbox_id, timeout=_LIFE)
        assert isinstance(resumed, Sandbox)
        made[1] = resumed
        made += _forks(made[-1], 1)
        _watch(made, SECONDS / _STAGES)
        _watch([made[-1]], SECONDS / _STAGES)
    finally:
        for each in made:
            each.kill()
