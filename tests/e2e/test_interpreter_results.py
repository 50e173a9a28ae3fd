"""Results: every format, what draws pictures and tables, charts as data; through the published SDK."""

from __future__ import annotations

import base64
import json

import pytest
from e2b_code_interpreter import Sandbox
from e2b_code_interpreter.charts import BarChart, LineChart, SuperChart

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300)]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SHOWN: list[tuple[str, dict[str, object]]] = [
    ("'text'", {"text": "text"}),
    ("1 + 1", {"text": "2"}),
    ("d.HTML('<b>')", {"html": "<b>"}),
    ("d.Markdown('*m*')", {"markdown": "*m*"}),
    ("d.SVG('<svg/>')", {"svg": "<svg/>"}),
    (f"d.Image(base64.b64decode('{PNG}'))", {"png": PNG}),
    ("d.Image(b'\\xff\\xd8\\xff', format='jpeg')", {"jpeg": "/9j/"}),
    ("d.display({'application/pdf': 'aGk='}, raw=True)", {"pdf": "aGk="}),
    ("d.Latex('$x$')", {"latex": "$x$"}),
    ("d.Math('x')", {"latex": r"$\displaystyle x$"}),
    ("d.JSON({'a': [1]})", {"json": {"a": [1]}}),
    ("d.Javascript('1')", {"javascript": "1"}),
    ("{'a': [1, float('nan'), float('inf')], 2: None}", {"json": {"a": [1, None, None], "2": None}}),
    ("[1, 'x']", {"json": [1, "x"], "text": "[1, 'x']"}),
    ("d.display({'x/y': {'a': 1}}, raw=True)", {"extra": {"x/y": {"a": 1}}}),
    (
        "pandas.DataFrame({'t': pandas.to_datetime(['2024-01-02', None]), 'n': [1.5, float('nan')]})",
        {"data": {"t": ["2024-01-02T00:00:00", None], "n": [1.5, None]}},
    ),
    ("pandas.Series([1, 2], name='s')", {"text": "0    1\n1    2\nName: s, dtype: int64"}),
    ("sympy.Symbol('x') ** 2", {"latex": r"$\displaystyle x^{2}$"}),
    ("Of('_repr_html_', '<b>')", {"html": "<b>"}),
    ("Of('_repr_markdown_', '*')", {"markdown": "*"}),
    ("Of('_repr_svg_', '<svg/>')", {"svg": "<svg/>"}),
    ("Of('_repr_png_', b'hi')", {"png": "aGk="}),
    ("Of('_repr_jpeg_', b'hi')", {"jpeg": "aGk="}),
    ("Of('_repr_pdf_', b'hi')", {"pdf": "aGk="}),
    ("Of('_repr_latex_', '$x$')", {"latex": "$x$"}),
    ("Of('_repr_json_', {'a': 1})", {"json": {"a": 1}}),
    ("Of('_repr_javascript_', '1')", {"javascript": "1"}),
    ("Of('_repr_mimebundle_', {'text/html': '<i>', 'x/y': 1})", {"html": "<i>", "extra": {"x/y": 1}}),
    ("Of('_repr_html_', None)", {"html": None}),
]
PREPARE = """
import base64, pandas, sympy, IPython.display as d
class Of:
    "One method of that name."
    def __new__(cls, name, value):
        return object.__new__(type("Of", (), {name: lambda self, **_: value}))
"""


@pytest.fixture(scope="module")
def prepared(interpreter: Sandbox) -> Sandbox:
    assert interpreter.run_code(PREPARE).error is None
    return interpreter


@pytest.mark.parametrize(("code", "fields"), SHOWN, ids=[code[:30] for code, _ in SHOWN])
def test_each_value_has_its_fields(prepared: Sandbox, code: str, fields: dict[str, object]) -> None:
    execution = prepared.run_code(code)
    assert execution.error is None, execution.error
    (result,) = execution.results
    json.dumps({**vars(result), "chart": None}, allow_nan=False)
    assert {name: getattr(result, name) for name in fields} == fields


def test_a_repr_that_fails_is_told_and_the_value_still_shown(prepared: Sandbox) -> None:
    code = "class Bad:\n  def _repr_html_(self): 1/0\n  def __repr__(self): return 'bad'\nBad()"
    execution = prepared.run_code(code)
    assert execution.text == "bad"
    assert execution.error is not None
    assert execution.error.name == "ZeroDivisionError"


PICTURES: list[tuple[str, list[str]]] = [
    ("plt.plot([1, 2]); plt.show()", ["line"]),
    ("plt.plot([1, 2]); plt.show(); plt.bar(['a', 'b'], [1, 2]); plt.show()", ["line", "bar"]),
    ("plt.plot([1, 2]); plt.show(); plt.show()", ["line"]),
    ("plt.plot([1, 2]); plt.close()", []),
    ("plt.plot([1, 2]); plt.savefig('/tmp/a.png'); plt.close('all')", []),
    ("x = plt.figure(); plt.plot([1, 2]); y = plt.figure(); plt.pie([1, 2]); None", ["line", "pie"]),
    ("fig, ax = plt.subplots(); ax.scatter([1], [2]); None", ["scatter"]),
    ("fig, ax = plt.subplots(); ax.plot([1, 2]); plt.close(fig); fig", ["line"]),
    ("plt.plot([1, 2]); 1/0", []),
    ("fig, (a, b) = plt.subplots(1, 2); a.plot([1, 2]); b.bar(['x', 'y'], [1, 2])", ["superchart"]),
    ("sns.lineplot(x=[1, 2], y=[3, 4])", ["line"]),
    ("sns.scatterplot(x=[1, 2], y=[3, 4])", ["scatter"]),
    ("sns.barplot(x=['a', 'b'], y=[3, 4])", ["bar"]),
    ("sns.boxplot(x=['a', 'a', 'a'], y=[3, 4, 5])", ["box_and_whisker"]),
    ("sns.histplot([1, 1, 2])", ["bar"]),
    ("sns.heatmap([[1, 2], [3, 4]])", ["unknown"]),
    ("sns.countplot(x=['a', 'b', 'a'])", ["bar"]),
    ("pandas.DataFrame({'a': [1, 2]}).plot()", ["line"]),
    ("pandas.DataFrame({'a': [1, 2]}, index=['p', 'q']).plot.pie(y='a')", ["pie"]),
    ("pandas.DataFrame({'a': [1, 2, 9]}).boxplot()", ["box_and_whisker"]),
]


