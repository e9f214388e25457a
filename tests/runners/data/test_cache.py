"""The token cache: right, atomic, built once, and the same however it was built."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.config import TrainConfig
from runners.data.cache import build_cache
from runners.data.concat import cut_to_rows
from runners.data.fast_bpe import fast_encoder, fast_recipe
from runners.data.preview import encode_record
from runners.data.records import get_format
from runners.data.sources import find_tasks
from runners.data.tokenizer import load_tokenizer
from runners.errors import JobFailedError, MissingInputError
from tests.runners.data.conftest import chat, make_tokenizer


def config(*folders, **settings):
    return TrainConfig(data_paths=list(folders), pretrained_model_path="x", **settings)


@pytest.fixture
def real_task(write_task, real_pairs):
    records = [
        chat(f"Write a python function: {doc}", code, "You are an expert in coding", id=i)
        for i, (doc, code) in enumerate(real_pairs)
    ]
    return write_task("docstring2code", records)


def assert_tokenized_as_the_tokenizer_would(folders, tokenizer_path):
    """Every sample's ids and mask, against the slow way through the tokenizer itself."""
    cache = build_cache(config(*folders, seq_length=100_000), tokenizer_path)
    tokenizer = load_tokenizer(tokenizer_path)
    form = get_format("chat_rounds")
    lines = [
        line
        for task in find_tasks(folders)
        for file in task.files
        for line in file.path.read_bytes().splitlines()
    ]
    assert len(cache) == len(lines)
    for i, line in enumerate(lines):
        ids, mask = encode_record(form.decoder().decode(line), form, tokenizer)
        assert cache.sample(i)[0].tolist() == ids
        assert cache.sample(i)[1].tolist() == mask
        assert cache.trained_counts[i] == sum(mask)
    meta = json.loads((cache.folder / "meta.json").read_bytes())
    assert meta["fast"], "the fast path should serve this tokenizer"


def test_every_samples_ids_are_the_tokenizers_own(real_task, qwen3):
    assert_tokenized_as_the_tokenizer_would([real_task], qwen3)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_every_id_of_the_whole_standard_library_is_the_tokenizers_own(shared, qwen3, tmp_path):
    tool = shared / "tools" / "stdlib_tasks.py"
    subprocess.run([sys.executable, tool, tmp_path / "data"], check=True)
    folders = sorted((tmp_path / "data").iterdir())
    assert len(folders) == 3
    assert_tokenized_as_the_tokenizer_would(folders, qwen3)


def test_the_cache_does_not_depend_on_workers_or_on_compression(
    write_task, tiny_tokenizer, tmp_path
):
    records = [chat(f"q{i}", "print(1)\n" * (i % 50), id="x" * 400) for i in range(4000)]
    plain = write_task("t", records)
    packed = tmp_path / "other" / "t"
    packed.mkdir(parents=True)
    packed.joinpath("train.jsonl.gz").write_bytes(
        gzip.compress((plain / "train.jsonl").read_bytes(), 1)
    )
    caches = [
        build_cache(config(plain, num_workers=1, cache_dir=tmp_path / "one"), tiny_tokenizer),
        build_cache(config(plain, num_workers=3, cache_dir=tmp_path / "three"), tiny_tokenizer),
        build_cache(config(packed, num_workers=1, cache_dir=tmp_path / "gz"), tiny_tokenizer),
    ]
    for cache in caches[1:]:
        assert np.array_equal(cache.ids, caches[0].ids)
        assert np.array_equal(cache.lengths, caches[0].lengths)
        assert np.array_equal(cache.trained_mask.packed, caches[0].trained_mask.packed)
        assert np.array_equal(cache.trained_counts, caches[0].trained_counts)
    assert caches[0].fingerprint == caches[1].fingerprint


