"""What the fields of a run filter mean, as SQL.

A condition of the filter language becomes one SQL expression over ``run`` and the columns of
``db.derived``. Whatever is not a known field and is compared with a number is a metric.
"""

import math
import operator
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, exists, false, not_, or_, select

from db import tables
from db.derived import RUN, Derived
from db.errors import QueryError
from db.fields import FILTER_FIELDS, nearest
from db.filter_language import (
    And,
    Compare,
    Condition,
    Not,
    Operator,
    Or,
    Word,
    filter_error,
    parse_filter,
)
from db.records import LIVE_STATUSES, STATUSES
from db.series import NAN

Clause = ColumnElement[bool]

_COMPARISONS: dict[Operator, Callable[[Any, Any], Any]] = {
    ":": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERINGS = frozenset({"<", "<=", ">", ">="})
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w|y)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_EXACT = {"kind": RUN.kind, "status": RUN.status, "host": RUN.host}
_CONTAINED = {
    "name": RUN.name,
    "note": RUN.note,
    "message": RUN.message,
    "model": RUN.model_name,
    "stage": RUN.stage,
    "folder": RUN.folder,
}
_PREFIXED = {"id": RUN.id, "parent": RUN.parent_id, "replay": RUN.replay_of}
_TIMES = {"created": RUN.created_at, "started": RUN.started_at, "ended": RUN.ended_at}
_NUMBERS = {
    "exit": RUN.exit_code,
    "attempt": RUN.attempt,
    "done": RUN.done,
    "scored": RUN.scored,
    "pass@1": RUN.pass_at_1,
}
_HAS = {
    "scores": tables.task_score,
    "metrics": tables.latest_metric,
    "verdicts": tables.verdict,
    "artifacts": tables.artifact,
    "notices": tables.notice,
    "tags": tables.tag,
}


