"""The grammar of run filters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import QueryError
from db.filter_language import And, Compare, Not, Or, Word, format_filter, parse_filter

_texts = st.text(max_size=12)
_compares = st.one_of(
    st.builds(
        Compare,
        _texts,
        st.just(":"),
        st.lists(_texts, min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        Compare,
        _texts,
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        _texts.map(lambda text: (text,)),
    ),
)


def _composed(inner):
    several = st.lists(inner, min_size=2, max_size=4).map(tuple)
    return st.one_of(st.builds(Not, inner), st.builds(And, several), st.builds(Or, several))


_conditions = st.recursive(st.one_of(_compares, st.builds(Word, _texts)), _composed, max_leaves=20)


@given(_conditions)
def test_a_condition_survives_being_written_and_read(condition) -> None:
    assert parse_filter(format_filter(condition)) == condition


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_its_position(text: str) -> None:
    refused = None
    try:
        parse_filter(text)
    except QueryError as error:
        refused = error
    if refused is not None:
        assert refused.exit_code == 2
        before, position = (refused.where or "").rsplit(" ", 1)
        assert before == "filter, character"
        assert 1 <= int(position) <= len(text) + 1


@given(st.text(alphabet='ab:<>=!()",\\ ANDORT', max_size=40))
def test_text_made_of_the_languages_own_signs_is_read_or_refused(text: str) -> None:
    try:
        condition = parse_filter(text)
    except QueryError:
        return
    if condition is not None:
        assert parse_filter(format_filter(condition)) == condition


def test_conditions_side_by_side_must_all_hold() -> None:
    assert parse_filter("status:finished loss<1.2 best") == And(
        (
            Compare("status", ":", ("finished",)),
            Compare("loss", "<", ("1.2",)),
            Word("best"),
        )
    )


def test_or_binds_weaker_than_and_and_not_strongest() -> None:
    a, b, c = (Compare(name, "=", ("1",)) for name in "abc")
    assert parse_filter("a=1 OR NOT b=1 AND c=1") == Or((a, And((Not(b), c))))
    assert parse_filter("(a=1 or not b=1) and c=1") == And((Or((a, Not(b))), c))


def test_values_keep_what_a_date_or_a_path_needs() -> None:
    assert parse_filter("since:2026-11-01T10:00 data:/a/b=c") == And(
        (Compare("since", ":", ("2026-11-01T10:00",)), Compare("data", ":", ("/a/b=c",)))
    )


def test_spaces_around_an_operator_are_allowed() -> None:
    assert parse_filter("loss < 1.2 pass@1 >=0.3") == And(
        (Compare("loss", "<", ("1.2",)), Compare("pass@1", ">=", ("0.3",)))
    )


def test_commas_are_alternatives() -> None:
    assert parse_filter('status:failed,crashed name:"a, b",c') == And(
        (Compare("status", ":", ("failed", "crashed")), Compare("name", ":", ("a, b", "c")))
    )


def test_a_field_may_be_called_like_a_keyword() -> None:
    assert parse_filter("not:x and<1") == And(
        (Compare("not", ":", ("x",)), Compare("and", "<", ("1",)))
    )


@pytest.mark.parametrize("text", ["", "  ", "\t\n"])
def test_an_empty_filter_is_no_condition(text: str) -> None:
    assert parse_filter(text) is None


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("status:", 8, "a value is missing after ':'"),
        ("status:finished loss<", 22, "a value is missing after '<'"),
        ("(a:b", 1, "never closed"),
        ("a:b)", 4, "closes nothing"),
        ('name:"x', 6, "quotation is never closed"),
        ("<1.2", 1, "needs a field before it"),
        ("a:b AND", 8, "missing at the end"),
        ("a:b AND OR c:d", 9, "missing before this"),
        ("()", 2, "missing before this"),
        ("loss<1,2", 7, "only ':' takes several"),
        ("(" * 100 + "a" + ")" * 100, 41, "inside each other"),
        ("NOT " * 100 + "a", 161, "inside each other"),
        ("a " * 300, 401, "more than 200 conditions"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, position: int, message: str) -> None:
    with pytest.raises(QueryError, match=message) as told:
        parse_filter(text)
    assert told.value.where == f"filter, character {position}"
    assert told.value.fix is not None
    picture = told.value.fix.splitlines()
    assert picture[1].index("^") - 2 == position - 1
