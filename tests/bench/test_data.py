"""Measurements of the data room: parse speed, tokenizing, packing, and flat memory.

Each is a ratio to something measured in the same run on the same machine, best of several rounds.
"""

import gzip
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import tokenizers

from runners.config import TrainConfig
from runners.data.cache import build_cache
from runners.data.packing import fill, pack_best_fit
from runners.data.records import ChatRounds
from runners.data.sources import find_tasks
from runners.data.validate import validate

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

COPIES = 75  # of 27 MB: 2 GB


@pytest.fixture(scope="module")
def stdlib_data(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real three-task data set; MFT_BENCH_DATA names a folder that has it already."""
    if given := os.environ.get("MFT_BENCH_DATA"):
        return Path(given)
    folder = tmp_path_factory.mktemp("stdlib") / "data"
    subprocess.run(
        [sys.executable, shared / "tools" / "stdlib_tasks.py", folder],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


@pytest.fixture(scope="module")
def two_gigabytes(stdlib_data: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("big") / "task"
    folder.mkdir()
    with (folder / "train.jsonl").open("wb") as big:
        for _ in range(COPIES):
            for path in sorted(stdlib_data.glob("*/*.jsonl")):
                with path.open("rb") as part:
                    shutil.copyfileobj(part, big, 1 << 20)
    yield folder
    shutil.rmtree(folder)


def files_under(folder: Path) -> list[Path]:
    return [file.path for task in find_tasks([folder]) for file in task.files]


def bare_decode(folder: Path) -> None:
    """What the ratio is against: every line decoded into its type, and nothing else."""
    decode = msgspec.json.Decoder(ChatRounds).decode
    for path in files_under(folder):
        with path.open("rb") as lines:
            for line in lines:
                decode(line)


def best_seconds(work, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


def peak_memory_of(argv: list[str]) -> tuple[int, float]:
    """Most resident bytes of a program and its children together, and its seconds.

    Pages that several of them share count once for each, so the truth is a little lower.
    """
    begin = time.perf_counter()
    process = psutil.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        total = 0
        try:
            for one in [process, *process.children(recursive=True)]:
                total += one.memory_info().rss
        except psutil.Error:
            continue
        peak = max(peak, total)
        time.sleep(0.02)
    return peak, time.perf_counter() - begin


def test_validation_runs_at_seven_tenths_of_a_bare_decode_or_better(stdlib_data, two_gigabytes):
    for name, folder, rounds in (("27 MB", stdlib_data, 7), ("2 GB", two_gigabytes, 2)):
        bare = one = two = float("inf")
        for _ in range(rounds):  # taking turns, so that a busy moment hits all three
            bare = min(bare, best_seconds(lambda f=folder: bare_decode(f), 1))
            one = min(one, best_seconds(lambda f=folder: validate([f], workers=1), 1))
            two = min(two, best_seconds(lambda f=folder: validate([f], workers=2), 1))
        print(
            f"\nvalidate {name}: bare decode {bare:.2f} s; one worker {one:.2f} s, ratio "
            f"{bare / one:.2f}; two workers {two:.2f} s, ratio {bare / two:.2f}"
        )
        assert bare / one >= 0.7
        if name == "27 MB":
            # Two processes take longer to start than one takes for all of it, which is why
            # `mft-tui validate` keeps data of this size to one.
            print(f"validate {name}: too little for two workers; one is what it gets")
        else:
            assert two < one


def test_validation_memory_is_flat(stdlib_data, two_gigabytes):
    for name, folder in (("27 MB", stdlib_data), ("2 GB", two_gigabytes)):
        argv = [sys.executable, "-m", "mft_tui", "validate", str(folder), "--json"]
        peak, seconds = peak_memory_of(argv)
        print(f"\nmft-tui validate {name}: peak {peak / 1e6:.0f} MB, {seconds:.1f} s")
        assert peak < 250e6


BUILD = """
import sys
from pathlib import Path
from runners.config import TrainConfig
from runners.data.cache import build_cache
build_cache(
    TrainConfig(data_paths=sys.argv[3:], pretrained_model_path="x", cache_dir=sys.argv[2]),
    Path(sys.argv[1]),
)
"""


@pytest.fixture(scope="module")
def ten_copies(stdlib_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ten")
    for task in find_tasks([stdlib_data]):
        (folder / task.name).mkdir()
        for copy in range(10):
            shutil.copy(task.files[0].path, folder / task.name / f"{copy}.jsonl")
    return folder


def encode_batch_rate(folder: Path, tokenizer_file: Path) -> float:
    """Tokens a second of ``tokenizers`` on all cores, with nothing around it."""
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    tokenizer.encode_special_tokens = True
    decode = msgspec.json.Decoder(ChatRounds).decode
    texts = [
        turn.content
        for path in files_under(folder)
        for line in path.read_bytes().splitlines()
        for turn in decode(line).chat_rounds
    ]
    begin = time.perf_counter()
    count = 0
    for first in range(0, len(texts), 4096):
        batch = tokenizer.encode_batch(texts[first : first + 4096], add_special_tokens=False)
        count += sum(len(encoding.ids) for encoding in batch)
    return count / (time.perf_counter() - begin)


def test_tokenizing_is_four_times_as_fast_as_encode_batch(
    stdlib_data, ten_copies, shared, tmp_path
):
    qwen3 = shared / "tokenizers" / "qwen3"
    bare = max(encode_batch_rate(stdlib_data, qwen3 / "tokenizer.json") for _ in range(2))
    ratios = {}
    for name, folder in (("27 MB", stdlib_data), ("270 MB", ten_copies)):
        config = TrainConfig(
            data_paths=[folder], pretrained_model_path="x", seq_length=100_000,
            cache_dir=tmp_path / name,
        )  # fmt: skip
        begin = time.perf_counter()
        first: list[float] = []
        cache = build_cache(
            config, qwen3, on_progress=lambda s, *_, f=first: s == "tokenize" and f.append(clock())
        )
        ended = time.perf_counter()
        whole = len(cache.ids) / (ended - begin)
        # From the first part on: what all data but the first part of each worker took.
        steady = len(cache.ids) / (ended - first[0]) * (1 - 1 / len(first))
        ratios[name] = whole / bare
        print(
            f"\ntokenizing {name}: encode_batch {bare / 1e6:.2f} M tokens/s; whole build, start of "
            f"workers included, {whole / 1e6:.2f} M tokens/s, ratio {ratios[name]:.1f} "
            f"(first part after {first[0] - begin:.1f} s; from then on {steady / 1e6:.2f} M "
            f"tokens/s, ratio {steady / bare:.1f})"
        )
    # The start of processes and the comparison of the two encoders are done once however much data
    # there is, and take much of the small set's time; so the larger set's build is held to the bar.
    assert ratios["270 MB"] >= 4


def clock() -> float:
    return time.perf_counter()


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
def test_tokenizing_memory_is_flat(compressed, stdlib_data, ten_copies, shared, tmp_path):
    peaks = []
    for name, plain in (("27 MB", stdlib_data), ("270 MB", ten_copies)):
        folder = one_compressed_file(plain, tmp_path / f"{name} gz") if compressed else plain
        argv = [sys.executable, "-c", BUILD, str(shared / "tokenizers" / "qwen3")]
        peak, seconds = peak_memory_of([*argv, str(tmp_path / name), str(folder)])
        peaks.append(peak)
        kind = "one gz file" if compressed else "plain"
        print(f"\ncache build {name}, {kind}: peak {peak / 1e6:.0f} MB, {seconds:.1f} s")
    assert peaks[1] < peaks[0] * 1.25


def one_compressed_file(folder: Path, target: Path) -> Path:
    """All files of the tasks in ``folder`` as a task of one file, which one worker must read."""
    target.mkdir()
    with gzip.open(target / "train.jsonl.gz", "wb", compresslevel=1) as packed:
        for path in files_under(folder):
            with path.open("rb") as part:
                shutil.copyfileobj(part, packed, 1 << 20)
    return target


def test_packing_fills_rows_and_is_fast(stdlib_data, shared, tmp_path):
    config = TrainConfig(
        data_paths=[stdlib_data], pretrained_model_path="x", seq_length=4096, cache_dir=tmp_path
    )
    lengths = build_cache(config, shared / "tokenizers" / "qwen3").lengths
    rows = pack_best_fit(lengths, 4096)
    seconds = best_seconds(lambda: pack_best_fit(lengths, 4096), 5)
    many = np.tile(lengths, 20)
    seconds_many = best_seconds(lambda: pack_best_fit(many, 4096), 2)
    print(
        f"\npacking: {fill(rows, lengths, 4096):.2%} filled at 4096; "
        f"{len(lengths) / seconds:,.0f} samples/s, {len(many) / seconds_many:,.0f} on 20 copies"
    )
    assert fill(rows, lengths, 4096) >= 0.98
    assert min(len(lengths) / seconds, len(many) / seconds_many) >= 300_000
