"""matplotlib Figure → chart data (the `chart` of a result). Reads the figure, never changes it, imports
matplotlib late.

`extract_chart` is the door: one chart per axes, several axes make a superchart. Keys and rules: the
interpreter's wire sheet, "Chart schema".
"""

from .figure import extract_chart, extract_extras

__all__ = ["extract_chart", "extract_extras"]
