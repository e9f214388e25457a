"""What a person can do with a run, asked for here and done by ``runners.lifecycle``.

Each is an async function of the app: it may ask, it acts in the action lane (so a slow stop never
holds up reading), and it says what came of it. Nothing here knows a particular screen.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from db.errors import StoreError
from db.records import LIVE_STATUSES, RunRecord, RunRow
from runners.errors import MftError, UsageError

if TYPE_CHECKING:
    from db import Store
    from mft_tui.app import MftApp
    from mft_tui.screens.tracker import Tracker
    from runners.config.base import JobConfig

T = TypeVar("T")


async def attempt(
    app: "MftApp", deed: "Callable[[Store], T]", *, by: "Tracker | None" = None
) -> T | None:
    """Do ``deed`` in the action lane, or in another; None, and a message, when it was not done."""
    try:
        return await (by or app.actor).ask(deed)
    except (MftError, StoreError, OSError) as error:
        app.notify(str(error), title="Not done", severity="error", timeout=10)
        return None


@contextlib.contextmanager
def alone(app: "MftApp", deed: str, what: str) -> Iterator[bool]:
    """Whether nobody is at ``deed`` for ``what`` already; if so, nobody else is until the end."""
    if (deed, what) in app.under_way:
        app.notify(f"{what}: {deed} goes on already", severity="warning", timeout=4)
        yield False
        return
    app.under_way.add((deed, what))
    try:
        yield True
    finally:
        app.under_way.discard((deed, what))


async def launch_config(
    app: "MftApp",
    config: "JobConfig",
    *,
    name: str | None = None,
    parent: str | None = None,
    origins: Mapping[str, str] | None = None,
    begun: Callable[[str], None] | None = None,
    then: Callable[[str], Awaitable[None]] | None = None,
) -> str | None:
    """Start a job; its run id, or None when it was refused (which has been said).

    ``origins`` says of each key where its value came from. The launch goes on, and is told, when
    whoever asked for it is cancelled; so is ``then``, which is given the id of what was launched.
    ``begun`` is given the id that the run will have.
    """
    from mft_tui.screens.launching import follow_launch
    from runners.lifecycle.detached import start_launch
    from runners.lifecycle.launch import default_name

    shown = name or default_name(config)

    async def launch() -> str | None:
        with alone(app, f"launching ({config.kind})", shown) as free:
            if not free:
                return None
            try:
                launcher = await app.lanes["launch"].call(
                    start_launch, config, app.state, name=name, parent_id=parent, origins=origins
                )
            except OSError as error:
                app.notify(str(error), title="Not launched", severity="error", timeout=10)
                return None
            if begun is not None:
                begun(launcher.run_id)
            run_id = await follow_launch(app, shown, launcher)
            if run_id is not None and then is not None:
                await then(run_id)
            return run_id

    return await asyncio.shield(app.in_background(launch()))


async def stop_run(app: "MftApp", run_id: str) -> None:
    """Ask the run's supervisor to stop the job; that it has stopped shows later."""

    def deed(store: "Store") -> bool:
        from runners.lifecycle.stop import request_stop

        request_stop(store.get_run(run_id))
        return True

    if await attempt(app, deed):
        app.notify(f"Asked {run_id} to stop", timeout=3)
        app.runs_changed.publish(None)


async def resume_run(app: "MftApp", run: RunRecord) -> None:
    """Go on where the run ended, after asking."""
    from mft_tui.screens.ask import Confirm

    question = f"Resume {run.name or run.id}? It was {run.status}."
    if not await app.push_screen_wait(Confirm(question, f"mft-tui resume {run.id}")):
        return

    def deed(store: "Store") -> bool:
        from runners.lifecycle.launch import resume

        resume(run.id, store=store, state=app.state)
        return True

    if await attempt(app, deed):
        app.notify(f"Resumed {run.id}")
        app.runs_changed.publish(None)


async def start_command(app: "MftApp", arguments: Sequence[str]) -> None:
    """Start one of our own commands detached, its words in a log of the state folder."""
    import subprocess
    import sys

    logs = app.state.root / "commands"
    name = "-".join(part.strip("-") for part in arguments)[:60]
    log = logs / f"{int(app.clock())}-{name}.log"

    def start() -> subprocess.Popen[bytes]:
        logs.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "mft_tui", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    process = await app.lanes["actions"].call(start)
    app.notify(f"Started: mft-tui {' '.join(arguments)}", timeout=4)
    while (code := process.poll()) is None:
        await asyncio.sleep(0.5)
    text = await app.lanes["files"].call(log.read_text, "utf-8", "replace")
    words = "\n".join(text.strip().splitlines()[-4:]) or f"exit {code}"
    severity: Literal["information", "error"] = "error" if code else "information"
    app.notify(words, title=f"mft-tui {arguments[0]}: exit {code}", severity=severity, timeout=15)
    app.runs_changed.publish(None)


async def run_demo(app: "MftApp") -> None:
    """The whole way on the tiny built-in model."""
    from mft_tui.screens.ask import Confirm

    detail = "A tiny model is trained, generates, is evaluated and exported: a few minutes."
    if await app.push_screen_wait(Confirm("Run the demo?", detail)):
        await start_command(app, ["demo"])