def test_a_second_build_uses_the_first_and_another_option_is_another_cache(
    write_task, tiny_tokenizer
):
    folder = write_task("t", [chat("q", "a"), chat("r", "b")])
    stages: list[str] = []
    first = build_cache(config(folder), tiny_tokenizer, on_progress=lambda s, *_: stages.append(s))
    assert "tokenize" in stages
    stages.clear()
    again = build_cache(config(folder), tiny_tokenizer, on_progress=lambda s, *_: stages.append(s))
    assert "tokenize" not in stages
    assert again.fingerprint == first.fingerprint
    prompted = build_cache(config(folder, system_prompt="S"), tiny_tokenizer)
    assert prompted.folder != first.folder
    (folder / "more.jsonl").write_text(json.dumps(chat("s", "c")) + "\n")
    assert build_cache(config(folder), tiny_tokenizer).folder != first.folder
    shorter = build_cache(config(folder, seq_length=8), tiny_tokenizer)
    assert shorter.folder == build_cache(config(folder), tiny_tokenizer).folder


def test_a_bad_line_stops_the_build_with_its_file_and_line(write_task, tiny_tokenizer):
    good = [chat(f"q{i}", "a" * 500) for i in range(5000)]
    folder = write_task("t", [*good, {"chat_rounds": [{"role": "bogus", "content": "x"}]}])
    with pytest.raises(JobFailedError) as caught:
        build_cache(config(folder, num_workers=2), tiny_tokenizer)
    assert caught.value.where == f"{folder}/train.jsonl:5001"
    assert "bogus" in caught.value.what


def test_an_empty_file_is_missing_input(write_task, tiny_tokenizer):
    with pytest.raises(MissingInputError, match="no record"):
        build_cache(config(write_task("t", [])), tiny_tokenizer)


def test_overlong_error_names_the_file_and_line_of_the_first_long_sample(
    write_task, tiny_tokenizer
):
    write_task("t", [chat("q", "a")] * 3, file="a.jsonl")
    folder = write_task("t", [b"", chat("q", "a"), chat("q", "a" * 300)], file="b.jsonl")
    with pytest.raises(JobFailedError, match="1 samples are longer") as caught:
        build_cache(config(folder, seq_length=64, overlong="error"), tiny_tokenizer)
    assert caught.value.where == f"{folder}/b.jsonl:3"


def test_overlong_error_is_told_of_data_that_was_moved_since_it_was_tokenized(
    write_task, tiny_tokenizer, tmp_path
):
    folder = write_task("t", [chat("q", "a"), chat("q", "a" * 300)])
    build_cache(config(folder, cache_dir=tmp_path / "c"), tiny_tokenizer)
    moved = folder.parent / "elsewhere" / "t"
    moved.parent.mkdir()
    folder.rename(moved)
    short = config(moved, cache_dir=tmp_path / "c", seq_length=64, overlong="error")
    with pytest.raises(JobFailedError, match="1 samples are longer") as caught:
        build_cache(short, tiny_tokenizer)
    assert caught.value.where == f"{folder}/train.jsonl"


def test_a_compressed_file_is_tokenized_in_pieces_and_its_progress_is_told(
    write_task, tiny_tokenizer, tmp_path
):
    plain = write_task("plain", [chat(f"q{i}", f"x = {i}\n" * 60) for i in range(8_000)])
    packed = tmp_path / "packed" / "plain"
    packed.mkdir(parents=True)
    whole = (plain / "train.jsonl").read_bytes()
    (packed / "train.jsonl.gz").write_bytes(gzip.compress(whole))
    contents = []
    for folder in (plain, packed):
        told = []
        cache = build_cache(
            config(folder, num_workers=1, cache_dir=tmp_path / folder.parent.name / "cache"),
            tiny_tokenizer,
            on_progress=lambda *progress, told=told: told.append(progress),
        )
        steps = [done for stage, done, _, _ in told if stage == "tokenize"]
        assert len(steps) > 2
        assert steps == sorted(steps)
        assert 0 < steps[0] < steps[-1] == sum(file.stat().st_size for file in folder.iterdir())
        contents.append((cache.ids.tobytes(), cache.lengths.tobytes()))
    assert contents[0] == contents[1]


