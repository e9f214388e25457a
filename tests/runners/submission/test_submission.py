"""Checks and zips of submissions, on real folders."""

import hashlib
import json
import zipfile
from pathlib import Path

import msgspec
import pytest

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.errors import MissingInputError, RefusedError, UsageError
from runners.submission.checks import SubmissionFolder, check_folder, check_zip
from runners.submission.job import refuse
from runners.submission.manifest import BenchmarkFile, Manifest, TaskCount, manifest_path
from runners.submission.packing import pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole set for the demo's two questions a task, with its manifest."""
    path = tmp_path / "generations_m-1"
    path.mkdir()
    for task in TASKS:
        stored = [[f"{task} é 1"], [f"{task} 2"]]
        (path / f"generations_{task}_m-1.json").write_text(json.dumps(stored))
        (path / f"completions_{task}_m-1.jsonl").write_text("{}\n")
    write_manifest(path)
    return path


def write_manifest(
    path: Path,
    *,
    breaks_rules: tuple[str, ...] = (),
    verdict: str = "other",
    total: int = 2,
    sha256: str = "0" * 64,
) -> None:
    manifest = Manifest(
        model_name="m-1",
        settings={},
        benchmark={"mbpp.jsonl": BenchmarkFile(sha256=sha256, verdict=verdict)},
        tasks={task: TaskCount(asked=total, total=total) for task in TASKS},
        breaks_rules=list(breaks_rules),
    )
    manifest_path(path, "m-1").write_bytes(msgspec.json.encode(manifest))


def failed(path: Path) -> dict[str, str]:
    return {check.name: check.detail for check in check_folder(path) if not check.ok}


def test_a_whole_set_passes_and_its_zip_holds_the_13_files_under_one_folder(
    folder: Path, tmp_path: Path
) -> None:
    assert failed(folder) == {}
    target = tmp_path / "out" / "m-1.zip"
    pack(SubmissionFolder(folder), target)
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == [
            f"generations_m-1/generations_{task}_m-1.json" for task in TASKS
        ]
        for task in TASKS:
            name = f"generations_{task}_m-1.json"
            assert archive.read(f"generations_m-1/{name}") == (folder / name).read_bytes()
    assert all(check.ok for check in check_zip(target))
    assert [path.name for path in target.parent.iterdir()] == ["m-1.zip"]


def test_the_same_generations_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    pack(SubmissionFolder(folder), first)
    for path in folder.iterdir():
        path.touch()
    pack(SubmissionFolder(folder), second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file is missing"),
        ("[[", "not readable as JSON"),
        ('{"a": 1}', "not a JSON list"),
        ('[["a"]]', "1 questions instead of 2"),
        ('[["a"], "b"]', "question 1 is not a list of strings"),
        ('[["a"], ["b", "c"]]', "question 1 has 2 generations instead of 1"),
        ('[["a"], []]', "question 1 has 0 generations instead of 1"),
    ],
)
def test_a_file_that_would_score_nothing_is_named_with_the_reason(
    folder: Path, content: str | None, said: str
) -> None:
    path = folder / "generations_mbpp_m-1.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    found = failed(folder)
    assert list(found) == [path.name]
    assert said in found[path.name]


def test_every_broken_rule_is_one_line_of_the_refusal(folder: Path) -> None:
    for task in TASKS[:3]:
        (folder / f"generations_{task}_m-1.json").unlink()
    with pytest.raises(RefusedError) as caught:
        refuse(check_folder(folder), str(folder))
    assert caught.value.exit_code == 4
    assert str(caught.value).count("the file is missing") == 3


def test_a_sampled_set_is_refused(folder: Path) -> None:
    write_manifest(folder, breaks_rules=("it was sampled (do_sample=true)",))
    assert failed(folder) == {"greedy decoding": "it was sampled (do_sample=true)"}


def test_answers_to_a_changed_benchmark_are_refused(folder: Path) -> None:
    write_manifest(folder, verdict="changed")
    assert failed(folder) == {"benchmark": "mbpp.jsonl is a changed copy"}


@pytest.mark.parametrize("total", [3, 164])
def test_answers_to_another_benchmark_are_refused_unless_it_is_named(
    folder: Path, tmp_path: Path, total: int
) -> None:
    another, third = (_repeated_demo(tmp_path / name, total, name) for name in ("a", "b"))
    digest = hashlib.sha256((another / "mbpp.jsonl").read_bytes()).hexdigest()
    write_manifest(folder, verdict="other", total=total, sha256=digest)
    for task in TASKS:
        (folder / f"generations_{task}_m-1.json").write_text(json.dumps([["x"]] * total))
    for named in (None, third):
        refused = {each.name: each.detail for each in check_folder(folder, named) if not each.ok}
        assert list(refused) == ["benchmark"]
        assert "mbpp.jsonl is another benchmark than the competition's" in refused["benchmark"]
        assert "--benchmarks" in refused["benchmark"]
    assert all(check.ok for check in check_folder(folder, another))


def _repeated_demo(folder: Path, total: int, mark: str) -> Path:
    """A benchmark of the demo's first row of each file, ``total`` times, that differs by a mark."""
    for path in demo_benchmarks().rglob("*.jsonl"):
        rows = path.read_text().splitlines(keepends=True)
        place = folder / path.relative_to(demo_benchmarks())
        place.parent.mkdir(parents=True, exist_ok=True)
        # MBPP's first ten rows are the examples of the paper, and no questions.
        row = json.dumps(json.loads(rows[0]) | {"mark": mark}) + "\n"
        place.write_text(row * (total + 10 * (path.stem == "mbpp")))
    return folder


def test_without_a_manifest_the_competitions_counts_hold(folder: Path) -> None:
    (folder / "generation_m-1.json").unlink()
    (folder / "generations_mbpp_m-1.json").write_text(json.dumps([["x"]] * 500))
    found = failed(folder)
    assert "generations_mbpp_m-1.json" not in found
    assert found["generations_humanevalfixtests-go_m-1.json"] == "2 questions instead of 164"


def test_a_zip_with_a_stranger_in_it_fails_its_check(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.zip"
    pack(SubmissionFolder(folder), target)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("generations_m-1/notes.txt", "hello")
    assert [check.name for check in check_zip(target) if not check.ok] == ["only the 13 files"]


def test_a_zip_with_two_top_folders_or_none_is_no_submission(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.zip"
    pack(SubmissionFolder(folder), target)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("stray.json", "[]")
    with pytest.raises(UsageError, match="one top folder"):
        check_zip(target)
    (tmp_path / "no.zip").write_text("text")
    with pytest.raises(UsageError, match="no zip"):
        check_zip(tmp_path / "no.zip")


def test_a_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        check_folder(tmp_path / "generations_x")
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="not generations_"):
        check_folder(tmp_path / "out")