@pytest.mark.parametrize(("code", "types"), PICTURES, ids=[code[:50] for code, _ in PICTURES])
def test_figures_are_shown_as_in_a_notebook(prepared: Sandbox, code: str, types: list[str]) -> None:
    execution = prepared.run_code(f"import matplotlib.pyplot as plt, seaborn as sns\n{code}")
    shown = [result for result in execution.results if result.png]
    if "1/0" in code:
        # ipykernel shows what was open after an error as well.
        shown, _ = [], prepared.run_code("plt.close('all')")
    assert [result.chart.type.value for result in shown if result.chart] == types
    assert all(base64.b64decode(result.png or "").startswith(b"\x89PNG") for result in shown)


def test_a_figure_with_subplots_holds_their_charts(prepared: Sandbox) -> None:
    code = "import matplotlib.pyplot as plt\nfig, (a, b) = plt.subplots(1, 2)\na.plot([1, 2]); b.pie([1, 1])"
    (result,) = [result for result in prepared.run_code(code).results if result.png]
    assert isinstance(result.chart, SuperChart)
    assert [chart.type.value for chart in result.chart.elements] == ["line", "pie"]


def test_kinds_beyond_the_schema_are_extra_and_unknown_to_old_clients(prepared: Sandbox) -> None:
    code = "import matplotlib.pyplot as plt\nplt.imshow([[1, 2], [3, float('nan')]]); plt.show()"
    (result,) = prepared.run_code(code).results
    assert result.chart.type.value == "unknown"  # type: ignore[union-attr]
    (element,) = (result.extra or {})["chart/heatmap"]["elements"]
    assert element["values"] == [[1, 2], [3, None]]


def test_pictures_of_pil_are_shown_when_saved_shown_or_last(prepared: Sandbox) -> None:
    code = "from PIL import Image\nim = Image.new('RGB', (2, 2))\nim.save('/tmp/a.png'); im.show()\nim"
    pngs = [base64.b64decode(result.png or "") for result in prepared.run_code(code).results]
    assert [png[:4] for png in pngs] == [b"\x89PNG"] * 3


def test_bokeh_is_html(prepared: Sandbox) -> None:
    code = (
        "from bokeh.plotting import figure\nfrom bokeh.embed import file_html\n"
        "p = figure(); p.line([1, 2], [3, 4]); d.HTML(file_html(p))"
    )
    assert "bokeh" in (prepared.run_code(code).results[-1].html or "")


def test_a_result_of_a_hundred_megabytes_streams_through(interpreter: Sandbox) -> None:
    code = "from IPython.display import HTML\nHTML('x' * 100_000_000)"
    (result,) = interpreter.run_code(code, timeout=200).results
    assert len(result.html or "") == 100_000_000


def test_a_result_over_the_limit_is_refused_with_size_and_limit(interpreter: Sandbox) -> None:
    code = "from IPython.display import HTML\nkept = 7\nHTML('x' * 150_000_000)"
    error = interpreter.run_code(code, timeout=200).error
    assert error is not None
    assert error.name == "ResultTooLarge"
    assert "143.1 MiB" in error.value
    assert "128 MiB" in error.value
    assert interpreter.run_code("kept").text == "7"


def test_plotly_figures_are_charts(interpreter: Sandbox) -> None:
    code = (
        "import plotly.express as px\n"
        "px.bar(x=['a', 'b'], y=[1, 2.5], title='T', labels={'x': 'name', 'y': 'n (kg)'})"
    )
    result = interpreter.run_code(code).results[-1]
    assert isinstance(result.chart, BarChart)
    assert (result.chart.title, result.chart.y_unit) == ("T", "kg")
    assert [(e.label, e.value) for e in result.chart.elements] == [("a", 1), ("b", 2.5)]
    code = (
        "import plotly.graph_objects as go, numpy\n"
        "go.Figure(go.Scatter(x=numpy.arange(3), y=numpy.arange(3) / 2)).show()"
    )
    result = interpreter.run_code(code).results[-1]
    assert isinstance(result.chart, LineChart)
    assert result.chart.elements[0].points == [(0, 0), (1, 0.5), (2, 1)]
    assert "application/vnd.plotly.v1+json" in (result.extra or {})


def test_altair_charts_are_charts(interpreter: Sandbox) -> None:
    code = (
        "%pip install -q altair\nimport altair, pandas\n"
        "altair.Chart(pandas.DataFrame({'c': ['a', 'b'], 'n': [1, 2]})).mark_bar().encode(x='c', y='n')"
    )
    execution = interpreter.run_code(code, timeout=200)
    assert execution.error is None, execution.error
    chart = execution.results[-1].chart
    assert isinstance(chart, BarChart)
    assert [(e.label, e.value) for e in chart.elements] == [("a", 1), ("b", 2)]
