"""The commands when something is wrong with the store, and when runs move between machines."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mft_tui.test_cli_runs import PROJECT, inputs, launched, mft

__all__ = ["inputs"]


def _run_ids(inputs: Path, *behaviours: str) -> list[str]:
    return [json.loads(launched(inputs, how).stdout)["run_id"] for how in behaviours]


def _listed() -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in json.loads(mft("runs", "list", "--json").stdout)}


def _inside(command: str, *mounts: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell command with other mounts; ``mft-tui`` in it is this one."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("needs bubblewrap (apt install bubblewrap) for a disk of its own")
    ours = f"{sys.executable} -c 'from mft_tui.cli.main import main; main()'"
    script = command.replace("mft-tui", ours)
    done = subprocess.run(
        [bwrap, "--bind", "/", "/", "--dev-bind", "/dev", "/dev", *mounts, "sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        timeout=120,
        check=False,
    )
    if "bwrap: " in done.stderr:
        pytest.skip(f"bubblewrap cannot mount here: {done.stderr.strip()}")
    return done


def test_a_damaged_store_is_told_and_made_anew_from_the_run_folders(
    inputs: Path, mft_home: Path
) -> None:
    first, second = _run_ids(inputs, "steps=4", "steps=3")
    mft("runs", "tag", first, "best")
    mft("runs", "note", first, "the good one")
    mft("runs", "rm", second)
    sound = mft("runs", "rebuild")
    assert (sound.returncode, "is sound" in sound.stderr) == (0, True)
    store = mft_home / "mft.db"
    content = bytearray(store.read_bytes())
    # Everything from the sixth page on; the runs themselves stand before it.
    page = int.from_bytes(content[16:18], "big")
    content[5 * page : -5 * page] = b"\xff" * (len(content) - 10 * page)
    store.write_bytes(content)

    told = mft("runs", "list", "loss<9")
    assert told.returncode == 1
    assert "is damaged" in told.stderr
    assert "mft-tui runs rebuild --yes" in told.stderr
    assert mft("runs", "rebuild").returncode == 4
    assert store.read_bytes() == bytes(content)

    done = mft("runs", "rebuild", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["from_folders"]) == {first, second}
    assert Path(report["aside"]).read_bytes() == bytes(content)
    shown = json.loads(mft("runs", "show", first, "--json").stdout)
    assert (shown["status"], len(shown["series"]["loss"])) == ("finished", 4)
    assert shown["note"] == "the good one"  # a run folder does not have it; the tags are lost
    assert second not in _listed(), "what was in the trash stays there"
    assert mft("runs", "rebuild").returncode == 0


def test_a_file_that_is_no_store_at_all_is_made_anew_too(inputs: Path, mft_home: Path) -> None:
    (run_id,) = _run_ids(inputs, "steps=3")
    for part in mft_home.glob("mft.db-*"):
        part.unlink()
    (mft_home / "mft.db").write_bytes(b"no database\n" * 999)
    assert mft("runs", "list").returncode == 1
    assert mft("runs", "rebuild", "--yes").returncode == 0
    assert _listed()[run_id]["metrics"] == {"loss": 1 / 3, "lr": 0.1}


def test_a_rebuilt_store_goes_on_with_a_run_that_is_going(inputs: Path, mft_home: Path) -> None:
    run_id = json.loads(launched(inputs, "steps=9000,pause=0.02", "detach").stdout)["run_id"]
    for part in mft_home.glob("mft.db*"):
        part.rename(part.with_name(f"old-{part.name}"))
    (mft_home / "mft.db").write_bytes(b"no database\n" * 999)
    assert mft("runs", "rebuild", "--yes").returncode == 0
    assert _listed()[run_id]["status"] in {"queued", "running"}
    stopped = mft("stop", run_id, "--json")
    assert json.loads(stopped.stdout)["status"] == "stopped", stopped.stderr
    logged = mft("logs", run_id).stdout.count("step ") - 1  # "begins at step 0"
    shown = json.loads(mft("runs", "show", run_id, "--json").stdout)
    assert [p["step"] for p in shown["series"]["loss"]] == list(range(1, logged + 1))


def test_a_whole_store_travels_without_duplicates(
    inputs: Path, mft_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _run_ids(inputs, "steps=4", "steps=3")
    mft("runs", "tag", first, "best")
    mft("runs", "note", second, "a note")
    store = tmp_path / "all.db"
    assert mft("runs", "export", "--as", "store", "-o", str(store)).returncode == 0
    assert mft("runs", "export", "--as", "store", "-o", str(store)).returncode == 2

    monkeypatch.setenv("MFT_HOME", str(tmp_path / "elsewhere"))
    for source, outcome in ((store, "imported"), (store, "already here"), (mft_home, "already")):
        report = json.loads(mft("runs", "import", str(source), "--json").stdout)
        assert {one["run_id"] for one in report} == {first, second}
        assert all(one["outcome"].startswith(outcome) for one in report), report
    listed = _listed()
    assert listed[first]["tags"] == ["best"]
    assert listed[second]["note"] == "a note"
    assert listed[first]["metrics"] == {"loss": 0.25, "lr": 0.1}
    # With the state folder came the run folders.
    assert mft("logs", first).stdout.endswith("step 4\n")


READING = (
    "runs list",
    "runs list --json",
    "runs show {0}",
    "runs compare {0} {1}",
    "runs note {0}",
    "logs {0}",
    "attach {0}",
    "--replay {0} --dry-run",
    "runs export {0} -o /dev/shm/{0}.tar.gz",
)


def test_a_store_that_cannot_be_written_is_still_read_by_every_command_that_only_reads(
    inputs: Path, mft_home: Path
) -> None:
    ids = _run_ids(inputs, "steps=4", "steps=3")
    commands = [f"mft-tui {each.format(*ids)} >/dev/null || echo FAILED" for each in READING]
    commands += [f"rm -f /dev/shm/{ids[0]}.tar.gz", f"mft-tui runs rename {ids[0]} x"]
    done = _inside(" ; ".join(commands), "--ro-bind", str(mft_home), str(mft_home))
    assert "FAILED" not in done.stdout, done.stderr
    assert done.stderr.count("the store cannot be written; shown as it was") == len(READING)
    assert "error: " in done.stderr.splitlines()[-2]  # the rename, with its remedy below
    assert "MFT_HOME" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_on_a_full_disk_the_runs_can_still_be_read(
    inputs: Path, mft_home: Path, tmp_path: Path
) -> None:
    ids = _run_ids(inputs, "steps=4", "steps=3")
    small = tmp_path / "small"
    small.mkdir()
    commands = [f"cp -r {mft_home} {small}/home", f"export MFT_HOME={small}/home"]
    commands += [f"dd if=/dev/zero of={small}/ballast bs=512 2>/dev/null"]
    commands += [f"mft-tui {each.format(*ids)} >/dev/null || echo FAILED" for each in READING[:5]]
    commands += [f"mft-tui runs rename {ids[0]} x"]
    done = _inside(" ; ".join(commands), "--size", str(4 << 20), "--tmpfs", str(small))
    assert "FAILED" not in done.stdout, done.stderr
    assert "the disk is full" in done.stderr.splitlines()[-2]
    assert "Traceback" not in done.stderr
