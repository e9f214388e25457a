"""What a validation reports besides errors: counts, warnings, tokens, leakage."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runners.config import TrainConfig
from runners.data.cache import build_cache
from runners.data.checking import CheckSetup
from runners.data.fences import find_fences
from runners.data.packing import fill, pack_best_fit
from runners.data.sources import ByteRange, DataFile
from runners.data.validate import SMALL, TokenQuestion, useful_workers, validate
from runners.data.workers import available_cores
from tests.runners.data.conftest import chat, make_tokenizer


def warnings_of(task):
    return {w.kind: (w.count, [e.line for e in w.examples]) for w in task.warnings}


def test_duplicates_count_within_and_across_tasks_by_content_and_not_by_id(write_task):
    write_task("a", [chat("q", "1", id=1), chat("q", "2", id=2), chat("q", "1", id=3)])
    b = write_task("b", [chat("x", "y"), chat("q", "2", id=9), chat("q", "2", id=10)])
    report = validate([b.parent])
    first, second = report.tasks
    assert warnings_of(first) == {"duplicate": (1, [3])}
    assert warnings_of(second) == {"duplicate": (1, [3])}
    assert report.cross_task_duplicates.count == 1
    assert report.cross_task_duplicates.examples[0].line == 2
    assert "a/train.jsonl:2" in report.cross_task_duplicates.examples[0].message


def test_empty_answers_cut_fences_and_special_text_are_warned_of_with_their_lines(write_task):
    records = [
        chat("q1", "fine"),
        chat("q2", ""),
        chat("q3", " \n\t " * 40),
        chat("q4", "```python\nprint(1)\n"),
        chat("q5", "```python\nprint(1)\n```\nand\n```\nmore\n```"),
        chat("q6", "use <|im_end|> here"),
        chat("a || b <| c", "x|y"),
    ]
    (task,) = validate([write_task("t", records)]).tasks
    assert warnings_of(task) == {
        "empty_answer": (2, [2, 3]),
        "cut_code_fence": (1, [4]),
        "special_token_text": (1, [6]),
    }
    assert task.fences == {"python": 2, "": 1}
    assert task.error_count == 0


def test_special_text_is_what_the_tokenizer_takes_for_special(write_task, tmp_path):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "</s>", "<fim_pad>", "[INST]"]
    tokenizer = make_tokenizer(tmp_path / "tokenizer", special)
    records = [
        chat("a <b> | c", "plain"),
        chat("the end </s>", "a"),
        chat("q", "pad <fim_pad> pad"),
        chat("[INST] say", "b"),
        chat("q", "of another model <|eot_id|>"),
    ]
    folder = write_task("t", records)
    (task,) = validate([folder], tokens=TokenQuestion(tokenizer)).tasks
    assert warnings_of(task) == {"special_token_text": (4, [2, 3, 4, 5])}
    (task,) = validate([folder]).tasks
    assert warnings_of(task) == {"special_token_text": (1, [5])}


@pytest.mark.parametrize(
    ("text", "languages", "cut"),
    [
        ("````markdown\n```python\nx\n```\n````\n", ["markdown"], False),
        ("````md\n```\nx\n```\n", ["md"], True),
        ("```x``` stands at the head of a line", [], False),
        ("```x```\nand\n```Go\ny\n```", ["go"], False),
        ("  ```c++ title=a\r\ny\r\n  ```\r\n", ["c++"], False),
        ("say ``` in a line", [], False),
        ("```python\nx = 1  # ```\n", ["python"], True),
        ("```\na\n```\n```\nb\n```", ["", ""], False),
    ],
)
def test_fences_open_and_close_as_markdown_has_it(text, languages, cut):
    assert find_fences(text) == (languages, cut)


def test_an_empty_answer_in_the_middle_of_a_conversation_is_seen(write_task):
    turns = [("human", "a"), ("bot", ""), ("human", "b"), ("bot", "c")]
    record = {"chat_rounds": [{"role": r, "content": c} for r, c in turns]}
    (task,) = validate([write_task("t", [record])]).tasks
    assert warnings_of(task) == {"empty_answer": (1, [1])}


def test_counts_are_of_records_rounds_bytes_and_characters(write_task):
    records = [chat("1234", "12"), chat("1", "2", "sys")]
    folder = write_task("t", records)
    (task,) = validate([folder]).tasks
    assert (task.files, task.records, task.rounds) == (1, 2, 5)
    assert task.bytes == (folder / "train.jsonl").stat().st_size
    assert (task.lengths.p50, task.lengths.max) == (5, 6)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        (
            "messages",
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        ),
        (
            "conversations",
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        ),
        ("prompt_answer", {"prompt": "q", "answer": "a"}),
        ("text", {"text": "q"}),
        ("chat_rounds", chat("q", "a")),
    ],
)
def test_each_format_is_recognized_and_a_line_of_another_is_an_error(write_task, name, record):
    stranger = {"text": "x"} if name != "text" else chat("q", "a")
    folder = write_task("t", [b"broken", record, record, record, stranger])
    (task,) = validate([folder]).tasks
    assert task.format == name
    assert sorted({e.line for e in task.errors}) == [1, 5]


def test_text_with_an_answer_beside_it_is_text(write_task):
    (task,) = validate(
        [write_task("t", [{"text": f"t {i}", "answer": "a"} for i in range(3)])]
    ).tasks
    assert (task.format, task.records, task.error_count) == ("text", 3, 0)


def test_tokens_and_what_would_not_fit_are_what_a_run_then_finds(write_task, tiny_tokenizer):
    records = [chat("q" * (i % 90), "def f():\n" * (i % 40), id=i) for i in range(400)]
    records += [chat("human " * i, "a") for i in range(40)]  # pieces without a trained token
    unanswered = {"role": "human", "content": "never answered " * 30, "chat_round_id": 2}
    records.append({"chat_rounds": [*chat("q", "a")["chat_rounds"], unanswered]})
    folder = write_task("t", records)
    for overlong in ("truncate", "drop", "split"):
        question = TokenQuestion(tiny_tokenizer, 64, overlong)
        tokens = validate([folder], tokens=question).tasks[0].tokens
        config = TrainConfig(
            data_paths=[folder], pretrained_model_path="x", seq_length=64, overlong=overlong
        )
        cache = build_cache(config, tiny_tokenizer)
        counts = cache.overlong
        assert tokens.tokens == len(cache.ids)
        assert tokens.longer == counts.longer.sum() > 0
        assert tokens.truncated == counts.truncated.sum()
        assert tokens.dropped == counts.dropped.sum()
        assert tokens.split == counts.split.sum()
        assert tokens.untrained == counts.untrained.sum()
        rows = pack_best_fit(cache.lengths, 64)
        assert tokens.pack_rows == len(rows)
        assert tokens.pack_fill == fill(rows, cache.lengths, 64)


def test_a_benchmarks_text_in_the_data_is_named_with_its_question(write_task, shared):
    row = json.loads((shared / "benchmarks/humanevalpack/python.jsonl").read_text().split("\n")[4])
    records = [
        chat("Explain list comprehensions in plain words please", "They build lists."),
        chat("Complete this:\n" + row["prompt"], "    pass"),
        chat("numbers", " ".join(str(i) for i in range(400))),
    ]
    folder = write_task("t", records)
    report = validate([folder], benchmarks=shared / "benchmarks")
    assert report.leakage_checked
    assert warnings_of(report.tasks[0]) == {"leakage": (1, [2])}
    assert "question 4" in report.tasks[0].warnings[0].examples[0].message
    assert not validate([folder]).leakage_checked


def test_the_report_does_not_depend_on_the_number_of_workers(write_task, tiny_tokenizer):
    for name in ("a", "b", "c"):
        write_task(name, [chat(f"q {name} {i % 97}", "a" * (i % 13), id=i) for i in range(800)])
    folder = write_task("b", [chat("q", "a")] * 5, file="more.jsonl").parent
    (folder / "c" / "train.jsonl.gz").write_bytes(
        gzip.compress((folder / "c" / "train.jsonl").read_bytes())
    )
    tokens = TokenQuestion(tiny_tokenizer, 32)
    one, three = (validate([folder], workers=n, tokens=tokens) for n in (1, 3))
    assert one.tasks == three.tasks
    assert one.cross_task_duplicates == three.cross_task_duplicates


def test_little_data_is_parsed_by_one_process_and_much_or_slow_work_by_all():
    def ranges(size, compression="plain"):
        return [ByteRange(DataFile(Path("a.jsonl"), size, compression))]

    plain = CheckSetup(None, None, None, None, 0, "truncate", None)
    assert useful_workers(ranges(SMALL), plain) == 1
    assert useful_workers(ranges(SMALL + 1), plain) == available_cores()
    assert useful_workers(ranges(SMALL // 2, "gz"), plain) == available_cores()
    tokens = replace(plain, tokenizer=Path("t"))
    assert useful_workers(ranges(10), tokens) == available_cores()


def test_memory_that_a_block_frees_is_kept_for_the_next_one():
    """Measured by page faults: without it, each round faults its pages in again."""
    code = """
