"""A corrupted corpus: every kind of damage is found at its line, and nothing else is."""

import gzip
import json

import pytest
import zstandard

from runners.data.sources import BLOCK_BYTES, RANGE_BYTES
from runners.data.validate import TokenQuestion, validate
from tests.runners.data.conftest import chat


def rounds(*turns, **more):
    return json.dumps({"chat_rounds": [dict(t) for t in turns], **more}).encode()


H = {"role": "human", "content": "q", "chat_round_id": 1}
B = {"role": "bot", "content": "a", "chat_round_id": 1}
S = {"role": "system", "content": "s", "chat_round_id": 0}

DAMAGE: dict[str, tuple[bytes, str, str]] = {
    "not JSON": (b"hello", "", "not JSON"),
    "cut short": (rounds(S, H, B)[:-9], "", "not JSON"),
    "trailing characters": (rounds(H, B) + b" x", "", "not JSON"),
    "two objects on a line": (rounds(H, B) + rounds(H, B), "", "not JSON"),
    "single quotes": (b"{'chat_rounds': []}", "", "not JSON"),
    "raw control character": (rounds(H, B).replace(b'"q"', b'"q\x01"'), "", "not JSON"),
    "lone surrogate": (rounds(H, B).replace(b'"q"', b'"\\ud800"'), "", "not JSON"),
    "a list": (b"[1, 2]", "", "a list, not an object"),
    "a string": (b'"text"', "", "text, not an object"),
    "null": (b"null", "", "null, not an object"),
    "no rounds": (b'{"id": 1}', "chat_rounds", "is missing"),
    "empty rounds": (b'{"chat_rounds": []}', "chat_rounds", "is empty"),
    "rounds no list": (b'{"chat_rounds": {"a": 1}}', "chat_rounds", "is an object, not a list"),
    "rounds null": (b'{"chat_rounds": null}', "chat_rounds", "is null, not a list"),
    "round no object": (b'{"chat_rounds": ["hi"]}', "chat_rounds[0]", "is text, not an object"),
    "unknown role": (rounds(H, {**B, "role": "gpt"}), "chat_rounds[1].role", 'is "gpt"'),
    "role missing": (rounds(H, {"content": "a"}), "chat_rounds[1].role", "is missing"),
    "role a number": (rounds(H, {**B, "role": 1}), "chat_rounds[1].role", "is a number"),
    "content missing": (rounds(H, {"role": "bot"}), "chat_rounds[1].content", "is missing"),
    "content null": (rounds(H, {**B, "content": None}), "chat_rounds[1].content", "is null"),
    "content a list": (rounds({**H, "content": []}, B), "chat_rounds[0].content", "is a list"),
    "content a number": (rounds(H, {**B, "content": 3}), "chat_rounds[1].content", "is a number"),
    "no bot turn": (rounds(S, H), "chat_rounds[1].role", "no bot turn"),
    "two human turns": (rounds(H, H, B), "chat_rounds[1].role", "two human turns in a row"),
    "two bot turns": (rounds(H, B, B), "chat_rounds[2].role", "two bot turns in a row"),
    "bot first": (rounds(S, B, H), "chat_rounds[1].role", "before any human turn"),
    "system not first": (rounds(H, S, B), "chat_rounds[1].role", "only come first"),
    "two systems": (rounds(S, S, H, B), "chat_rounds[1].role", "only come first"),
    "round id falls": (
        rounds({**H, "chat_round_id": 2}, B),
        "chat_rounds[1].chat_round_id",
        "comes after 2",
    ),
    "round id repeated": (rounds(H, B, H, B), "chat_rounds[2].chat_round_id", "two exchanges"),
    "round id text": (
        rounds({**H, "chat_round_id": "1"}, B),
        "chat_rounds[0].chat_round_id",
        "is text",
    ),
    "round id beyond 64 bits falls": (
        rounds({**H, "chat_round_id": 1 << 63}, {**B, "chat_round_id": 1 << 62}),
        "chat_rounds[1].chat_round_id",
        "comes after",
    ),
    "invalid UTF-8": (rounds(H, B).replace(b'"a"', b'"\xff"'), "", "not UTF-8"),
    "invalid UTF-8 in an unread field": (
        rounds(H, B)[:-1] + b', "x": "\xc3"}',
        "",
        "not UTF-8",
    ),
    "raw NUL": (rounds(H, B).replace(b'"a"', b'"\0"'), "", "NUL"),
    "escaped NUL": (rounds(H, {**B, "content": "a\0"}), "chat_rounds[1].content", "NUL"),
    "not a number": (rounds(H, B)[:-1] + b', "x": NaN}', "", "not JSON"),
    "nested too deeply": (b'{"x": ' + b"[" * 100_000, "", "n"),
}


def good_lines(count):
    for i in range(count):
        record = chat(f"question {i}", f"answer {i} é", "S" if i % 3 else None, id=i)
        yield json.dumps(record, ensure_ascii=bool(i % 2)).encode()


def test_there_are_at_least_twenty_five_kinds_of_damage():
    assert len(DAMAGE) >= 25


@pytest.mark.parametrize("name", DAMAGE)
def test_each_kind_of_damage_alone_is_found_at_its_line_and_place(name, write_task):
    line, where, message = DAMAGE[name]
    lines = [*good_lines(41), line, *good_lines(7)]
    report = validate([write_task("task", lines)])
    (error,) = report.tasks[0].errors
    assert (error.line, error.where) == (42, where)
    assert message in error.message
    assert report.records == 48


