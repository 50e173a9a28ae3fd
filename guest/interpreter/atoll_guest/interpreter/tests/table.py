"""Language × behaviour: the code of each; what is expected of it is the same for all, but `error`.

Used here with the kernels of this machine, and end to end with those of the template.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """Code per behaviour; what is expected is the same for all languages but `error`."""

    language: str
    two: str
    hello: str
    both: str
    define: str
    use: str
    throw: str
    error: tuple[str, str]
    forever: str
    variable: str
    large: str
    slow: str
    die: str
    rich: Mapping[str, str] = field(default_factory=dict[str, str])
    """Field of the result → code that displays it; see RICH for what is expected."""


RICH: dict[str, object] = {"png": "iVBORw0KGgo", "html": "<b>h</b>", "json": {"a": [1]}}
"""What the results' fields are; a picture's is only how its base64 begins."""


TABLE = [
    Row(
        "python",
        two="1+1",
        hello="print('hällo 🎈')",
        both="import sys\nprint('out')\nprint('err', file=sys.stderr)",
        define="x = 41",
        use="print(x + 1)",
        throw="raise ValueError('bad')",
        error=("ValueError", "bad"),
        forever="while True: pass",
        variable="import os; print(os.environ.get('V', 'gone'))",
        large="for _ in range(1000): print('x' * 9999)",
        slow="import time\nprint('one'); time.sleep(0.4); print('two')",
        die="import os; os._exit(3)",
        rich={
            "png": "from PIL import Image; Image.new('RGB', (2, 2))",
            "html": "from IPython.display import HTML; HTML('<b>h</b>')",
            "json": "{'a': [1]}",
        },
    ),
    Row(
        "javascript",
        two="1+1",
        hello="console.log('hällo 🎈')",
        both="console.log('out'); console.error('err')",
        define="const x = 41",
        use="console.log(x + 1)",
        throw="throw new RangeError('bad')",
        error=("RangeError", "bad"),
        forever="while (true) {}",
        variable="console.log(process.env.V ?? 'gone')",
        large="for (let i = 0; i < 1000; i++) console.log('x'.repeat(9999))",
        slow="console.log('one'); await new Promise(r => setTimeout(r, 400)); console.log('two')",
        die="process.exit(3)",
        rich={
            "png": "$$.png('iVBORw0KGgo=')",
            "html": "$$.html('<b>h</b>')",
            "json": "$$.json({ a: [1] })",
        },
    ),
    Row(
        "typescript",
        two="(1+1) as number",
        hello="console.log('hällo 🎈' as string)",
        both="console.log('out'); console.error('err')",
        define="const x: number = 41",
        use="console.log(x + 1)",
        throw="throw new RangeError('bad')",
        error=("RangeError", "bad"),
        forever="while (true) {}",
        variable="console.log(process.env.V ?? 'gone')",
        large="for (let i: number = 0; i < 1000; i++) console.log('x'.repeat(9999))",
        slow="console.log('one'); await new Promise(r => setTimeout(r, 400)); console.log('two')",
        die="process.exit(3 as number)",
        rich={
            "png": "$$.png('iVBORw0KGgo=' as string)",
            "html": "({ _toHtml: (): string => '<b>h</b>' })",
            "json": "$$.mime({ 'application/json': { a: [1] as number[] } })",
        },
    ),
    Row(
        "bash",
        two="",
        hello="echo 'hällo 🎈'",
        both="echo out; echo err >&2",
        define="x=41; f() { echo $((x + 1)); }; cd /",
        use="f",
        throw="no_such_command",
        error=("ExitStatus", "127"),
        forever="while :; do :; done",
        variable="echo ${V-gone}",
        large="for i in $(seq 1000); do printf '%09999d\\n' 0; done",
        slow="echo one; sleep 0.4; echo two",
        die="kill -9 $PPID",
    ),
    Row(
        "r",
        two="1+1",
        hello="cat('hällo 🎈\\n')",
        both="cat('out\\n'); message('err')",
        define="x <- 41",
        use="cat(x + 1, '\\n', sep='')",
        throw="stop('bad')",
        error=("ERROR", "bad"),
        forever="while (TRUE) {}",
        variable="cat(Sys.getenv('V', 'gone'), '\\n', sep='')",
        large="for (i in 1:1000) cat(strrep('x', 9999), '\\n', sep='')",
        slow="cat('one\\n'); flush.console(); Sys.sleep(0.4); cat('two\\n')",
        die="tools::pskill(Sys.getpid(), 9)",
        rich={
            "png": "plot(1:3)",
            "html": "IRdisplay::display_html('<b>h</b>')",
            "json": "IRdisplay::display_json('{\"a\": [1]}')",
        },
    ),
    Row(
        "java",
        two="1+1",
        hello='System.out.println("hällo 🎈");',
        both='System.out.println("out"); System.err.println("err");',
        define="int x = 41;",
        use="System.out.println(x + 1);",
        throw='throw new IllegalStateException("bad");',
        error=("IllegalStateException", "bad"),
        forever="while (true) {}",
        variable='System.out.println(System.getProperty("V", "gone"));',
        large='for (int i = 0; i < 1000; i++) System.out.println("x".repeat(9999));',
        slow='System.out.println("one"); Thread.sleep(400); System.out.println("two");',
        die="Runtime.getRuntime().halt(3);",
        rich={
            "png": "new java.awt.image.BufferedImage(2, 2, java.awt.image.BufferedImage.TYPE_INT_RGB)",
            "html": 'render("<b>h</b>", "text/html")',
            "json": 'render("{\\"a\\": [1]}", "application/json")',
        },
    ),
]