import resource
from runners.data.heap import keep_freed_memory
assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def block():
    return [bytes(1000) for _ in range(3000)]
block()
before = faults()
for _ in range(50):
    block()
print(faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50 * 3_000_000 // 4096 // 10


def run_cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "mft_tui", *map(str, arguments)], capture_output=True, text=True
    )


def test_validate_json_has_the_shape_that_other_programs_rely_on_and_exits_with_one(write_task):
    folder = write_task("t", [chat("q", "a"), b"broken"])
    done = run_cli("validate", folder, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert (report["ok"], report["records"], report["error_count"]) == (False, 1, 1)
    (task,) = report["tasks"]
    assert {"name", "path", "files", "records", "rounds", "bytes", "errors"} <= set(task)
    (error,) = task["errors"]
    assert error["file"] == str(folder / "train.jsonl")
    assert error["line"] == 2
    assert set(error) == {"file", "line", "where", "message"}


def test_validate_for_people_names_file_and_line_and_a_missing_folder_exits_with_five(
    write_task, tmp_path, bare_tokenizer
):
    folder = write_task("t", [chat("q", "a"), b"broken"])
    done = run_cli("validate", folder, "--tokenizer", bare_tokenizer)
    assert f"{folder}/train.jsonl:2: is not JSON" in done.stdout
    assert "lacks <|im_start|>" in " ".join(done.stderr.split())
    missing = run_cli("validate", tmp_path / "nowhere")
    assert missing.returncode == 5
    assert "Traceback" not in missing.stderr


def test_preview_gives_ids_and_mask_of_the_record_asked_for(write_task, tiny_tokenizer):
    folder = write_task("t", [chat("q", "a"), b"", chat("two", "answer <|im_end|>")])
    done = run_cli("preview", folder, "--tokenizer", tiny_tokenizer, "--index", 1, "--json")
    seen = json.loads(done.stdout)
    assert seen["line"] == 3
    assert len(seen["ids"]) == len(seen["mask"])
    trained = [p["text"] for p in seen["pieces"] if p["trained"]]
    assert trained == ["answer <|im_end|><|im_end|>"]
    beyond = run_cli("preview", folder, "--tokenizer", tiny_tokenizer, "--index", 2)
    assert beyond.returncode == 2
    assert "no record 2" in beyond.stderr
