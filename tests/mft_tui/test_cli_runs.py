"""The commands around runs, as a person or a script meets them: output, exit status, JSON."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import db

PROJECT = Path(__file__).resolve().parents[2]

LAUNCH = """
import sys
from pathlib import Path
from mft_tui.cli.launching import run_job_command
from runners.config import EvaluateConfig
from runners.lifecycle import command
command.MODULES["evaluate"] = "tests.runners.lifecycle.stand_in"
inputs = Path(sys.argv[1])
config = EvaluateConfig(generations=inputs / "generations_m", benchmarks=inputs / "bench")
sys.exit(run_job_command(config, name="a test", detach="detach" in sys.argv, json=True))
"""


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("generations_m/generations_mbpp_m.json", "bench/mbpp.jsonl"):
        file = tmp_path / "inputs" / name
        file.parent.mkdir(parents=True)
        file.write_text("[]\n")
    # The stand-in job is a module of the tests, which no installation has.
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    return tmp_path / "inputs"


def launched(inputs: Path, behaviour: str, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", LAUNCH, str(inputs), *options],
        env={**os.environ, "STAND_IN": behaviour},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def mft(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from mft_tui.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_followed_run_talks_on_stderr_and_reports_on_stdout(inputs: Path) -> None:
    done = launched(inputs, "steps=4")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["status"], report["exit_code"], report["steps"]) == ("finished", 0, 4)
    assert "counting 4/4 step" in done.stderr
    assert report["run_id"] in done.stderr

    listed = json.loads(mft("runs", "list", "--json").stdout)
    assert [(row["id"], row["status"]) for row in listed] == [(report["run_id"], "finished")]
    assert listed[0]["metrics"]["loss"] == 0.25
    rows = list(csv.reader(io.StringIO(mft("runs", "list", "kind:evaluate", "--csv").stdout)))
    assert rows[0][:2] == ["id", "kind"]
    assert rows[1][:2] == [report["run_id"], "evaluate"]

    shown = json.loads(mft("runs", "show", report["run_id"][:9], "--json").stdout)
    assert [point["step"] for point in shown["series"]["loss"]] == [1, 2, 3, 4]
    assert shown["launch_line"].endswith(shown["folder"])
    assert shown["data_fingerprint"]
    for_people = mft("runs", "show", report["run_id"]).stdout
    for word in (
        "finished",
        "launched",
        "data",
        "loss",
        "█",
        "artifacts/count.txt",
        "generations =",
    ):
        assert word in for_people

    log = mft("logs", report["run_id"], "-n", "2")
    assert log.stdout == "step 3\nstep 4\n"


def test_a_failed_run_leaves_with_its_jobs_exit_status_and_says_what_to_do(inputs: Path) -> None:
    done = launched(inputs, "steps=4,fail=2")
    assert done.returncode == 5
    assert json.loads(done.stdout)["status"] == "failed"
    assert "data.jsonl: a file went missing" in done.stderr
    assert "mft-tui resume" in done.stderr


def test_stop_and_resume_from_the_command_line(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = json.loads(launched(inputs, "steps=9000,pause=0.02", "detach").stdout)["run_id"]
    stopped = mft("stop", run_id, "--json")
    assert json.loads(stopped.stdout)["status"] == "stopped", stopped.stderr
    again = mft("stop", run_id)
    assert again.returncode == 2
    assert "was stopped" in again.stderr
    monkeypatch.setenv("STAND_IN", "steps=3")
    resumed = mft("resume", run_id, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["status"] == "finished"
    attached = mft("attach", run_id)
    assert attached.returncode == 0
    assert "attempt 2 begins" in attached.stderr


def test_ctrl_c_in_a_foreground_command_stops_the_run(inputs: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(inputs)],
        env={**os.environ, "STAND_IN": "steps=9000,pause=0.02"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "counting" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert json.loads(stdout)["status"] == "stopped"
    assert "Stopping the run" in stderr


def test_a_run_archive_is_taken_in_once_however_often_it_is_tried(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = json.loads(launched(inputs, "steps=4").stdout)["run_id"]
    mft("runs", "tag", run_id, "best")
    archive = str(tmp_path / "runs.tar.gz")
    assert mft("runs", "export", run_id, "-o", archive).returncode == 0
    monkeypatch.setenv("MFT_HOME", str(tmp_path / "elsewhere"))
    outcomes = [json.loads(mft("runs", "import", archive, "--json").stdout) for _ in range(3)]
    assert [o[0]["outcome"] for o in outcomes] == ["imported", "already here", "already here"]
    shown = json.loads(mft("runs", "show", run_id, "--json").stdout)
    assert (shown["status"], shown["name"], shown["tags"]) == ("finished", "a test", ["best"])
    assert len(shown["series"]["loss"]) == 4


def test_the_trash_is_emptied_only_when_told_so(inputs: Path, mft_home: Path) -> None:
    run_id = json.loads(launched(inputs, "steps=2").stdout)["run_id"]
    assert mft("runs", "rm", run_id).returncode == 0
    assert json.loads(mft("runs", "list", "--json").stdout) == []
    assert "could go" in mft("runs", "gc").stderr
    assert (mft_home / "runs" / run_id).is_dir()
    assert mft("runs", "gc", "--yes").returncode == 0
    assert not (mft_home / "runs" / run_id).exists()
    assert mft("runs", "show", run_id).returncode == 5


def test_a_changed_input_refuses_a_replay_and_is_named(inputs: Path) -> None:
    run_id = json.loads(launched(inputs, "steps=2").stdout)["run_id"]
    plan = mft("--replay", run_id, "--dry-run", "--json")
    assert plan.returncode == 0, plan.stderr
    assert json.loads(plan.stdout)["grade"] == "A"
    changed = inputs / "bench" / "mbpp.jsonl"
    changed.write_text("[1]\n")
    refused = mft("--replay", run_id, "--dry-run")
    assert refused.returncode == 4
    assert str(changed) in refused.stderr
    allowed = mft("--replay", run_id, "--dry-run", "--allow-drift", "benchmarks", "--json")
    assert allowed.returncode == 0
    assert json.loads(allowed.stdout)["grade"] == "C"
    changed.unlink()
    changed.parent.rmdir()
    assert mft("--replay", run_id, "--dry-run").returncode == 5
    assert mft("--replay", run_id, "--allow-drift", "weather").returncode == 2


def test_an_unknown_run_is_one_clear_error(mft_home: Path) -> None:
    for command in (("runs", "show"), ("logs",), ("stop",), ("attach",), ("resume",)):
        done = mft(*command, "zzzz")
        assert done.returncode == 5, done.stderr
        assert "zzzz" in done.stderr
        assert "Traceback" not in done.stderr


def test_two_evaluations_are_compared_question_by_question(mft_home: Path) -> None:
    verdicts = {"1first": [1] * 12 + [0] * 4, "2second": [1] * 4 + [0] * 8 + [1] + [0] * 3}
    with db.open_store(mft_home / "mft.db") as store:
        for run_id, passed in verdicts.items():
            store.insert_run(db.RunRecord(id=run_id, kind="evaluate", status="finished"))
            writer = store.writer(run_id)
            writer.verdicts(
                "mbpp",
                [
                    db.VerdictRecord(i, f"MBPP/{i}", bool(p), "passed" if p else "timeout")
                    for i, p in enumerate(passed)
                ],
            )
            writer.commit()

    told = mft("runs", "compare", "1first", "2second")

    summary = "1first to 2second: of 16 questions 1 gained, 8 lost; McNemar's exact p = 0.0391"
    assert summary in told.stdout.splitlines()
    assert "  mbpp 12 (MBPP/12): timeout became passed" in told.stdout.splitlines()
    (flips,) = json.loads(mft("runs", "compare", "1first", "2second", "--json").stdout)["flips"]
    assert (flips["gained"], flips["lost"], flips["p"]) == (1, 8, 20 / 2**9)
    assert len(flips["questions"]) == 9


def test_with_several_samples_a_question_flips_by_how_many_pass(mft_home: Path) -> None:
    with db.open_store(mft_home / "mft.db") as store:
        for run_id, passed in {"1first": (1, 1, 0), "2second": (0, 1, 0)}.items():
            store.insert_run(db.RunRecord(id=run_id, kind="evaluate", status="finished"))
            writer = store.writer(run_id)
            writer.verdicts(
                "mbpp",
                [
                    db.VerdictRecord(3, "MBPP/14", bool(p), "passed" if p else "wrong", sample=n)
                    for n, p in enumerate(passed)
                ],
            )
            writer.commit()

    told = mft("runs", "compare", "1first", "2second").stdout.splitlines()

    assert "1first to 2second: of 1 questions 0 gained, 1 lost; the sign test's exact p = 1" in told
    assert "  mbpp 3 (MBPP/14): 2 of 3 passed became 1 of 3 passed" in told
    (flips,) = json.loads(mft("runs", "compare", "1first", "2second", "--json").stdout)["flips"]
    (question,) = flips["questions"]
    assert question == {
        "task": "mbpp", "index": 3, "was": "2 of 3 passed", "is": "1 of 3 passed",
        "samples": 3, "was_passed": 2, "is_passed": 1,
    }  # fmt: skip


REPLAY = """
import sys
from mft_tui.cli.replay import replay
from runners.lifecycle import command
command.MODULES["evaluate"] = "tests.runners.lifecycle.stand_in"
sys.exit(replay(sys.argv[1], json=True))
"""


def test_a_replay_runs_in_a_record_of_its_own_and_is_held_against_the_original(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = json.loads(launched(inputs, "steps=4").stdout)["run_id"]

    def replayed(behaviour: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setenv("STAND_IN", behaviour)
        return subprocess.run(
            [sys.executable, "-c", REPLAY, original],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    same = replayed("steps=4")
    assert same.returncode == 0, same.stderr
    report = json.loads(same.stdout)
    assert (report["identical"], report["within_tolerance"]) == (True, True)
    assert "loss: equal at every step" in same.stderr
    replay_id = report["runs"][0]["replay"]
    assert json.loads(mft("runs", "show", replay_id, "--json").stdout)["replay_of"] == original
    other = replayed("steps=6")
    assert other.returncode == 3, other.stderr
    assert "OUTSIDE TOLERANCE loss" in other.stderr