@pytest.mark.parametrize("workers", [1, 2])
def test_all_damage_spread_over_a_long_file_is_found_with_no_false_alarm(workers, write_task):
    good = list(good_lines(60_000))
    expected = {}
    for i, (line, where, _) in enumerate(DAMAGE.values()):
        at = 50 + i * (len(good) // len(DAMAGE))
        good.insert(at, line)
        expected[at + 1] = where
    folder = write_task("task", good)
    assert (folder / "train.jsonl").stat().st_size > RANGE_BYTES
    report = validate([folder], workers=workers)
    assert {e.line: e.where for e in report.tasks[0].errors} == expected
    assert report.error_count == len(DAMAGE)


def test_the_clean_corpus_raises_no_alarm(write_task):
    report = validate([write_task("task", good_lines(3_000))])
    assert report.ok
    assert report.records == 3_000
    assert report.warning_count == 0


def test_the_first_hundred_errors_of_each_file_are_kept_and_all_are_counted(write_task):
    write_task("task", [b"x"] * 350, file="a.jsonl")
    folder = write_task("task", [*good_lines(2), *[b"y"] * 120], file="b.jsonl")
    task = validate([folder]).tasks[0]
    assert task.error_count == 470
    assert [(e.file[-7:], e.line) for e in task.errors] == [
        *(("a.jsonl", i) for i in range(1, 101)),
        *(("b.jsonl", i) for i in range(3, 103)),
    ]


def test_the_hundred_errors_of_a_file_are_the_first_of_all_its_ranges(write_task):
    long = b"x" * (RANGE_BYTES // 90)
    task = validate([write_task("task", [long] * 300)], workers=1).tasks[0]
    assert task.error_count == 300
    assert [e.line for e in task.errors] == list(range(1, 101))


def test_round_ids_of_any_size_are_read_block_after_block(write_task):
    huge = [
        rounds({**H, "chat_round_id": number}, {**B, "chat_round_id": number, "content": f"{i}"})
        for number in (1 << 63, -(1 << 63) - 1)
        for i in range(4_000)
    ]
    folder = write_task("task", huge)
    assert (folder / "train.jsonl").stat().st_size > 4 * BLOCK_BYTES
    report = validate([folder])
    assert (report.ok, report.records) == (True, 8_000)


def test_every_fault_of_roles_and_round_ids_is_named_beside_those_of_fields(write_task):
    line = rounds(
        H,
        {**H, "content": "again"},
        {**B, "role": "gpt"},
        {**H, "chat_round_id": 5},
        {**B, "chat_round_id": 4},
        {**B, "chat_round_id": 4},
        {**S, "chat_round_id": 0},
        {**H, "chat_round_id": 4},
        {**B, "chat_round_id": 3, "content": None},
    )
    (task,) = validate([write_task("task", [line, *good_lines(3)])]).tasks
    assert [(e.where, e.message) for e in task.errors] == [
        ("chat_rounds[1].role", "two human turns in a row"),
        ("chat_rounds[2].role", 'is "gpt", not one of system, human, bot'),
        ("chat_rounds[4].chat_round_id", "chat_round_id 4 comes after 5"),
        ("chat_rounds[5].role", "two bot turns in a row"),
        ("chat_rounds[6].role", "a system message may only come first"),
        ("chat_rounds[7].chat_round_id", "chat_round_id 4 is used by two exchanges"),
        ("chat_rounds[8].content", "is null, not text"),
        ("chat_rounds[8].chat_round_id", "chat_round_id 3 comes after 4"),
    ]


def test_several_faults_of_one_record_are_all_named(write_task):
    line = rounds({"role": "x", "content": 1}, {"content": None})
    task = validate([write_task("task", [line, *good_lines(3)])]).tasks[0]
    assert [e.where for e in task.errors] == [
        "chat_rounds[0].role",
        "chat_rounds[0].content",
        "chat_rounds[1].role",
        "chat_rounds[1].content",
    ]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_damaged_compressed_file_is_an_error_at_its_line_and_the_others_are_read(
    write_task, suffix, tiny_tokenizer
):
    content = b"".join(line + b"\n" for line in good_lines(20_000))
    compress = gzip.compress if suffix == "gz" else zstandard.compress
    folder = write_task("task", [*good_lines(5), b"x"], file="z.jsonl")
    whole = compress(content)
    (folder / f"a.jsonl.{suffix}").write_bytes(whole[: len(whole) // 2])
    report = validate([folder], tokens=TokenQuestion(tiny_tokenizer))
    damage, other = report.tasks[0].errors
    assert "damaged" in damage.message
    assert damage.file.endswith(f"a.jsonl.{suffix}")
    # Every line before the damage was a record, and the damage is at the line after them.
    assert report.records == damage.line - 1 + 5
    assert damage.line > 5_000
    assert (other.file[-7:], other.line) == ("z.jsonl", 6)


def test_blank_lines_and_windows_line_ends_are_no_faults(write_task):
    lines = [line + b"\r" for line in good_lines(3)]
    lines.insert(1, b"")
    lines.insert(2, b"  ")
    task = validate([write_task("task", lines)]).tasks[0]
    assert (task.records, task.errors) == (3, [])


def test_an_object_over_two_lines_is_two_faults_even_beside_two_objects_on_one_line(write_task):
    two_on_one = rounds(H, B) + rounds(H, B)
    over_two = rounds(H, B).replace(b", ", b",\n", 1)
    task = validate([write_task("task", [two_on_one, over_two])]).tasks[0]
    assert {e.line for e in task.errors} == {1, 2, 3}


def test_a_file_without_a_record_is_an_error(write_task):
    write_task("task", good_lines(2), file="a.jsonl")
    folder = write_task("task", [], file="empty.jsonl")
    (error,) = validate([folder]).tasks[0].errors
    assert error.file.endswith("empty.jsonl")
    assert "no record" in error.message
