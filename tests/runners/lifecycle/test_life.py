"""A run's life with real processes: it ends well, badly, by request, and by murder."""

import json
import os
import random
import signal
import time

import psutil
import pytest

from runners.errors import MissingInputError, UsageError
from runners.lifecycle.events import Finished, read_events
from runners.lifecycle.launch import resume
from runners.lifecycle.liveness import refresh, refresh_run
from runners.lifecycle.processes import ProcessId, marked
from runners.lifecycle.status import LIVE, read_status
from runners.lifecycle.stop import request_stop
from tests.runners.lifecycle.conftest import Bench


def test_a_run_finishes_and_everything_it_told_is_in_the_store(bench: Bench) -> None:
    run_id = bench.start("steps=7")
    run = bench.ended(run_id)
    assert (run.status, run.exit_code, run.message) == ("finished", 0, "")
    assert json.loads(run.summary) == {"steps": 7}
    assert bench.stored(run_id) == list(range(1, 8))
    assert [a.kind for a in bench.store.artifacts(run_id)] == ["count"]
    assert run.started_at is not None
    assert run.ended_at is not None
    assert run.created_at <= run.started_at <= run.ended_at
    assert (run.stage, run.done, run.total) == ("counting", 7, 7)


def test_the_run_folder_alone_tells_the_whole_story(bench: Bench) -> None:
    run_id = bench.start("steps=3")
    bench.ended(run_id)
    folder = bench.folder(run_id)
    assert json.loads(folder.config.read_text())["sandbox"] == "bwrap"
    assert json.loads(folder.launch.read_text())["argv"][-1] == str(folder.path)
    assert json.loads(folder.provenance.read_text())["inputs"][0]["role"] == "generations"
    assert "step 3" in folder.console.read_text()
    status = read_status(folder.status)
    assert status is not None
    assert (status.status, status.exit_code, status.inputs_verified) == ("finished", 0, True)


def test_an_error_of_the_persons_is_told_with_its_exit_code(bench: Bench) -> None:
    run = bench.ended(bench.start("steps=5,fail=3"))
    assert (run.status, run.exit_code) == ("failed", 5)
    assert "data.jsonl: a file went missing" in run.message
    assert bench.stored(run.id) == [1, 2]


def test_a_fault_of_ours_fails_the_run_and_its_traceback_is_in_the_log(bench: Bench) -> None:
    run = bench.ended(bench.start("steps=5,bug=2"))
    assert (run.status, run.exit_code) == ("failed", 1)
    assert "ZeroDivisionError" in run.message
    assert "Traceback" in bench.folder(run.id).console.read_text()


def test_a_stop_lets_the_job_finish_its_step_and_a_resume_goes_on_there(bench: Bench) -> None:
    run_id = bench.start("steps=4000,pause=0.02")
    request_stop(bench.at_step(run_id, 3))
    stopped = bench.ended(run_id)
    assert (stopped.status, stopped.exit_code) == ("stopped", 130)
    assert "stopping" in bench.folder(run_id).console.read_text()
    reached = bench.logged(run_id)[-1]
    assert 3 <= reached < 4000
    bench.monkeypatch.setenv("STAND_IN", f"steps={reached + 5},pause=0.01")
    assert resume(run_id[:9], store=bench.store, state=bench.state) == run_id
    run = bench.ended(run_id)
    assert (run.status, run.attempt) == ("finished", 2)
    assert bench.stored(run_id) == list(range(1, reached + 6))


def test_a_job_that_will_not_stop_is_killed_with_its_orphans(bench: Bench) -> None:
    run_id = bench.start("steps=4000,pause=0.05,stubborn=1,orphan=1", grace=0.5)
    bench.at_step(run_id, 2)
    assert len(marked(run_id)) == 2
    request_stop(bench.store.get_run(run_id))
    run = bench.ended(run_id)
    assert run.status == "stopped"
    assert not marked(run_id)


def test_an_orphan_in_a_session_of_its_own_does_not_outlive_a_job_that_ends(bench: Bench) -> None:
    run = bench.ended(bench.start("steps=2,orphan=1"))
    assert run.status == "finished"
    assert not marked(run.id)


def test_a_job_that_cannot_be_started_is_a_failed_run(bench: Bench) -> None:
    from runners.lifecycle.command import JobCommand

    run = bench.ended(bench.start(job_command=lambda _c, _f: JobCommand(["/nonexistent/program"])))
    assert run.status == "failed"
    assert "/nonexistent/program" in run.message


def test_a_missing_input_is_refused_before_anything_is_recorded(bench: Bench) -> None:
    (bench.inputs / "bench" / "mbpp.jsonl").unlink()
    (bench.inputs / "bench").rmdir()
    with pytest.raises(MissingInputError, match="benchmarks"):
        bench.start()
    assert bench.store.list_runs().total == 0
    assert not list(bench.state.runs.glob("*"))


