"""The failures of an evaluated task, one at a time: the question, the answer, what went wrong."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from db.records import RunRecord, VerdictRecord
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.key_line import KeyLine
from mft_tui.widgets.title_bar import TitleBar
from runners.errors import MftError

if TYPE_CHECKING:
    from db import Store
    from mft_tui.app import MftApp

_PARTS = ("error", "code", "diff", "prompt", "tests")


@dataclass(frozen=True)
class Case:
    """All there is to say of one failed answer, as text, by part."""

    parts: dict[str, str]


class FailuresScreen(Screen[None]):
    """What failed and why: error, code, diff to the canonical solution, prompt, tests."""

    DEFAULT_CSS = """
    FailuresScreen #list { width: 34; height: 1fr; }
    FailuresScreen VerticalScroll { width: 1fr; height: 1fr; padding: 0 1; background: $surface; }
    FailuresScreen #parts { height: 1; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Back", id="failures.back"),
        Binding("right,p", "part(1)", "Next part", id="failures.next_part"),
        Binding("left", "part(-1)", "Previous part", show=False, id="failures.previous_part"),
        *(
            Binding(str(n), f"show('{part}')", part.capitalize(), show=False,
                    id=f"failures.{part}")
            for n, part in enumerate(_PARTS, start=1)
        ),
    ]  # fmt: skip

    def __init__(self, run: RunRecord, task: str, index: int | None = None) -> None:
        """The failures of a task; the cursor on the first of question ``index``, if it has one."""
        super().__init__()
        self._run, self._task_name, self._index = run, task, index
        self._failures: list[VerdictRecord] = []
        self._part = "error"
        self._case: Case | None = None

    def compose(self) -> ComposeResult:
        yield TitleBar(f"failures  {self._task_name}")
        yield Static(id="parts")
        with Horizontal():
            yield OptionList(id="list")
            with VerticalScroll():
                yield Static(id="text")
        yield KeyLine()

    def on_mount(self) -> None:
        self._read()

    @property
    def _mft(self) -> "MftApp":
        return cast("MftApp", self.app)

    @guarded(group="failures", exclusive=True)
    async def _read(self) -> None:
        run_id, task = self._run.id, self._task_name
        verdicts, judged = await self._mft.tracker.ask(
            lambda store: (store.verdicts(run_id, task), _judged(store, run_id, task))
        )
        if not verdicts or len(verdicts) < judged:
            # It still goes on, or was taken in by a version that kept one sample a question.
            found = await self._mft.lanes["files"].call(read_verdict_file, self._run, task)
            verdicts = max(verdicts, found, key=len)
        self._failures = [verdict for verdict in verdicts if not verdict.passed]
        passed = len(verdicts) - len(self._failures)
        sampled = any(verdict.sample for verdict in verdicts)
        unit = " samples" if sampled else ""
        self.query_one(TitleBar).status = f"{passed} of {len(verdicts)}{unit} passed"
        choices = self.query_one("#list", OptionList)
        for verdict in self._failures:
            which = f"sample {verdict.sample}  " if sampled else ""
            choices.add_option(Option(f"{verdict.index:>4}  {which}{verdict.status}"))
        choices.focus()
        if self._failures:
            places = [verdict.index for verdict in self._failures]
            choices.highlighted = places.index(self._index) if self._index in places else 0
        else:
            self.query_one("#text", Static).update(Text("nothing has failed here", "dim"))
        self._show_part()

    @on(OptionList.OptionHighlighted)
    def _chosen(self, event: OptionList.OptionHighlighted) -> None:
        self._bring(self._failures[event.option_index])

    @guarded(group="case", exclusive=True)
    async def _bring(self, verdict: VerdictRecord) -> None:
        config = json.loads(self._run.config or "{}")
        self._case = await self._mft.lanes["files"].call(
            read_case, config, self._task_name, verdict
        )
        self._show_part()

    def action_part(self, step: int) -> None:
        self.action_show(_PARTS[(_PARTS.index(self._part) + step) % len(_PARTS)])

    def action_show(self, part: str) -> None:
        self._part = part
        self._show_part()

    def _show_part(self) -> None:
        names = Text()
        for number, part in enumerate(_PARTS, start=1):
            names.append(f" {number} {part} ", "reverse" if part == self._part else "dim")
            names.append(" ")
        self.query_one("#parts", Static).update(names)
        if self._case is None:
            return
        text = self._case.parts.get(self._part, "")
        shown = Text(text or "not here any more")
        if self._part == "diff":
            shown = _coloured(text, self.app.theme_variables)
        self.query_one("#text", Static).update(shown)
        self.query_one(VerticalScroll).scroll_home(animate=False)


