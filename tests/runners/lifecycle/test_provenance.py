"""What is gathered before a run, and the hashes that make it worth something."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from runners.config import EvaluateConfig, GenerateConfig, TrainConfig
from runners.errors import MissingInputError
from runners.lifecycle.hashing import HashCache
from runners.lifecycle.job import digest_path
from runners.lifecycle.provenance import Provenance, config_hash, gather, read_git

SETTLED = 1e12
"""A clock far enough ahead that every file counts as settled."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "vocab.json"):
        (folder / name).write_text(f"content of {name}")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "task"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text("{}\n")
    return folder


def _gathered(config: TrainConfig | EvaluateConfig | GenerateConfig, tmp_path: Path) -> Provenance:
    return gather(
        config,
        ["python", "-m", "runners.train"],
        cache=HashCache(tmp_path / "hashes.sqlite"),
        cwd=tmp_path,
        environ={"OMP_NUM_THREADS": "2", "HF_TOKEN": "secret", "WANDB_API_KEY": "x", "TZ": "UTC"},
        hardware={"gpus": [], "driver": None},
        clock=lambda: 5.0,
    )


def test_everything_that_may_have_made_a_difference_is_kept_and_no_secret(
    tmp_path: Path, model: Path, data: Path
) -> None:
    config = TrainConfig(data_paths=[data], pretrained_model_path=str(model), seed=7)
    kept = _gathered(config, tmp_path)
    assert (kept.at, kept.config_hash, kept.cwd) == (5.0, config_hash(config), str(tmp_path))
    assert kept.command == ["python", "-m", "runners.train"]
    by_role = {record.role: record for record in kept.inputs}
    assert by_role.keys() == {"dataset", "model", "tokenizer"}
    assert by_role["dataset"].files[0].sha256 == hashlib.sha256(b"{}\n").hexdigest()
    assert {file.path for file in by_role["tokenizer"].files} == {"tokenizer.json", "vocab.json"}
    assert len(by_role["model"].files) == 4
    assert kept.seeds["seed"] == 7
    assert kept.determinism == {"deterministic": False}
    assert kept.environment == {"OMP_NUM_THREADS": "2", "TZ": "UTC"}
    assert kept.hardware == {"gpus": [], "driver": None}
    assert kept.packages["msgspec"]
    for known in (kept.python["version"], kept.system["machine"], kept.code["sources_sha256"]):
        assert known


def test_the_same_data_elsewhere_has_the_same_fingerprint(
    tmp_path: Path, model: Path, data: Path
) -> None:
    def fingerprint(folder: Path) -> str:
        config = TrainConfig(data_paths=[folder], pretrained_model_path=str(model))
        return _gathered(config, tmp_path).data_fingerprint

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.jsonl").write_text("{}\n")
    before = fingerprint(data)
    assert fingerprint(elsewhere) == before
    (elsewhere / "a.jsonl").write_text("{ }\n")
    assert fingerprint(elsewhere) != before


def test_an_input_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = EvaluateConfig(generations=tmp_path / "none", benchmarks=tmp_path)
    with pytest.raises(MissingInputError, match="not there"):
        _gathered(config, tmp_path)


def test_a_working_folder_is_recorded_with_its_changes_and_unknown_files(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True)

    git("init", "-q", "-b", "main")
    (tmp_path / "known.py").write_text("a = 1\n")
    git("add", "known.py")
    git("commit", "-q", "-m", "first")
    clean = read_git(tmp_path)
    assert clean is not None
    assert (clean.branch, clean.dirty, len(clean.commit or "")) == ("main", False, 40)
    (tmp_path / "known.py").write_text("a = 2\n")
    (tmp_path / "new.py").write_text("b = 1\n")
    dirty = read_git(tmp_path)
    assert dirty is not None
    assert dirty.dirty
    assert "+a = 2" in dirty.diff
    assert dirty.untracked == {"new.py": hashlib.sha256(b"b = 1\n").hexdigest()}


def test_outside_a_repository_there_is_nothing_to_record(tmp_path: Path) -> None:
    assert read_git(tmp_path) is None


# The cache of hashes


def test_a_file_is_read_once_as_long_as_size_time_and_inode_stay(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"first")
    cache = HashCache(tmp_path / "hashes.sqlite", clock=lambda: SETTLED)
    first = cache.hash_path(file).sha256
    assert first == hashlib.sha256(b"first").hexdigest()
    told: list[tuple[int, int]] = []
    stat = file.stat()
    file.write_bytes(
        b"other"
    )  # the same size and inode, and then the same time: taken for the same
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.hash_path(file, lambda *so_far: told.append(so_far)).sha256 == first
    assert told == []
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert cache.hash_path(file).sha256 == hashlib.sha256(b"other").hexdigest()


def test_a_file_that_was_written_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"first")
    cache = HashCache(tmp_path / "hashes.sqlite")
    cache.hash_path(file)
    stat = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.hash_path(file).sha256 == hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize("broken", ["a folder", "no database"])
def test_a_cache_that_cannot_be_used_is_as_good_as_empty(tmp_path: Path, broken: str) -> None:
    place = tmp_path / "hashes.sqlite"
    place.mkdir() if broken == "a folder" else place.write_bytes(b"nothing" * 999)
    file = tmp_path / "weights"
    file.write_bytes(b"first")
    cache = HashCache(place, clock=lambda: SETTLED)
    assert cache.hash_path(file).sha256 == hashlib.sha256(b"first").hexdigest()


def test_a_folders_hash_is_the_one_that_jobs_record_for_their_artifacts(
    tmp_path: Path, model: Path
) -> None:
    hashed = HashCache(tmp_path / "hashes.sqlite").hash_path(model)
    assert (hashed.sha256, hashed.bytes) == digest_path(model)
