"""Foreign text for terminals and pages."""

import os
from urllib.parse import unquote_to_bytes

import pytest

from atoken.core.text import LONGEST, clean, decoded, escaped, link_to, shortened
from refusals import refused


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


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_a_file_of_any_unicode_is_text_without_its_mark(encoding):
    for text in ("ein roter Stuhl, 红椅子\n", "7", "a"):
        assert decoded(text.encode(encoding)) == text
    assert decoded("红椅子".encode("utf-16")) == "红椅子"
    assert decoded(b"") == ""


@pytest.mark.parametrize("data", ["café".encode("latin-1"), b"\xff", b"\xff\xfea", b"a chair\0", b"\xef\xbb\xbf\xe9"])
def test_what_is_no_unicode_is_said(data):
    with refused():
        decoded(data)