def generations_of(store: "Store", run: RunRecord) -> tuple[str, Path] | None:
    """The generate run that a run belongs to, and its folder of generations.

    Looks at the run itself, then up through its parents, then down through its children, newest
    first: a training run, its merge or its evaluation all lead to the same submission. A generation
    that has not finished is passed over: half of the answers are no submission.
    """
    seen: set[str] = set()
    above: RunRecord | None = run
    while above is not None and above.id not in seen:
        seen.add(above.id)
        if (found := _generations(store, above)) is not None:
            return found
        above = store.get_run(above.parent_id) if above.parent_id else None
    below = [run]
    while below:
        children = [child for parent in below for child in store.children(parent.id)]
        below = sorted(children, key=lambda child: child.created_at, reverse=True)
        for child in below:
            if (found := _generations(store, child)) is not None:
                return found
    return None


def _generations(store: "Store", run: RunRecord) -> tuple[str, Path] | None:
    if run.kind != "generate" or run.status != "finished":
        return None
    for artifact in store.artifacts(run.id):
        if artifact.kind == "generations":
            path = Path(run.folder) / artifact.path
            return run.id, path if path.is_dir() else path.parent
    folders = sorted(Path(run.folder, "artifacts").glob("generations_*"))
    return (run.id, folders[0]) if folders else None


async def export_run(app: "MftApp", run: RunRecord) -> None:
    """Make the submission zip of the run's family."""
    with alone(app, "an export", run.name or run.id) as free:
        if free:
            await _export(app, run)


async def _export(app: "MftApp", run: RunRecord) -> None:
    def deed(store: "Store") -> tuple[str, Path] | str:
        now = store.get_run(run.id)
        if now.kind == "generate" and now.status in LIVE_STATUSES:
            return "This run is still generating"
        found = generations_of(store, now)
        if found is None and now.kind == "generate":
            return f"This generation did not finish, it {now.status}: resume it first"
        return found or "Nothing of this run has been generated to its end yet"

    found = await attempt(app, deed)
    if found is None:
        return
    if isinstance(found, str):
        app.notify(found, severity="warning")
        return
    parent, folder = found
    from runners.config.finish import ExportConfig

    run_id = await launch_config(
        app, ExportConfig(generations=folder), name=run.model_name or run.name, parent=parent
    )
    if run_id is not None:
        app.notify(f"Exporting {folder.name}", timeout=3)
        await _tell_export(app, run_id)


async def _tell_export(app: "MftApp", run_id: str) -> None:
    import json

    while True:
        run = await app.tracker.ask(lambda store: store.get_run(run_id))
        if run.status not in LIVE_STATUSES:
            break
        await asyncio.sleep(0.3)
    if run.status == "finished":
        summary: dict[str, Any] = json.loads(run.summary or "{}")
        app.notify(str(summary.get("zip", run.folder)), title="Submission written", timeout=12)
    else:
        app.notify(run.message or run.status, title="Export failed", severity="error", timeout=15)


async def trash_runs(app: "MftApp", runs: list[RunRecord]) -> bool:
    """Move runs to the trash, after asking; whether it was done."""
    from mft_tui.screens.ask import Confirm

    if not runs:
        return False
    what = (runs[0].name or runs[0].id) if len(runs) == 1 else f"{len(runs)} runs"
    if any(run.status in LIVE_STATUSES for run in runs):
        app.notify("A run that goes on cannot be deleted: stop it first", severity="warning")
        return False
    detail = "It goes to the trash; `mft-tui runs gc` empties that."
    if not await app.push_screen_wait(Confirm(f"Delete {what}?", detail)):
        return False

    def deed(store: "Store") -> bool:
        # They may have been marked long ago, and resumed since.
        live = [now for run in runs if (now := store.get_run(run.id)).status in LIVE_STATUSES]
        if live:
            names = ", ".join(run.name or run.id for run in live)
            raise UsageError(
                f"nothing is deleted: {names} goes on again",
                fix="Stop it first, or take its mark away.",
            )
        for run in runs:
            store.trash(run.id)
        return True

    return bool(await attempt(app, deed))


async def edit_note(app: "MftApp", run: RunRecord) -> bool:
    """Change the run's note; whether it was."""
    from mft_tui.screens.ask import AskText

    text = await app.push_screen_wait(AskText(f"Note of {run.name or run.id}", run.note))
    if text is None:
        return False

    def deed(store: "Store") -> bool:
        store.set_note(run.id, text)
        return True

    return bool(await attempt(app, deed))


async def edit_tags(app: "MftApp", row: RunRow) -> bool:
    """Change the run's tags; whether they were."""
    from mft_tui.screens.ask import AskText

    run = row.run
    text = await app.push_screen_wait(
        AskText(f"Tags of {run.name or run.id}", " ".join(row.tags), "words, separated by spaces")
    )
    if text is None:
        return False
    wanted = {word.lstrip("#") for word in text.replace(",", " ").split()}

    def deed(store: "Store") -> bool:
        store.tag(run.id, sorted(wanted - set(row.tags)))
        store.untag(run.id, sorted(set(row.tags) - wanted))
        return True

    return bool(await attempt(app, deed))
