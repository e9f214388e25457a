"""What one line of a log looks like after its strokes have been played."""

from hypothesis import given
from hypothesis import strategies as st

from mft_tui.widgets.terminal_text import plain_text, render_line


def test_a_plain_line_is_itself() -> None:
    assert render_line(b"step 1 loss 2.0") == (("step 1 loss 2.0", None),)


def test_an_empty_line_has_no_runs() -> None:
    assert render_line(b"") == ()


def test_a_progress_bar_is_its_last_stroke() -> None:
    strokes = b"".join(b"\r%3d%%" % share for share in range(101))
    assert plain_text(strokes) == "100%"


def test_a_shorter_stroke_leaves_the_rest_of_the_longer_one() -> None:
    assert plain_text(b"abcdef\rXY") == "XYcdef"


def test_erasing_to_the_end_of_line_removes_that_rest() -> None:
    assert plain_text(b"abcdef\rXY\x1b[K") == "XY"


def test_a_carriage_return_before_the_newline_erases_nothing() -> None:
    assert plain_text(b"windows line\r") == "windows line"


def test_colours_become_styles_and_leave_the_text() -> None:
    runs = render_line(b"\x1b[32mINFO\x1b[0m ready")
    assert [text for text, _ in runs] == ["INFO", " ready"]
    assert runs[0][1] is not None
    assert runs[0][1].color is not None
    assert runs[0][1].color.number == 2
    assert runs[1][1] is None


def test_colours_of_256_and_of_24_bits_are_read() -> None:
    by_number, by_mixture = render_line(b"\x1b[38;5;208ma\x1b[38;2;1;2;3mb")
    assert by_number[1] is not None
    assert by_number[1].color.number == 208
    assert by_mixture[1] is not None
    assert by_mixture[1].color.triplet == (1, 2, 3)  # type: ignore[union-attr]


def test_titles_and_links_are_dropped() -> None:
    assert plain_text(b"\x1b]0;title\x07\x1b]8;;http://x\x1b\\here") == "here"


def test_a_backspace_goes_back_and_tabs_go_to_the_next_stop() -> None:
    assert plain_text(b"ab\x08c") == "ac"
    assert plain_text(b"a\tb\x1b[0m") == "a       b"


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert plain_text(b"a\xffb") == "a�b"


@given(st.binary(max_size=400))
def test_whatever_comes_nothing_that_moves_a_terminal_is_left(raw: bytes) -> None:
    text = plain_text(raw.replace(b"\n", b""))
    assert not any(ord(character) < 32 or ord(character) == 127 for character in text)


@given(st.text(st.characters(min_codepoint=32, blacklist_characters="\x7f"), max_size=80))
def test_text_without_control_characters_is_not_changed(text: str) -> None:
    assert plain_text(text.encode("utf-8", "replace")) == text.encode("utf-8", "replace").decode()
