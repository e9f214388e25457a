"""The language of run filters: text to a tree of conditions, and back.

    status:finished kind:train loss<1.2 pass@1>0.3 tag:best since:7d AND NOT (name:try* OR "old")

Conditions side by side must all hold; ``AND``, ``OR``, ``NOT`` and parentheses do what they say, OR
binding weakest. A condition is ``field:value`` (what matching means is the field's matter; commas
separate alternatives), ``field`` with ``= != < <= > >=`` and one value, or a bare word. Double
quotes keep anything together; inside them a backslash keeps the next character. What the fields
mean is not known here, so that this stays a grammar without a database.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from db.errors import QueryError

Operator = Literal[":", "=", "!=", "<", "<=", ">", ">="]

_OPERATORS: tuple[Operator, ...] = ("!=", "<=", ">=", ":", "=", "<", ">")
_KEYWORDS = frozenset({"and", "or", "not"})
_FIELD_END = re.compile(r'[\s()",:=<>]|!=')
_VALUE_END = re.compile(r'[\s()",]')
_DEPTH_LIMIT = 40
_TERM_LIMIT = 200
"""SQLite refuses expressions more than a thousand deep; nobody types one."""


@dataclass(frozen=True)
class Compare:
    """Field ``name`` stands in relation ``operator`` to one of ``values`` (several only with ":").

    ``at`` is where it stood in the text, for messages.
    """

    name: str
    operator: Operator
    values: tuple[str, ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Word:
    """The run mentions this somewhere."""

    text: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Not:
    """The condition does not hold."""

    part: "Condition"


@dataclass(frozen=True)
class And:
    """Every part holds; two parts or more."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True)
class Or:
    """Some part holds; two parts or more."""

    parts: tuple["Condition", ...]


Condition = Compare | Word | Not | And | Or


def parse_filter(text: str) -> Condition | None:
    """Read a filter; None for one that is empty. Raises ``QueryError`` with the position."""
    return _Parser(text).parse()


def filter_error(text: str, at: int, what: str, hint: str | None = None) -> QueryError:
    """A ``QueryError`` that points at character ``at`` of the filter."""
    line = "".join(c if c.isprintable() else "?" for c in text)
    pointed = f"{line}\n  {' ' * at}^"
    return QueryError(
        what, where=f"filter, character {at + 1}", fix=f"{pointed}\n  {hint}" if hint else pointed
    )


def format_filter(condition: Condition) -> str:
    """Text that parses to ``condition`` again."""
    match condition:
        case Compare(name, operator, values):
            shown = ",".join(_quoted(value, _VALUE_END) for value in values)
            return _quoted(name, _FIELD_END) + operator + shown
        case Word(text):
            return _quoted(text, _FIELD_END)
        case Not(part):
            return "NOT " + _enclosed(part)
        case And(parts):
            return " AND ".join(_enclosed(part) for part in parts)
        case Or(parts):
            return " OR ".join(_enclosed(part) for part in parts)


def _enclosed(part: Condition) -> str:
    text = format_filter(part)
    return f"({text})" if isinstance(part, And | Or) else text


def _quoted(text: str, end: re.Pattern[str]) -> str:
    if text and text.lower() not in _KEYWORDS and not end.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Parser:
    """Recursive descent over the text; ``_at`` is the next character to read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._terms = 0

    def parse(self) -> Condition | None:
        self._skip_space()
        if self._done():
            return None
        whole = self._alternatives()
        if not self._done():
            raise self._error("this parenthesis closes nothing")
        return whole

    def _alternatives(self) -> Condition:
        parts = [self._conjunction()]
        while self._keyword("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _conjunction(self) -> Condition:
        parts = [self._negation()]
        while True:
            joined = self._keyword("and")
            if not joined and (self._done() or self._peek(")") or self._sees("or")):
                return parts[0] if len(parts) == 1 else And(tuple(parts))
            parts.append(self._negation())

    def _negation(self) -> Condition:
        self._skip_space()
        start = self._at
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise self._error(f"more than {_DEPTH_LIMIT} conditions inside each other", start)
        if self._keyword("not"):
            negated: Condition = Not(self._negation())
        elif self._peek("("):
            self._at += 1
            negated = self._alternatives()
            if not self._peek(")"):
                raise self._error("this parenthesis is never closed", start)
            self._at += 1
        else:
            negated = self._term()
        self._depth -= 1
        self._skip_space()
        return negated

    def _term(self) -> Condition:
        start = self._at
        if self._done():
            raise self._error("a condition is missing at the end")
        if self._peek(")") or self._sees("and") or self._sees("or"):
            raise self._error("a condition is missing before this")
        self._terms += 1
        if self._terms > _TERM_LIMIT:
            raise self._error(f"more than {_TERM_LIMIT} conditions", start)
        name = self._text_until(_FIELD_END)
        if name is None:
            raise self._error(
                f"{self._text[self._at]!r} needs a field before it",
                hint="Conditions look like status:finished, loss<1.2 or tag:best.",
            )
        self._skip_space()
        operator = next((o for o in _OPERATORS if self._text.startswith(o, self._at)), None)
        if operator is None:
            return Word(name, start)
        self._at += len(operator)
        return Compare(name, operator, self._values(operator), start)

    def _values(self, operator: Operator) -> tuple[str, ...]:
        values: list[str] = []
        while True:
            self._skip_space()
            value = self._text_until(_VALUE_END)
            if value is None:
                raise self._error(f"a value is missing after {operator!r}")
            values.append(value)
            if not self._text.startswith(",", self._at):
                return tuple(values)
            if operator != ":":
                raise self._error(f"{operator!r} takes one value; only ':' takes several")
            self._at += 1

    def _text_until(self, end: re.Pattern[str]) -> str | None:
        """A quoted text, or the characters up to ``end``; None where neither begins here."""
        if self._text.startswith('"', self._at):
            return self._quoted_text()
        found = end.search(self._text, self._at)
        stop = found.start() if found else len(self._text)
        start, self._at = self._at, stop
        return self._text[start:stop] if stop > start else None

    def _quoted_text(self) -> str:
        start = self._at
        self._at += 1
        characters: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == '"':
                return "".join(characters)
            if character == "\\" and self._at < len(self._text):
                character = self._text[self._at]
                self._at += 1
            characters.append(character)
        raise self._error("this quotation is never closed", start)

    def _sees(self, keyword: str) -> bool:
        """Whether that keyword stands here, as a word of its own and not as a field."""
        self._skip_space()
        end = self._at + len(keyword)
        if self._text[self._at : end].lower() != keyword:
            return False
        return end == len(self._text) or self._text[end] in '()"' or self._text[end].isspace()

    def _keyword(self, keyword: str) -> bool:
        if not self._sees(keyword):
            return False
        self._at += len(keyword)
        return True

    def _peek(self, character: str) -> bool:
        self._skip_space()
        return self._text.startswith(character, self._at)

    def _done(self) -> bool:
        self._skip_space()
        return self._at >= len(self._text)

    def _skip_space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _error(self, what: str, at: int | None = None, hint: str | None = None) -> QueryError:
        return filter_error(self._text, self._at if at is None else at, what, hint)