def _coloured(diff: str, colours: Mapping[str, str]) -> Text:
    """A diff in the theme's colours; without any, its signs still tell."""
    tones = {"+": colours.get("success", ""), "-": colours.get("error", ""), "@": "dim"}
    text = Text()
    for line in diff.splitlines():
        header = line.startswith(("--- ", "+++ "))
        tone = "bold" if header else tones.get(line[:1], "").removeprefix("ansi_")
        text.append(line + "\n", tone)
    return text


def _judged(store: "Store", run_id: str, task: str) -> int:
    """Generations of a task that its score counts; 0 before there is one."""
    return next((score.total for score in store.scores(run_id) if score.task == task), 0)


def read_verdict_file(run: RunRecord, task: str) -> list[VerdictRecord]:
    """A task's verdicts from the file that the evaluation appends to, as ``Store.verdicts``."""
    from runners.lifecycle.ingest import read_verdicts

    config = json.loads(run.config or "{}")
    folder = Path(config.get("output_dir") or Path(run.folder, "artifacts"))
    found = next(iter(folder.glob(f"*/verdicts_{task}_*.jsonl")), None)
    if found is None:
        return []
    return sorted(read_verdicts(found), key=lambda verdict: (verdict.index, verdict.sample))


def read_case(config: dict[str, Any], task: str, verdict: VerdictRecord) -> Case:
    """Gather a failed answer's parts; what cannot be read is left out, and said as missing."""
    from runners.benchmarks.rows import load_questions, resolve_benchmarks

    parts = {"error": f"{verdict.status}\n\n{verdict.detail}"}
    candidate = _candidate(Path(str(config.get("generations", ""))), task, verdict)
    if candidate is not None:
        parts["code"] = candidate
    try:
        folder = resolve_benchmarks(
            Path(config["benchmarks"]) if config.get("benchmarks") else None
        )
        row = load_questions(folder, task)[verdict.index].row
    except (MftError, IndexError) as error:
        parts["prompt"] = parts["tests"] = str(error)
        return Case(parts)
    parts["prompt"] = str(row.get("prompt") or row.get("text") or "")
    parts["tests"] = str(row.get("test") or "\n".join(row.get("test_list") or []))
    canonical = str(row.get("code") or _opening(task, row) + str(row.get("canonical_solution", "")))
    if candidate is not None:
        parts["diff"] = _diff(canonical, candidate)
    return Case(parts)


def _opening(task: str, row: dict[str, Any]) -> str:
    fixing = task.startswith("humanevalfixtests")
    return str(row.get("declaration" if fixing else "prompt", ""))


def _diff(canonical: str, candidate: str) -> str:
    lines: Sequence[str] = list(
        difflib.unified_diff(
            canonical.splitlines(), candidate.splitlines(), "canonical", "candidate", lineterm=""
        )
    )
    return "\n".join(lines) or "the same as the canonical solution"


def _candidate(folder: Path, task: str, verdict: VerdictRecord) -> str | None:
    path = next(iter(folder.glob(f"generations_{task}_*.json")), None)
    if path is None:
        return None
    try:
        return str(json.loads(path.read_bytes())[verdict.index][verdict.sample])
    except (ValueError, IndexError, KeyError):
        return None
