"""Train, Generate, Evaluate, Export: the page of a job, its settings, and its launch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.widgets import Static

from mft_tui.screens.wizard.settings_step import form_state
from mft_tui.screens.wizard.step import StepPane
from mft_tui.widgets.config_form import ConfigForm
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.setting_list import SettingList

if TYPE_CHECKING:
    from db import Store
    from db.records import RunRecord

_WHAT = {
    "train": "enter changes a setting, F5 reviews and launches the training",
    "generate": "answers to the 13 tasks, from the trained model or another",
    "evaluate": "the generations run in a sandbox; pass@1 a task",
    "export": "the 13 files checked and zipped",
}
_TRAIN_GROUPS = ("optimisation", "checkpoints")
_WEIGHTS = ("merged", "model", "weights", "final", "adapter")


class JobStep(StepPane):
    """The form of a job that can be launched from here."""

    heading: ClassVar[str] = ""

    def compose(self) -> ComposeResult:
        yield Static(_WHAT[self.step], classes="head first")
        yield Static(id="run", classes="said")
        groups = _TRAIN_GROUPS if self.step == "train" else ()
        yield ConfigForm(
            self.kind, self.draft.of(self.kind), groups=groups, inherited=self.inherited()
        )

    def command(self, config: str) -> list[str]:
        return ["mft-tui", self.kind, config]

    def leave(self) -> None:
        self.query_one(ConfigForm).finish()

    def focus_first(self) -> None:
        self.query_one(SettingList).focus()

    def enter(self) -> None:
        self._enter()

    @guarded(group="enter", exclusive=True)
    async def _enter(self) -> None:
        # Shown before the store is asked: the page is of use even when the store does not answer.
        self.query_one(ConfigForm).replace(self.draft.of(self.kind))
        self._tell_state()
        given = await self.mft.tracker.ask(
            lambda store: inputs_from_runs(store, self.kind, dict(self.draft.runs))
        )
        values = self.draft.of(self.kind)
        runs = str(self.mft.state.runs)
        for key, value in given.items():
            # What the person chose stays; what an earlier run of this draft gave is renewed.
            if not values.get(key) or str(values[key]).startswith(runs):
                values[key] = value
        self.query_one(ConfigForm).replace(values)
        await self._show_run()
        self._tell_state()

    async def _show_run(self) -> None:
        run_id = self.draft.runs.get(self.kind)
        line = self.query_one("#run", Static)
        if run_id is None:
            line.display = False
            return
        run = await self.mft.tracker.ask(lambda store: run_or_none(store, run_id))
        line.display = run is not None
        if run is not None:
            text = Text(f"{run.id}  ", "bold")
            text.append(f"{run.status}  ")
            text.append("F4 watches it", "dim")
            line.update(text)
            good = run.status not in ("failed", "crashed", "stopped")
            state = "running" if run.status in ("queued", "running", "stopping") else "ok"
            self.tell(f"{state if good else 'problem'}: {run.status}")

    @on(ConfigForm.Changed)
    def _keep(self, event: ConfigForm.Changed) -> None:
        event.stop()
        self.draft.values[self.kind] = dict(event.form.values)
        self._tell_state()

    def _tell_state(self) -> None:
        if self.kind in self.draft.runs:
            self.post_message(self.Changed())
            return
        wrong = self.query_one(ConfigForm).wrong
        # A job is done when it has run: settings that fit are not yet a ✓.
        self.tell(form_state(wrong, 0) if wrong else "todo: ready, F5 launches it")


class TrainStep(JobStep):
    """Training."""

    step = "train"


class GenerateStep(JobStep):
    """Generation."""

    step = "generate"

    def command(self, config: str) -> list[str]:
        return command_of("generate", self.draft.of("generate"))


class EvaluateStep(JobStep):
    """Evaluation."""

    step = "evaluate"

    def command(self, config: str) -> list[str]:
        return command_of("evaluate", self.draft.of("evaluate"))


class ExportStep(JobStep):
    """The zip."""

    step = "export"

    def command(self, config: str) -> list[str]:
        return command_of("export", self.draft.of("export"))


_POSITIONAL = {"evaluate": "generations", "export": "generations"}
_OPTION = {"output_dir": "output"}


def command_of(kind: str, values: dict[str, Any]) -> list[str]:
    """The command line with the same settings: the positional one first, options after it.

    What must be given and is not yet is named in capitals, as in a manual.
    """
    from mft_tui.widgets.config_fields import differing, settings_of

    argv = ["mft-tui", kind]
    positional = _POSITIONAL.get(kind)
    if positional:
        argv.append(str(values.get(positional, "GENERATIONS_DIR")))
    missing = {s.key: s.key.upper() for s in settings_of(kind) if s.required}
    if kind == "generate" and values.get("engine") != "completions":
        missing = {"model": "MODEL", **missing}
    for key, value in {**missing, **differing(kind, values)}.items():
        if key == positional or value is None:
            continue
        option = "--" + _OPTION.get(key, key).replace("_", "-")
        if value is True:
            argv.append(option)
        elif value is not False:
            said = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            argv += [option, said]
    return argv


def inputs_from_runs(store: "Store", kind: str, runs: dict[str, str]) -> dict[str, str]:
    """What the jobs before this one made: the model to generate with, the generations to score."""
    from mft_tui.screens.actions import generations_of

    if kind == "generate" and (run := run_or_none(store, runs.get("train"))) is not None:
        return _trained_model(store, run)
    if kind in ("evaluate", "export"):
        run = run_or_none(store, runs.get("generate"))
        found = None if run is None else generations_of(store, run)
        return {"generations": str(found[1])} if found else {}
    return {}


def _trained_model(store: "Store", run: "RunRecord") -> dict[str, str]:
    found = {artifact.kind: artifact for artifact in store.artifacts(run.id)}
    for kind in _WEIGHTS:
        if (artifact := found.get(kind)) is not None:
            given = {"model": str(Path(run.folder) / artifact.path)}
            return given | ({"model_name": run.name} if _plain(run.name) else {})
    return {}


def _plain(name: str) -> bool:
    return bool(name) and all(c.isascii() and (c.isalnum() or c in "-_.") for c in name)


def run_or_none(store: "Store", run_id: str | None) -> "RunRecord | None":
    """The run, if there is one of that id and the store can say so."""
    from db.errors import StoreError

    if run_id is None:
        return None
    try:
        return store.get_run(run_id)
    except StoreError:
        return None