BUILD = """
import sys
from pathlib import Path
from runners.config import TrainConfig
from runners.data.cache import build_cache
stages = set()
def tell(stage, done, total, unit):
    if stage not in stages:
        stages.add(stage)
        print(stage, flush=True)
config = TrainConfig(
    data_paths=[sys.argv[1]], pretrained_model_path="x", cache_dir=sys.argv[3], num_workers=2
)
cache = build_cache(config, Path(sys.argv[2]), on_progress=tell)
print("samples", len(cache), int(cache.ids.sum()), flush=True)
"""


def start_build(folder, tokenizer, cache_dir):
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), str(tokenizer), str(cache_dir)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def long_task(write_task):
    return write_task("t", [chat(f"q{i}", f"x = {i}\n" * 60) for i in range(4000)])


def children_of(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_build_killed_half_way_leaves_no_cache_and_no_worker_and_the_next_one_is_right(
    long_task, tiny_tokenizer, tmp_path
):
    first = start_build(long_task, tiny_tokenizer, tmp_path / "cache")
    assert first.stdout is not None
    while first.stdout.readline() != "tokenize\n":
        assert first.poll() is None
    workers = children_of(first.pid)
    assert workers
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    deadline = time.monotonic() + 20
    while not all(map(gone, workers)):
        assert time.monotonic() < deadline, "workers outlived the build"
        time.sleep(0.05)
    assert [p.suffix for p in (tmp_path / "cache").iterdir() if p.is_dir()] == [".building"]
    second = start_build(long_task, tiny_tokenizer, tmp_path / "cache")
    right = start_build(long_task, tiny_tokenizer, tmp_path / "fresh")
    assert second.communicate()[0].splitlines()[-1] == right.communicate()[0].splitlines()[-1]
    assert not list((tmp_path / "cache").glob("*.building"))


def test_of_two_builds_at_once_one_builds_and_the_other_waits_and_uses_it(
    long_task, tiny_tokenizer, tmp_path
):
    first = start_build(long_task, tiny_tokenizer, tmp_path / "cache")
    while first.stdout.readline() != "tokenize\n":
        assert first.poll() is None
    first.send_signal(signal.SIGSTOP)  # in the midst of it
    second = start_build(long_task, tiny_tokenizer, tmp_path / "cache")
    try:
        assert second.stdout.readline() == "hash data\n"
        assert second.stdout.readline() == "wait for another build of the same data\n"
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.5)
    finally:
        first.send_signal(signal.SIGCONT)
    built, used = (build.communicate()[0].splitlines() for build in (first, second))
    assert used == built[-1:]
    assert used[0].startswith("samples 4000 ")


def test_a_dead_worker_is_an_error_and_not_a_hang(long_task, tiny_tokenizer, tmp_path):
    def kill_a_worker(stage, *_):
        if stage == "tokenize":
            for child in children_of(os.getpid()):
                os.kill(child, signal.SIGKILL)

    with pytest.raises(JobFailedError, match="killed by signal 9"):
        build_cache(
            config(long_task, num_workers=2, cache_dir=tmp_path / "c"),
            tiny_tokenizer,
            on_progress=kill_a_worker,
        )


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200))
def test_fast_ids_are_the_tokenizers_for_any_text(qwen3_encoders, text):
    slow, fast = qwen3_encoders
    assert fast(text) == slow(text)


_LINE_PARTS = ["\n", "\r", " ", "\t", "\x0b", "\x1c", "\x85", "\xa0", "}", "ab", "1", "'s", "é"]


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(_LINE_PARTS), max_size=12).map("".join))
def test_fast_ids_are_the_tokenizers_for_any_white_space_between_lines(qwen3_encoders, text):
    slow, fast = qwen3_encoders
    assert fast(text) == slow(text)


