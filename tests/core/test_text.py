"""Foreign text for terminals and pages."""

import os
from urllib.parse import unquote_to_bytes

import pytest

from atoken.core.text import LONGEST, clean, escaped, link_to, shortened


def test_a_terminal_gets_one_line_without_control_characters():
    assert clean("a\nb\x1b[31m\u202e\udcff") == "a\\nb\\x1b[31m\\u202e\\udcff"
    assert clean("Grüße 你好.png") == "Grüße 你好.png"


def test_long_values_are_cut():
    assert len(shortened("x" * 10_000)) == LONGEST
    assert len(shortened("\0" * 10_000)) == LONGEST  # written out it is four times as long
    assert shortened("short") == "short"


def test_html_holds_no_markup_and_is_utf8():
    text = escaped("<b onclick='x'>\"\udcff")
    assert not set("<>'\"") & set(text)
    text.encode("utf-8")


@pytest.mark.parametrize(
    "name", ["javascript:alert(1).png", "a#b?c%41.png", "a b\udcff.png", "//host/x.png", "é/ü.png"]
)
def test_a_link_is_a_path_whatever_the_name(name):
    link = link_to(name)
    assert link.startswith(("./", "/"))
    assert not link.startswith("//")
    assert not set("#?:\"'<> ") & set(link)
    assert unquote_to_bytes(link.removeprefix("./")).endswith(os.fsencode(name).lstrip(b"/"))
