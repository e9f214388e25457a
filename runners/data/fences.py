"""Code fences in text, as CommonMark has them: what languages they name, and whether one is cut."""

import re
from typing import NamedTuple

_FENCE = re.compile(r"^[ \t]*(`{3,})([^`\n]*)$", re.MULTILINE)
"""A line that opens or closes a block; with a backtick behind the fence it is code in a line."""

_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]*")


class Fences(NamedTuple):
    """The language of each block, lowercase, "" if none; ``cut`` if the last has no end."""

    languages: list[str]
    cut: bool


def find_fences(text: str) -> Fences:
    """The fenced blocks of a text; a block ends with a bare fence at least as long as its first."""
    languages: list[str] = []
    opened = 0
    for found in _FENCE.finditer(text):
        length, info = len(found[1]), found[2].strip()
        if not opened:
            named = _LANGUAGE.match(info)
            languages.append(named[0].lower() if named else "")
            opened = length
        elif length >= opened and not info:
            opened = 0
    return Fences(languages, opened > 0)