@pytest.mark.parametrize(
    "text",
    [
        "<|im_end|>",
        "a<think>b</think> <tool_call>",
        "e\u0301 \u1100\u1161 \ufb01",
        " " * 5000 + "x",
        "\n" * 3000,
        "a" * 20_000,
        "漢字かな交じり文" * 50,
        "👩‍👩‍👧‍👦 ok\r\n\t\v\x0c\x85\u2028",
        "1234567890 3.14e-10 0xff",
        "it's we'LL I'D",
    ],
)
def test_fast_ids_are_the_tokenizers_for_delicate_texts(qwen3_encoders, text):
    slow, fast = qwen3_encoders
    assert fast(text) == slow(text)


@pytest.fixture(scope="module")
def qwen3_encoders(qwen3):
    tokenizer = load_tokenizer(qwen3)
    recipe = fast_recipe(tokenizer.path)
    assert recipe is not None
    fast = fast_encoder(recipe, tokenizer.encode)
    assert fast is not None
    return tokenizer.encode, fast


def test_a_plain_byte_level_tokenizer_has_a_fast_encoder_with_the_same_ids(
    tiny_tokenizer, real_pairs
):
    tokenizer = load_tokenizer(tiny_tokenizer)
    recipe = fast_recipe(tokenizer.path)
    assert recipe is not None
    fast = fast_encoder(recipe, tokenizer.encode)
    assert fast is not None
    for doc, code in real_pairs[:200]:
        assert fast(code) == tokenizer.encode(code)
        assert fast(doc) == tokenizer.encode(doc)


@pytest.mark.parametrize("change", ["lowercase", "digits", "byte_fallback", "prefix space"])
def test_what_the_fast_path_cannot_express_is_left_to_the_tokenizer(tmp_path, change):
    folder = make_tokenizer(tmp_path / "tok", ["<|im_start|>", "<|im_end|>"])
    file = folder / "tokenizer.json"
    described = json.loads(file.read_text())
    if change == "lowercase":
        described["normalizer"] = {"type": "Lowercase"}
    elif change == "digits":
        digits = {"type": "Digits", "individual_digits": True}
        described["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [digits, described["pre_tokenizer"]],
        }
    elif change == "prefix space":
        described["pre_tokenizer"]["add_prefix_space"] = True
    else:
        described["model"]["byte_fallback"] = True
    file.write_text(json.dumps(described))
    tokenizers.Tokenizer.from_file(str(file))
    assert fast_recipe(folder / "tokenizer.json") is None


def test_a_tokenizer_that_prefixes_spaces_does_not_put_one_into_every_segment(tmp_path):
    folder = make_tokenizer(tmp_path / "tok", ["<|im_start|>", "<|im_end|>"])
    file = folder / "tokenizer.json"
    described = json.loads(file.read_text())
    described["pre_tokenizer"]["add_prefix_space"] = True
    file.write_text(json.dumps(described))
    tokenizer = load_tokenizer(folder)
    form = get_format("prompt_answer")
    record = form.decoder().decode(b'{"prompt": "add", "answer": "x"}')
    ids, _ = encode_record(record, form, tokenizer)
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\nadd<|im_end|>\n<|im_start|>assistant\nx<|im_end|>"
    )


def test_joined_text_is_cut_to_rows_and_never_cut_short(write_task, tiny_tokenizer):
    folder = write_task("t", [{"text": "def f():\n    return 1\n" * n} for n in (1, 9, 30)])
    for overlong in ("truncate", "drop", "split", "error"):
        config = TrainConfig(
            data_paths=[folder], pretrained_model_path="x", seq_length=16, overlong=overlong,
            padding_mode="concat",
        )  # fmt: skip
        cache = build_cache(config, tiny_tokenizer)
        rows = cut_to_rows(cache, np.arange(len(cache)), 16)
        shown = sum(int(stop - start) for row in rows for _, start, stop in row)
        assert shown == len(cache.ids) > 5 * 16
        assert cache.overlong.longer.sum() == 0
