"""Data: which task folders, whether they are right, and how a record looks to the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from mft_tui.screens.wizard.preview import InlinePreview, PreviewScreen
from mft_tui.screens.wizard.records import Place, counted, places, record_at
from mft_tui.screens.wizard.step import StepPane
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.path_input import PathInput
from mft_tui.widgets.quantities import bar, size, span
from runners.errors import MftError

if TYPE_CHECKING:
    from runners.data.report import Validation


class _NotWantedAnyMore(Exception):  # noqa: N818 - no error: it only ends a check early
    pass


@dataclass
class _Check:
    """A check under way; the lane writes ``done`` and ``total``, the page reads them."""

    done: int = 0
    total: int = 0
    wanted: bool = True

    def on_progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if not self.wanted:
            raise _NotWantedAnyMore


class DataStep(StepPane):
    """Folders in, problems out."""

    step = "data"
    DEFAULT_CSS = """
    DataStep .columns { height: 1fr; }
    DataStep .columns > Vertical { height: 1fr; }
    DataStep #tasks { height: auto; max-height: 30%; }
    DataStep #problems { height: 1fr; min-height: 3; }
    DataStep .columns > #beside { height: auto; max-height: 8; background: $surface; }
    DataStep.-wide .columns > #beside { height: 1fr; max-height: 100%; }
    DataStep #record { height: auto; padding: 0 1; }
    DataStep InlinePreview { display: none; height: 1fr; }
    DataStep.-wide InlinePreview { display: block; }
    DataStep.-record InlinePreview { display: none; }
    DataStep #record, DataStep #beside { display: none; }
    DataStep.-wide #beside, DataStep.-record #record, DataStep.-record #beside { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("delete,backspace", "remove", "Remove folder", show=False, id="data.remove"),
        Binding("f6", "preview", "Mask preview", id="data.preview"),
        Binding("f9", "check", "Check again", show=False, id="data.check"),
    ]

    def compose(self) -> ComposeResult:
        yield Static("task folders: one folder a task, with its JSONL files", classes="head first")
        yield PathInput(
            self.mft.lanes["files"], placeholder="a folder, enter to add, tab completes"
        )
        with Container(classes="columns"):
            with Vertical():
                yield OptionList(id="tasks")
                yield Static(id="progress", classes="said")
                yield OptionList(id="problems")
            with VerticalScroll(id="beside", can_focus=False):
                yield Static(id="record")
                yield InlinePreview()

    def on_mount(self) -> None:
        self._check: _Check | None = None
        self._places: list[Place] = []
        self._show_folders()
        if self._folders:
            self.action_check()

    def enter(self) -> None:
        model = str(self.draft.of("train").get("pretrained_model_path", ""))
        self.query_one(InlinePreview).look([Path(f) for f in self._folders], model)

    def on_unmount(self) -> None:
        if self._check is not None:
            self._check.wanted = False

    @property
    def _folders(self) -> list[str]:
        return [str(path) for path in self.draft.of("train").get("data_paths", [])]

    def command(self, config: str) -> list[str]:
        return ["mft-tui", "validate", *(self._folders or ["DIR"])]

    # Folders

    @on(Input.Submitted)
    def _add(self, event: Input.Submitted) -> None:
        event.stop()
        self._take(event.input)

    def leave(self) -> None:
        self._take(self.query_one(PathInput))

    def _take(self, line: Input) -> None:
        text = line.value.strip()
        if not text:
            return
        path = str(Path(text).expanduser().absolute())
        folders = self._folders
        if path not in folders:
            folders.append(path)
        self._set(folders)
        line.value = ""

    def action_remove(self) -> None:
        tasks = self.query_one("#tasks", OptionList)
        folders = self._folders
        if tasks.has_focus and tasks.highlighted is not None and tasks.highlighted < len(folders):
            del folders[tasks.highlighted]
            self._set(folders)

    def _set(self, folders: list[str]) -> None:
        values = self.draft.of("train")
        if folders:
            values["data_paths"] = folders
        else:
            values.pop("data_paths", None)
        self._show_folders()
        self.post_message(self.Changed())
        self.action_check()

    def _show_folders(self, report: "Validation | None" = None) -> None:
        tasks = self.query_one("#tasks", OptionList)
        tasks.clear_options()
        for folder in self._folders:
            tasks.add_option(Option(self._line(folder, report)))
        tasks.display = bool(self._folders)

    def _line(self, folder: str, report: "Validation | None") -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        inside = [t for t in report.tasks if Path(t.path).is_relative_to(folder)] if report else []
        if not inside:
            return line.append(f"  {folder}")
        errors = sum(task.error_count for task in inside)
        line.append("! " if errors else "✓ ")
        name = inside[0].name if len(inside) == 1 else f"{Path(folder).name} ({len(inside)} tasks)"
        line.append(f"{name:<16}", "bold")
        line.append(f"{size(sum(t.bytes for t in inside)):>11}", "dim")
        line.append(f"{sum(t.records for t in inside):>10,} records")
        if errors:
            line.append(f"  {counted(errors, 'problem')}", "bold")
        return line

    # Checking

    def action_check(self) -> None:
        """Check the folders as they are now; an older check is given up."""
        if self._check is not None:
            self._check.wanted = False
        self.query_one("#problems", OptionList).clear_options()
        self._places = []
        self.remove_class("-record")
        self.enter()
        if not self._folders:
            self.query_one("#progress", Static).update("")
            self.tell("")
            return
        self._check = _Check()
        self._run_check(self._check, [Path(folder) for folder in self._folders])

    @guarded(group="check", exclusive=True)
    async def _run_check(self, check: _Check, folders: list[Path]) -> None:
        timer = self.set_interval(0.1, lambda: self._show_progress(check))
        try:
            report = await self.mft.lanes["check"].call(_validate, folders, check)
        except _NotWantedAnyMore:
            return
        except MftError as error:
            self.query_one("#progress", Static).update(Text(str(error), "bold"))
            self.tell(f"problem: {error.what}")
            return
        finally:
            timer.stop()
        self._show_report(report)

    def _show_progress(self, check: _Check) -> None:
        share = check.done / check.total if check.total else 0.0
        words = f"checking {bar(share, 20)} {share:4.0%} of {size(check.total)}"
        self.query_one("#progress", Static).update(words)

    def _show_report(self, report: "Validation") -> None:
        self._show_folders(report)
        self._places = places(report)
        self.query_one("#problems", OptionList).add_options(
            [Option(place.shown(), disabled=not place.file) for place in self._places]
        )
        found = f"{report.records:,} records in {counted(len(report.tasks), 'task')}"
        words = found if report.seconds < 1 else f"{found}, {span(report.seconds)}"
        if report.error_count:
            problems = counted(report.error_count, "problem")
            words += f" · {problems}"
            self.tell(f"problem: {problems} in the data")
        else:
            self.tell(f"ok: {found}")
        self.query_one("#progress", Static).update(words)

    @on(OptionList.OptionHighlighted, "#problems")
    def _walk(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_index < len(self._places):
            self._show_record(self._places[event.option_index])

    @guarded(group="record", exclusive=True)
    async def _show_record(self, place: Place) -> None:
        # A lane of its own: a line at the end of a large file takes its time.
        text = await self.mft.lanes["records"].call(record_at, place.file, place.line)
        shown = Text(f"{place.file}:{place.line}\n", "bold")
        shown.append(f"{place.words}\n")
        shown.append(text or "the line is not text that can be shown", "dim")
        self.query_one("#record", Static).update(shown)
        self.add_class("-record")

    def action_preview(self) -> None:
        """Show records as the model of this draft sees them."""
        model = str(self.draft.of("train").get("pretrained_model_path", ""))
        if not self._folders or not model:
            self.notify("Name a data folder and a model first", severity="warning")
            return
        self.app.push_screen(PreviewScreen([Path(f) for f in self._folders], Path(model)))


def _validate(folders: list[Path], check: _Check) -> "Validation":
    from runners.data.validate import validate

    return validate(folders, on_progress=check.on_progress)
