"""Replaying from the app: what it would do is shown before ``mft-tui --replay`` is started.

Apart from the other actions because a replay is planned first: its inputs are looked at, and what
has changed since is for the person to accept or not.
"""

from typing import TYPE_CHECKING

from db.records import RunRecord

if TYPE_CHECKING:
    from db import Store
    from mft_tui.app import MftApp
    from runners.lifecycle.replay import Plan

_GRADES = {
    "A": "everything is as it was: the same bytes are expected",
    "B": "other software or hardware: the same numbers within tolerance are expected",
    "C": "inputs have changed or cannot be vouched for: nothing is expected",
}
_ITEMS_SHOWN = 6


async def replay_run(app: "MftApp", run: RunRecord) -> None:
    """Plan a replay, ask, and run ``mft-tui --replay`` on its own."""
    from mft_tui.screens.actions import alone

    with alone(app, "a replay", run.name or run.id) as free:
        if free:
            await _plan_and_replay(app, run)


async def _plan_and_replay(app: "MftApp", run: RunRecord) -> None:
    from mft_tui.screens.actions import attempt, start_command
    from mft_tui.screens.ask import Confirm

    def plan(store: "Store") -> "Plan":
        from runners.hardware.probe import detect
        from runners.lifecycle.replay import make_plan

        return make_plan(store, app.state, run.id, detect().to_json())

    # In a lane of its own: it hashes the inputs, and stopping a run must not wait for that.
    found = await attempt(app, plan, by=app.planner)
    if found is None:
        return
    argv = replay_command(found, run.id)
    detail = f"{plan_words(found)}\n\n$ mft-tui {' '.join(argv)}"
    if await app.push_screen_wait(Confirm(f"Replay {run.name or run.id}?", detail)):
        await start_command(app, argv)


def replay_command(plan: "Plan", run_id: str) -> list[str]:
    """The arguments that replay it with the inputs as they are: yes to the plan is yes to them."""
    from runners.lifecycle.replay import INPUT_ROLES

    drifted = sorted({item.role for item in plan.of("drifted")} & INPUT_ROLES)
    return ["--replay", run_id, *(["--allow-drift", ",".join(drifted)] if drifted else [])]


def plan_words(plan: "Plan") -> str:
    """The runs, the grade, and the inputs that are not what they were."""
    kinds = ", ".join(run.kind for run in plan.runs)
    lines = [f"{kinds}: grade {plan.grade}", _GRADES[plan.grade]]
    odd = plan.of("drifted", "missing", "unknown")
    lines += [f"  {item.standing} {item.role}: {item.name}" for item in odd[:_ITEMS_SHOWN]]
    if len(odd) > _ITEMS_SHOWN:
        lines.append(f"  and {len(odd) - _ITEMS_SHOWN} more")
    return "\n".join(lines)
