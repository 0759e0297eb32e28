"""Foreign text (file names, values of headers, messages of libraries) as people may be shown it."""

from __future__ import annotations

import html
import json
import os
from urllib.parse import quote

LONGEST = 120
"""Characters of a foreign value or message that a sentence quotes."""


def clean(text: object) -> str:
    """``text`` as one line that any terminal can show: line ends, control and escape characters are written out.

    The only way by which names and values of files may reach a terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shortened(text: object, longest: int = LONGEST) -> str:
    """``clean(text)``, of at most ``longest`` characters: the end of a longer one is left out."""
    line = " ".join(str(text).split())
    line = clean(line[: longest + 1])  # which may be longer then
    return line if len(line) <= longest else line[: longest - 1] + "…"


def escaped(text: object) -> str:
    """``text`` for HTML, inside elements and quoted attributes; names that are not UTF-8 get replacement characters.

    The only way by which names and values of files may reach a page.
    """
    return html.escape(str(text).encode("utf-8", "replace").decode("utf-8"), quote=True)


def decoded(data: bytes) -> str:
    """A text file: UTF-8, or UTF-16 or UTF-32 as its byte order mark or the zeros in its first character say.

    The mark is no part of it. Raises ``ValueError`` that says what it is not.
    """
    encoding = json.detect_encoding(data)  # RFC 4627, section 3, for text that begins with a letter of ASCII
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"not {encoding.upper().removesuffix('-SIG')}: {error.reason} at byte {error.start}") from None
    if "\0" in text:
        raise ValueError("no text: it has zeros")
    return text


def link_to(path: str | os.PathLike[str]) -> str:
    """A relative or absolute path as the value of ``href`` or ``src``: a path whatever its name looks like.

    ``#``, ``?``, ``%`` and all else that means something in a URL is percent-encoded byte for byte, and a relative one
    begins with ``./``, so that ``javascript:x.png`` is no scheme.
    """
    url = quote(os.fsencode(path))
    return "/" + url.lstrip("/") if url.startswith("/") else f"./{url}"  # //host would be another machine
