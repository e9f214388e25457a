"""A log as a file and offsets."""

import re
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mft_tui.widgets.log_file import BLOCK, LineFilter, LogFile, Search, text_pattern


def _read(path: Path) -> LogFile:
    log = LogFile(path)
    while not log.advance().complete:
        pass
    return log


def test_a_file_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "console.log")
    assert log.advance().lines == 0
    assert log.tail(5) == []


def test_lines_are_found_by_number_across_blocks(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [b"line %d " % n + b"x" * (n % 97) for n in range(9000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert path.stat().st_size > 4 * BLOCK
    log = _read(path)
    for first in (0, 1, 1234, 4567, 8998):
        assert log.lines(first, 3) == lines[first : first + 3]


def test_the_unfinished_last_line_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo")
    log = _read(path)
    assert log.advance().lines == 2
    assert log.advance().whole == 1
    assert log.lines(0, 9) == [b"one", b"two"]


def test_growth_is_seen_and_the_unfinished_line_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    log = _read(path)
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert log.advance().lines == 3
    assert log.lines(1, 5) == [b"two", b"three"]


def test_a_file_that_was_cut_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n" * 100)
    log = _read(path)
    path.write_bytes(b"fresh\n")
    assert log.advance().lines == 1
    assert log.lines(0, 5) == [b"fresh"]


def test_of_a_line_longer_than_a_block_the_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n" + b"\r50%" * 800_000 + b"\rdone\nafter\n")
    log = _read(path)
    before, long_line, after = log.lines(0, 5)
    assert (before, after) == (b"before", b"after")
    assert len(long_line) <= BLOCK
    assert long_line.endswith(b"\rdone")


def test_the_tail_needs_no_index(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(100_000)))
    assert LogFile(path).tail(2) == [b"line 99998", b"line 99999"]


def test_the_index_grows_by_no_more_than_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 99 + b"\n" + b"y" * 300_000)
    extent = LogFile(path).advance(budget=1000)
    assert (extent.indexed, extent.complete) == (1000, False)


def test_search_goes_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"n %d\n" % n for n in range(50_000)))
    log = _read(path)
    wanted = text_pattern("/n [1-9]0000$/")
    assert _found(log, wanted, 10_001, backwards=False) == 20_000
    assert _found(log, wanted, 39_999, backwards=True) == 30_000
    assert _found(log, text_pattern("absent"), 0, backwards=False) is None
    assert _found(log, text_pattern("absent"), 39_999, backwards=True) is None
    first = log.find(text_pattern("absent"), 0, backwards=False, budget=100)
    assert first == Search(None, 100)


def _found(
    log: LogFile, pattern: "re.Pattern[bytes]", start: int, *, backwards: bool
) -> int | None:
    step, steps = Search(None, start), 0
    while step.found is None and step.onward is not None:
        step = log.find(pattern, step.onward, backwards=backwards, budget=7_000)
        steps += 1
        assert steps < 10
    return step.found


def test_a_closed_log_is_not_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"line\n")
    log = _read(path)
    log.close()
    assert log.advance().size == 0
    assert log.tail(5) == []
    assert not [f for f in psutil.Process().open_files() if f.path == str(path)]


def test_a_filter_finds_what_comes_later_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"warn 1\nok\nwarn 2\nwar")
    log = _read(path)
    only = LineFilter(log, text_pattern("warn"))
    only.advance(log.advance())
    assert list(only.matches) == [0, 2]
    with path.open("ab") as file:
        file.write(b"n 3\n")
    only.advance(log.advance())
    assert list(only.matches) == [0, 2, 3]


@pytest.mark.parametrize(
    ("typed", "line", "found"),
    [
        ("error", b"ERROR here", True),
        ("Error", b"ERROR here", False),
        ("a.c", b"abc", False),
        ("/a.c/", b"abc", True),
    ],
)
def test_text_is_searched_as_text_and_between_slashes_as_a_pattern(
    typed: str, line: bytes, found: bool
) -> None:
    assert bool(text_pattern(typed).search(line)) is found


def test_a_broken_pattern_says_so() -> None:
    with pytest.raises(re.error):
        text_pattern("/(/")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=60),
    st.integers(1, 50),
    st.booleans(),
)
def test_however_it_is_read_the_lines_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], budget: int, ended: bool
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    content = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    path.write_bytes(content)
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    log = LogFile(path)
    while not log.advance(budget).complete:
        pass
    assert log.advance().lines == len(expected)
    assert log.lines(0, 1000) == expected
    assert [log.lines(n, 1)[0] for n in range(len(expected))] == expected
