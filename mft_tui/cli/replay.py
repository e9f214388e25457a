"""``mft-tui --replay RUN_ID``: plan, grade, run again, compare, and say so in the exit status."""

from collections.abc import Sequence
from contextlib import chdir, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mft_tui.cli.output import console, data, print_json
from runners.errors import ExitCode

if TYPE_CHECKING:
    from db import Store
    from runners.lifecycle.replay import Plan
    from runners.lifecycle.replay_verdict import FileDelta, RunDelta

_WHAT_A_GRADE_MEANS = {
    "A": "everything is as it was: the same bytes are expected",
    "B": "inputs and settings are as they were, software or hardware is not: the same numbers "
    "are expected within tolerance",
    "C": "inputs differ, or nobody can vouch for them: nothing is expected",
}


def replay(
    run_id: str, *, dry_run: bool = False, allow_drift: Sequence[str] = (), json: bool = False
) -> int:
    """Replay a run and its pipeline; return the exit status.

    0: within tolerance (or ``dry_run``, and nothing refused); 3: outside it; 4: inputs changed that
    ``allow_drift`` does not name; 5: an input is gone; 1 or 130: a replayed run did not finish.
    """
    from mft_tui.cli.store import opened_store, seen, store_to_read
    from runners.hardware.probe import detect
    from runners.lifecycle.folders import StateFolder
    from runners.lifecycle.replay import check_allowed, make_plan

    with store_to_read() if dry_run else opened_store() as store:
        run = seen(store, run_id)
        plan = make_plan(store, StateFolder.default(), run.id, detect().to_json())
        _print_plan(plan)
        report: dict[str, Any] = {"run_id": run.id, "grade": plan.grade, "plan": _plain_plan(plan)}
        try:
            check_allowed(plan, frozenset(allow_drift))
        except Exception as error:
            if json:
                code = int(getattr(error, "exit_code", ExitCode.FAILED))
                print_json({**report, "refused": str(error), "exit_code": code})
            raise
        if dry_run:
            if json:
                print_json({**report, "exit_code": 0})
            return ExitCode.DONE
        deltas, code = _run_all(store, plan)
        if code == ExitCode.DONE:
            # With --json, stdout is for the JSON alone.
            code = _judge(plan, deltas, console if json else data)
        if json:
            print_json({**report, **_plain_deltas(deltas), "exit_code": int(code)})
        return code


def _run_all(store: "Store", plan: "Plan") -> "tuple[list[RunDelta], int]":
    """Run the plan's runs in order; stop at the first that does not finish."""
    from db import new_run_id
    from mft_tui.cli.launching import launch_and_follow
    from runners.lifecycle.folders import RunFolder, StateFolder
    from runners.lifecycle.provenance import read_provenance
    from runners.lifecycle.replay import replay_config
    from runners.lifecycle.replay_verdict import compare_replay
    from runners.lifecycle.rewritten import Moved

    state = StateFolder.default()
    moved: list[Moved] = []
    new_ids: dict[str, str] = {}
    deltas: list[RunDelta] = []
    for original in plan.runs:
        home = state.run(new_run_id())
        config = replay_config(original, home, moved)
        provenance = read_provenance(RunFolder(Path(original.folder)).provenance)
        cwd = Path(provenance.cwd) if provenance else None
        console.print(f"replaying {original.id} ({original.name})", markup=False)
        # Relative paths in the config mean what they meant then.
        with chdir(cwd) if cwd and cwd.is_dir() else nullcontext():
            outcome = launch_and_follow(
                config,
                name=f"replay of {original.name}",
                parent=new_ids.get(original.parent_id or ""),
                replay_of=original.id,
                run_id=home.run_id,
            )
        new_ids[original.id] = outcome.run_id
        if outcome.status != "finished":
            return deltas, outcome.exit_code or ExitCode.FAILED
        deltas.append(compare_replay(store, original, store.get_run(outcome.run_id), moved))
    return deltas, ExitCode.DONE


def _judge(plan: "Plan", deltas: "list[RunDelta]", out: Console) -> int:
    """Print the comparison; return 0 within tolerance, 3 outside."""
    outside = False
    for delta in deltas:
        out.print(f"{delta.kind}: {delta.original} replayed as {delta.replay}", markup=False)
        _print_delta(delta, out)
        outside = outside or bool(delta.problems)
    with_files = [delta for delta in deltas if delta.files]
    if outside:
        out.print("Outside tolerance.")
        return ExitCode.OUT_OF_TOLERANCE
    same = bool(with_files) and all(delta.identical for delta in with_files)
    apart = any(delta.left_out for delta in with_files)
    told = "every file identical" if same else "not every file identical"
    told += ", without what was left out above" if same and apart else ""
    out.print(f"Grade {plan.grade}; within tolerance; {told}.")
    return ExitCode.DONE


def _print_delta(delta: "RunDelta", out: Console) -> None:
    for metric in delta.metrics:
        where = (
            "equal at every step"
            if metric.first_difference is None
            else f"differs from step {metric.first_difference} on, last value "
            f"{metric.original} became {metric.replay}"
        )
        out.print(f"  {metric.key}: {where}", markup=False, soft_wrap=True)
    for score in delta.scores:
        out.print(f"  {score.task}: pass@1 {score.original} and {score.replay}", markup=False)
    for flip in delta.flipped:
        out.print(f"  flipped: {flip}", markup=False, soft_wrap=True)
    _print_files(delta, out)
    for problem in delta.problems:
        out.print(f"  OUTSIDE TOLERANCE {problem}", markup=False, soft_wrap=True)


def _print_files(delta: "RunDelta", out: Console) -> None:
    """Those that are the same by kind, with what was left out; the others one by one."""
    same: dict[tuple[str, tuple[str, ...]], list[FileDelta]] = {}
    for file in delta.files:
        if file.standing == "identical":
            same.setdefault((file.kind, file.left_out), []).append(file)
        else:
            out.print(f"  {file.kind} {file.path}: {file.standing}", markup=False, soft_wrap=True)
    for (kind, left_out), files in same.items():
        named = files[0].path if len(files) == 1 else f"{len(files)} files"
        digest = f" (sha256 {files[0].original[:16]})" if len(files) == 1 else ""
        without = f" without {', '.join(left_out)}" if left_out else ""
        out.print(f"  {kind} {named}: identical{without}{digest}", markup=False, soft_wrap=True)


def _print_plan(plan: "Plan") -> None:
    for run in plan.runs:
        console.print(f"{run.id} {run.kind} {run.name}", markup=False)
        for item in plan.items:
            if item.run_id == run.id:
                detail = f" ({item.detail})" if item.detail else ""
                console.print(
                    f"  {item.standing:<10} {item.role}: {item.name}{detail}",
                    markup=False,
                    soft_wrap=True,
                )
    console.print(
        f"Grade {plan.grade}: {_WHAT_A_GRADE_MEANS[plan.grade]}", markup=False, soft_wrap=True
    )


def _plain_plan(plan: "Plan") -> list[dict[str, Any]]:
    return [asdict(item) for item in plan.items]


def _plain_deltas(deltas: "list[RunDelta]") -> dict[str, Any]:
    return {
        "runs": [
            {
                **asdict(delta),
                "identical": delta.identical,
                "left_out": delta.left_out,
                "problems": delta.problems,
            }
            for delta in deltas
        ],
        "identical": bool(deltas) and all(d.identical for d in deltas if d.files),
        "within_tolerance": not any(delta.problems for delta in deltas),
    }
