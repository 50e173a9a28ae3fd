"""The same small table of languages through each published SDK: the asynchronous one and JavaScript's.

The synchronous one has the whole table in `test_interpreter_languages.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import cast

import pytest
from e2b import TimeoutException
from e2b_code_interpreter import AsyncSandbox, Sandbox

from atoll_guest.interpreter.tests.table import RICH, TABLE
from npm_packages import install
from server_process import ServerProcess

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300)]

SOURCE = Path(__file__).parent / "js"


async def test_every_language_through_the_asynchronous_sdk(interpreter: Sandbox) -> None:
    sandbox = cast("AsyncSandbox", await AsyncSandbox.connect(interpreter.sandbox_id))
    for row in TABLE:
        language = row.language
        lines: list[str] = []
        hello = await sandbox.run_code(
            row.hello,
            language=language,
            timeout=100,
            on_stdout=lambda message, to=lines: to.append(message.line),
        )
        assert (hello.error, "".join(lines)) == (None, "hällo 🎈\n"), language
        if row.two:
            two = (await sandbox.run_code(row.two, language=language)).text
            assert (two or "").removeprefix("[1] ") == "2", language
        error = (await sandbox.run_code(row.throw, language=language)).error
        assert error is not None
        assert (error.name, row.error[1] in error.value) == (row.error[0], True), language
        for name, code in row.rich.items():
            (result,) = (await sandbox.run_code(code, language=language)).results
            found, wanted = result[name], RICH[name]
            assert found == wanted or str(found).startswith(str(wanted)), (language, name)
        variable = await sandbox.run_code(row.variable, language=language, envs={"V": "é"})
        assert "".join(variable.logs.stdout) == "é\n", language


def test_every_language_through_javascripts_sdk(
    interpreter: Sandbox, atoll: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "table.json").write_text(
        json.dumps({"rows": [dataclasses.asdict(row) for row in TABLE], "rich": RICH})
    )
    folder = install("js-sdk", SOURCE)
    shutil.copy(SOURCE / "languages.test.mjs", folder)
    ran = subprocess.run(
        ["node", "--test", "languages.test.mjs"],
        cwd=folder,
        env={**atoll.environ, "TABLE": str(tmp_path / "table.json"), "SANDBOX": interpreter.sandbox_id},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


async def test_the_asynchronous_sdk_works_the_same(interpreter: Sandbox) -> None:
    sandbox = await AsyncSandbox.create(timeout=120, envs={"OF_CREATE": "here"})
    try:
        lines: list[str] = []
        execution = await sandbox.run_code(
            "import os\nprint('one'); print('two')\nos.environ['OF_CREATE']",
            on_stdout=lambda message: lines.append(message.line),
        )
        assert ("".join(lines), execution.text) == ("one\ntwo\n", "here")
        error = (await sandbox.run_code("1/0")).error
        assert error is not None
        assert error.name == "ZeroDivisionError"
        first, second = await asyncio.gather(*(sandbox.create_code_context() for _ in range(2)))
        begin = time.monotonic()
        await asyncio.gather(
            *(sandbox.run_code("import time; time.sleep(1)", context=c) for c in (first, second))
        )
        assert time.monotonic() - begin < 1.9
        with pytest.raises(TimeoutException):
            await sandbox.run_code("while True: pass", context=first, timeout=1)
        assert (await sandbox.run_code("40 + 2", context=first)).text == "42"
        chart = (
            await sandbox.run_code("import matplotlib.pyplot as plt\nplt.bar(['a'], [1]); plt.show()")
        ).results[0]
        assert chart.chart.type.value == "bar"  # type: ignore[union-attr]
    finally:
        await sandbox.kill()