class FilterCompiler:
    """Turns the text of a filter into a clause; what it joins is in ``derived.source``.

    ``hints`` are sentences about conditions that make sense but can match nothing;
    ``names_trash`` is set when the filter itself says what to do with trashed runs.
    """

    def __init__(self, text: str, derived: Derived) -> None:
        self._text = text
        self._derived = derived
        self.hints: list[str] = []
        self.names_trash = False

    def compile(self) -> Clause | None:
        """The clause; None for an empty filter. Raises ``QueryError`` with the position."""
        condition = parse_filter(self._text)
        return None if condition is None else self._clause(condition)

    def _clause(self, condition: Condition) -> Clause:
        match condition:
            case And(parts):
                return and_(*(self._clause(part) for part in parts))
            case Or(parts):
                return or_(*(self._clause(part) for part in parts))
            case Not(part):
                # A condition on something a run does not have is NULL, and must count as false.
                return not_(self._clause(part).is_(True))
            case Word(text):
                return _mentions(text)
            case Compare():
                return or_(*(self._compare(condition, value) for value in condition.values))

    def _compare(self, it: Compare, value: str) -> Clause:
        name = it.name.lower()
        match name:
            case "kind" | "status" | "host":
                if name == "status" and "*" not in value:
                    self._check_word(it, value, STATUSES)
                given = value if name == "host" else value.lower()
                return self._text_clause(it, _exactly(_EXACT[name], given))
            case "name" | "note" | "message" | "model" | "stage" | "folder":
                column = _CONTAINED[name]
                contained = _contains(column, value) if it.operator == ":" else column == value
                return self._text_clause(it, contained)
            case "id" | "parent" | "replay":
                column = _PREFIXED[name]
                return self._text_clause(it, _like(column, _escaped(value.lower()) + "%"))
            case "tag":
                return self._text_clause(it, _has(tables.tag, _exactly(tables.tag.c.name, value)))
            case "data":
                return self._text_clause(it, self._data(value))
            case "is" | "has":
                clauses = self._kinds() if name == "is" else _possessions()
                self._check_word(it, value, tuple(clauses))
                self.names_trash |= value.lower() == "trashed"
                return self._text_clause(it, clauses[value.lower()])
            case "since" | "before":
                if it.operator not in {":", "="}:
                    raise self._error(it, f"{name} is written {name}:7d or {name}:2026-11-01")
                moment = self._moment(it, value)
                return RUN.created_at >= moment if name == "since" else RUN.created_at < moment
            case "created" | "started" | "ended":
                compare = _COMPARISONS[it.operator]
                clause: Clause = compare(_TIMES[name], self._moment(it, value))
                return clause
            case "duration":
                return self._span_clause(it, value)
            case "exit" | "attempt" | "done" | "scored" | "pass@1":
                return self._number_clause(it, _NUMBERS[name], value)
        family, _, rest = it.name.partition(".")
        if family.lower() == "pass@1":
            return self._number_clause(it, self._derived.score(rest), value)
        if family.lower() == "config" and rest:
            return self._setting(it, rest, value)
        return self._metric(it, rest if family.lower() == "metric" and rest else it.name, value)

    def _metric(self, it: Compare, name: str, value: str) -> Clause:
        if it.operator == ":" and name not in self._derived.keys:
            close = nearest(it.name.lower(), FILTER_FIELDS)
            raise self._error(
                it,
                f"there is no field {it.name!r}",
                f"Did you mean {close!r}?" if close else f"Fields: {', '.join(FILTER_FIELDS)}.",
            )
        if _number(value) is None:
            raise self._error(
                it,
                f"{it.name!r} is compared as a metric, and {value!r} is no number",
                "Text fields take ':', such as name:try*.",
            )
        if name not in self._derived.keys:
            close = nearest(name, [*self._derived.keys, *FILTER_FIELDS])
            self.hints.append(
                f"no run has a metric {name!r}" + (f"; did you mean {close!r}?" if close else "")
            )
        return self._number_clause(
            it, self._derived.metric(name), value, flag=self._derived.metric_flag(name)
        )

    def _number_clause(
        self,
        it: Compare,
        column: ColumnElement[Any],
        value: str,
        *,
        flag: ColumnElement[int] | None = None,
    ) -> Clause:
        number = _number(value)
        if number is None:
            raise self._error(it, f"{it.name} is compared with a number, not with {value!r}")
        if not math.isnan(number):
            clause: Clause = _COMPARISONS[it.operator](column, number)
            return clause
        if it.operator not in {":", "=", "!="}:
            raise self._error(it, "nothing is smaller or larger than NaN")
        if flag is None:
            return false()
        return flag != NAN if it.operator == "!=" else flag == NAN

    def _span_clause(self, it: Compare, value: str) -> Clause:
        seconds = _span(value)
        if seconds is None:
            raise self._error(it, f"{value!r} is no span of time", "Write 90s, 15m, 2h, 7d or 3w.")
        clause: Clause = _COMPARISONS[it.operator](self._derived.duration(), seconds)
        return clause

    def _setting(self, it: Compare, key: str, value: str) -> Clause:
        column = self._derived.setting(key)
        number = _number(value)
        if number is not None and math.isfinite(number):
            clause: Clause = _COMPARISONS[it.operator](column, number)
            return clause
        if value.lower() in {"true", "false"}:
            # SQLite's JSON has 1 and 0 for them.
            return self._text_clause(it, column == int(value.lower() == "true"))
        if value.lower() == "null":
            return self._text_clause(it, column.is_(None))
        contained = _contains(column, value) if it.operator == ":" else column == value
        return self._text_clause(it, contained)

    def _data(self, value: str) -> Clause:
        # The plain search first: reading JSON is slow, and most configs do not have the word.
        pattern = _pattern(value)
        return or_(
            and_(
                _like(RUN.config, f"%{pattern}%"),
                _like(self._derived.setting("data_paths"), f"%{pattern}%"),
            ),
            _like(RUN.data_fingerprint, f"{pattern}%"),
        )

    def _text_clause(self, it: Compare, clause: Clause) -> Clause:
        if it.operator == "!=":
            return not_(clause.is_(True))
        if it.operator in {":", "="}:
            return clause
        raise self._not_ordered(it)

    def _kinds(self) -> dict[str, Clause]:
        return {
            "live": RUN.status.in_(LIVE_STATUSES),
            "ended": RUN.status.not_in(LIVE_STATUSES),
            "trashed": RUN.trashed_at.is_not(None),
            "replay": RUN.replay_of.is_not(None),
            "resumed": RUN.attempt > 1,
            "root": RUN.parent_id.is_(None),
        }

    def _check_word(self, it: Compare, value: str, known: tuple[str, ...]) -> None:
        if it.operator in _ORDERINGS:
            raise self._not_ordered(it)
        if value.lower() not in known:
            close = nearest(value.lower(), known)
            hint = f"Did you mean {close!r}?" if close else f"It is one of {', '.join(known)}."
            raise self._error(it, f"there is no {it.name} {value!r}", hint)

    def _moment(self, it: Compare, value: str) -> float:
        """Unix seconds of a date, a date with time (local unless it says otherwise), or a span
        before now."""
        seconds = _span(value)
        if seconds is not None:
            return self._derived.now - seconds
        now = datetime.fromtimestamp(self._derived.now).astimezone()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if value.lower() in {"today", "yesterday"}:
            return (midnight - timedelta(days=value.lower() == "yesterday")).timestamp()
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            raise self._error(
                it,
                f"{value!r} is no time",
                "Write a span (90s, 15m, 2h, 7d, 3w), a date (2026-11-01), a date with time "
                "(2026-11-01T18:00), today or yesterday.",
            ) from None

    def _not_ordered(self, it: Compare) -> QueryError:
        return self._error(
            it, f"{it.name} is text and cannot be compared with {it.operator!r}", "Use ':'."
        )

    def _error(self, it: Compare, what: str, hint: str | None = None) -> QueryError:
        return filter_error(self._text, it.at, what, hint)


def _mentions(text: str) -> Clause:
    begins = _like(RUN.id, _escaped(text.lower()) + "%")
    texts = [_contains(column, text) for column in (RUN.name, RUN.note, RUN.model_name)]
    return or_(begins, *texts, _has(tables.tag, _contains(tables.tag.c.name, text)))


def _possessions() -> dict[str, Clause]:
    child = tables.run.alias()
    return {
        **{name: _has(table) for name, table in _HAS.items()},
        "note": RUN.note != "",
        "parent": RUN.parent_id.is_not(None),
        "children": exists(select(child.c.id).where(child.c.parent_id == RUN.id)),
    }


def _has(table: Table, *conditions: Clause) -> Clause:
    return exists(
        select(table.c.run_id).where(table.c.run_id == RUN.id, *conditions).correlate(tables.run)
    )


def _exactly(column: ColumnElement[Any], value: str) -> Clause:
    return _like(column, _pattern(value)) if "*" in value else column == value


def _contains(column: ColumnElement[Any], value: str) -> Clause:
    return _like(column, _pattern(value) if "*" in value else f"%{_escaped(value)}%")


def _like(column: ColumnElement[Any], pattern: str) -> Clause:
    return column.like(pattern, escape="\\")


def _pattern(value: str) -> str:
    return _escaped(value).replace("*", "%")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _span(value: str) -> float | None:
    found = _SPAN.fullmatch(value.lower())
    return float(found[1]) * _SECONDS[found[2]] if found else None
