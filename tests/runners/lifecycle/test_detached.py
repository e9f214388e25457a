"""Launching in a process that outlives whoever asked for it."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from db import LIVE_STATUSES, open_store
from runners.config import ExportConfig
from runners.lifecycle.detached import (
    Hashing,
    Launched,
    Launcher,
    News,
    Refused,
    left_behind,
    start_launch,
)
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.hashing import HashCache
from runners.lifecycle.launchfile import read_launch

SLOW = 64 << 30
"""A hole of so many bytes takes a minute to hash, and no space."""


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """A state folder."""
    return StateFolder(tmp_path / "state")


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """A folder of generations with nothing in it that an export would take."""
    folder = tmp_path / "generations_m"
    folder.mkdir()
    (folder / "generations_mbpp_m.json").write_text("[]")
    return folder


def _slow(folder: Path) -> None:
    with (folder / "hole").open("wb") as file:
        file.truncate(SLOW)


def _until(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def _outcome(launcher: Launcher) -> News:
    _until(lambda: isinstance(launcher.news(), Launched | Refused))
    news = launcher.news()
    assert news is not None
    return news


def _over(state: StateFolder, run_id: str) -> bool:
    with open_store(state.database) as store:
        return store.get_run(run_id).status not in LIVE_STATUSES


def test_the_run_has_the_id_name_and_origins_that_were_asked_for(
    state: StateFolder, answers: Path
) -> None:
    config = ExportConfig(generations=answers)
    launcher = start_launch(config, state, name="mine", origins={"generations": "flag"})
    assert _outcome(launcher) == Launched()
    with open_store(state.database) as store:
        run = store.get_run(launcher.run_id)
    assert (run.name, run.kind) == ("mine", "export")
    assert json.loads(run.config) == config.model_dump(mode="json")
    assert read_launch(state.run(run.id).launch).origins == {"generations": "flag"}
    launcher.forget()
    assert list((state.root / "launches").iterdir()) == []
    _until(lambda: _over(state, run.id))


def test_what_cannot_be_launched_is_refused_in_the_words_of_the_command_line(
    state: StateFolder, tmp_path: Path
) -> None:
    launcher = start_launch(ExportConfig(generations=tmp_path / "nowhere"), state)
    news = _outcome(launcher)
    assert isinstance(news, Refused)
    assert "generations names" in news.words
    assert "Check the path." in news.words
    with open_store(state.database) as store:
        assert store.list_runs().total == 0


def test_how_far_the_hashing_is_is_told_and_giving_up_leaves_nothing(
    state: StateFolder, answers: Path
) -> None:
    _slow(answers)
    launcher = start_launch(ExportConfig(generations=answers), state)
    _until(lambda: isinstance(news := launcher.news(), Hashing) and news.done > 0)
    news = launcher.news()
    assert isinstance(news, Hashing)
    assert 0 < news.done < news.total
    assert news.total >= SLOW
    began = time.monotonic()
    launcher.give_up()
    assert time.monotonic() - began < 5
    assert list((state.root / "launches").iterdir()) == []
    with open_store(state.database) as store:
        assert store.list_runs().total == 0


_ASK_AND_GO = """
import sys
from pathlib import Path
from runners.config import ExportConfig
from runners.lifecycle.detached import start_launch
from runners.lifecycle.folders import StateFolder
config = ExportConfig(generations=Path(sys.argv[2]))
print(start_launch(config, StateFolder(Path(sys.argv[1]))).run_id)
"""


def _ask_and_go(state: StateFolder, generations: Path) -> str:
    """Launch from a process that ends at once; the id."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK_AND_GO, str(state.root), str(generations)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_launch_goes_on_when_whoever_asked_for_it_is_gone(
    state: StateFolder, answers: Path
) -> None:
    run_id = _ask_and_go(state, answers)
    _until(lambda: state.run(run_id).launch.exists() and _over(state, run_id))
    _until(lambda: list((state.root / "launches").iterdir()) == [])
    assert left_behind(state) == []


def test_a_refusal_that_nobody_read_is_told_to_the_next_one_once(
    state: StateFolder, tmp_path: Path
) -> None:
    run_id = _ask_and_go(state, tmp_path / "nowhere")
    told = state.root / "launches" / f"{run_id}.jsonl"
    _until(lambda: told.exists() and b"refused" in told.read_bytes())
    [refused] = left_behind(state)
    assert "generations names" in refused.words
    assert left_behind(state) == []


def test_what_is_still_followed_is_left_to_its_follower(state: StateFolder, tmp_path: Path) -> None:
    launcher = start_launch(ExportConfig(generations=tmp_path / "nowhere"), state)
    _outcome(launcher)
    assert left_behind(state) == []
    assert isinstance(launcher.news(), Refused)


def test_a_launcher_that_is_killed_has_refused(state: StateFolder, answers: Path) -> None:
    _slow(answers)
    launcher = start_launch(ExportConfig(generations=answers), state)
    _until(lambda: launcher.news() is not None)
    launcher.process.kill()
    assert _outcome(launcher) == Refused("the launcher ended with exit status -9")


def test_hashing_that_is_interrupted_ends_at_once(tmp_path: Path) -> None:
    _slow(tmp_path)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        HashCache(tmp_path / "hashes.sqlite").hash_path(tmp_path / "hole", interrupt)
    assert time.monotonic() - began < 10


def test_a_file_of_many_reads_is_hashed_whole_and_its_end_told(tmp_path: Path) -> None:
    content = bytes(range(256)) * (1 << 20)  # 256 MiB
    (tmp_path / "weights").write_bytes(content)
    told: list[tuple[int, int]] = []
    cache = HashCache(tmp_path / "hashes.sqlite")
    found = cache.hash_path(tmp_path / "weights", lambda *so_far: told.append(so_far))
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert told[-1] == (len(content), len(content))
