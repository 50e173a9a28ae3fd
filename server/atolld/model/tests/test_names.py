from __future__ import annotations

import pytest

from atolld.model.errors import InvalidRequest
from atolld.model.names import TemplateReference, parse_template_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("base", TemplateReference("base")),
        ("  Code-Interpreter-v1 ", TemplateReference("code-interpreter-v1")),
        ("local/base", TemplateReference("base", "local")),
        ("base:v1.2", TemplateReference("base", tag="v1.2")),
        ("team/snap:default", TemplateReference("snap", "team")),
    ],
)
def test_names(text: str, reference: TemplateReference) -> None:
    assert parse_template_reference(text) == reference


@pytest.mark.parametrize(
    "text", ["", " ", "a/b/c", "a:b:c", "a b", "/a", "a:", "../x", "a\nb", "é", "a" * 300]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Invalid template name"):
        parse_template_reference(text)