def test_only_an_ended_run_that_did_not_finish_can_be_resumed(bench: Bench) -> None:
    run_id = bench.start("steps=2")
    with pytest.raises(UsageError, match="already"):
        resume(run_id, store=bench.store, state=bench.state)
    bench.ended(run_id)
    with pytest.raises(UsageError, match="finished"):
        resume(run_id, store=bench.store, state=bench.state)


def test_inputs_that_change_during_the_run_are_named(bench: Bench) -> None:
    run_id = bench.start("steps=20,pause=0.05")
    bench.at_step(run_id, 1)
    changed = bench.inputs / "bench" / "mbpp.jsonl"
    changed.write_text("[1]\n")
    run = bench.ended(run_id)
    assert run.status == "finished"
    assert str(bench.inputs / "bench") in run.message
    status = read_status(bench.folder(run_id).status)
    assert status is not None
    assert status.inputs_verified is False


def kill_at_random(bench: Bench, victims: str, seed: int) -> None:
    """Kill, look at once, count what is there; then resume to the end and count again."""
    chance = random.Random(seed)
    run_id = bench.start("steps=4000,pause=0.02,orphan=1")
    run = bench.started(run_id)
    time.sleep(chance.uniform(0, 2.5))
    if victims in {"supervisor", "both"}:
        assert run.supervisor_pid is not None
        os.kill(run.supervisor_pid, signal.SIGKILL)
    if victims in {"job", "both"}:
        assert run.job_pid is not None
        try:
            os.kill(run.job_pid, signal.SIGKILL)
        except ProcessLookupError:
            assert victims == "both"  # it went with its supervisor
    if victims == "job":
        seen = bench.ended(run_id)
    else:
        seen = refresh_run(bench.store, bench.store.get_run(run_id))
        # The guard may be at it in this very moment; it holds the lock then.
        seen = bench.ended(run_id) if seen.status in LIVE else seen
    assert seen.status == "crashed", (seed, seen)
    assert not marked(run_id)
    logged = bench.logged(run_id)
    assert bench.stored(run_id) == logged == list(range(1, len(logged) + 1))

    last = len(logged) + 20
    bench.monkeypatch.setenv("STAND_IN", f"steps={last},pause=0")
    resume(run_id, store=bench.store, state=bench.state)
    run = bench.ended(run_id)
    assert (run.status, run.attempt) == ("finished", 2), (seed, bench.told(run_id))
    assert bench.stored(run_id) == list(range(1, last + 1))
    finished = [e for e, _ in read_events(bench.folder(run_id).events) if isinstance(e, Finished)]
    assert len(finished) == 1


@pytest.mark.parametrize("victims", ["supervisor", "job", "both"])
def test_a_killed_run_is_crashed_at_once_loses_nothing_and_resumes(
    bench: Bench, victims: str
) -> None:
    kill_at_random(bench, victims, seed=1)


@pytest.mark.full
@pytest.mark.parametrize("victims", ["supervisor", "job", "both"])
@pytest.mark.parametrize("seed", range(2, 22))
def test_a_run_killed_at_any_moment_loses_nothing(bench: Bench, victims: str, seed: int) -> None:
    kill_at_random(bench, victims, seed)


def _id_of(process: psutil.Process) -> ProcessId | None:
    return ProcessId.of(process.pid)


def test_supervisor_guard_and_job_killed_together_leave_no_process(bench: Bench) -> None:
    run_id = bench.start("steps=400,pause=0.02,orphan=1,stubborn=1")
    bench.at_step(run_id, 2)
    run = bench.started(run_id)
    assert run.supervisor_pid is not None
    supervisor = psutil.Process(run.supervisor_pid)
    guard = supervisor.parent()
    assert guard is not None
    assert "runners.lifecycle.supervise" in guard.cmdline()
    killed = [guard, supervisor, psutil.Process(run.job_pid)]
    for process in killed:
        process.kill()
    # A busy machine takes its time to kill; a zombie is as dead as it gets without a parent.
    bench.until(run_id, lambda _: not any(who and who.alive for who in map(_id_of, killed)))
    assert refresh(bench.store) == [run_id]
    assert bench.store.get_run(run_id).status == "crashed"
    assert not marked(run_id)
    assert bench.stored(run_id) == bench.logged(run_id)


def test_a_supervisor_that_was_taken_for_dead_takes_its_run_back(bench: Bench) -> None:
    run_id = bench.start("steps=4000,pause=0.05")
    bench.until(run_id, lambda run: run.status == "running")
    assert bench.store.transition(run_id, "crashed", expected={"running"})
    bench.until(run_id, lambda run: run.status == "running")
    request_stop(bench.store.get_run(run_id))
    assert bench.ended(run_id).status == "stopped"


def test_two_that_resume_at_once_start_one_attempt(bench: Bench) -> None:
    run_id = bench.start("steps=2,fail=2")
    bench.ended(run_id)
    bench.monkeypatch.setenv("STAND_IN", "steps=30,pause=0.02")
    resume(run_id, store=bench.store, state=bench.state)
    with pytest.raises(UsageError):
        resume(run_id, store=bench.store, state=bench.state)
    assert bench.ended(run_id).attempt == 2
