"""Home: the past runs, and everything that can be done with one."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Static

from db.errors import QueryError, StoreError
from db.records import LIVE_STATUSES, Page, RunQuery, RunRecord, RunRow
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.key_line import KeyLine
from mft_tui.widgets.run_columns import COLUMNS
from mft_tui.widgets.run_table import RunTable
from mft_tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from mft_tui.app import MftApp

_EMPTY = """\
[b]No runs yet.[/b]

[b $accent]n[/]   begin: data, model, settings, launch
[b $accent]D[/]   see it all work first: a tiny model goes the
    whole way to a submission zip in a few minutes

The same from the shell:
    [dim]$[/] mft-tui demo
    [dim]$[/] mft-tui train CONFIG\
"""
_NO_MATCH = (
    "[b]No run matches the filter.[/b]\n\n[b $accent]/[/]   change it; leave it empty to see all"
)
_SORTS = ("-created_at", "name", "-pass@1", "status", "kind", "-duration")


class HomeScreen(Screen[None]):
    """The past runs: open, compare, replay, export."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="home.open"),
        Binding("n", "new", "New", id="home.new"),
        Binding("slash", "filter", "Filter", key_display="/", id="home.filter"),
        Binding("c", "compare", "Compare", id="home.compare"),
        Binding("r", "replay", "Replay", id="home.replay"),
        Binding("u", "resume", "Resume", id="home.resume"),
        Binding("x", "export", "Export", id="home.export"),
        Binding("s", "stop", "Stop", id="home.stop"),
        Binding("d,delete", "delete", "Delete", show=False, id="home.delete"),
        Binding("e", "note", "Note", show=False, id="home.note"),
        Binding("t", "tag", "Tags", show=False, id="home.tag"),
        Binding("o", "sort", "Sort", show=False, id="home.sort"),
        Binding("O", "turn", "Turn order", show=False, id="home.turn"),
        Binding("C", "columns", "Columns", show=False, id="home.columns"),
        Binding("D", "demo", "Run the demo", show=False, id="home.demo"),
        Binding("y", "copy", "Copy command", show=False, id="home.copy"),
        Binding("escape", "clear", "Clear marks and filter", show=False, id="home.clear"),
        Binding("q", "app.quit", "Quit", id="home.quit"),
    ]

    def compose(self) -> ComposeResult:
        yield TitleBar("mft-tui  runs")
        yield Input(
            id="filter", placeholder="status:finished kind:train loss<1.2 tag:best since:7d"
        )
        yield RunTable(self._app.clock)
        with Container(id="empty"):
            yield Static(_EMPTY)
        yield Static(id="about")
        yield KeyLine()

    @property
    def _app(self) -> "MftApp":
        return cast("MftApp", self.app)

    @property
    def table(self) -> RunTable:
        """The runs."""
        return self.query_one(RunTable)

    def on_mount(self) -> None:
        table, preferences = self.table, self._app.preferences
        table.sort = preferences.sort
        self._filter = preferences.filter
        if self._filter:
            self._show_filter()
        if preferences.columns:
            table.set_columns(preferences.columns)
        table.focus()
        self._app.runs_changed.subscribe(self, lambda _: self.table.renew())
        self.call_after_refresh(
            lambda: table.restart(preferences.cursor or None, preferences.cursor_row)
        )
        self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        if self._app.live and self.is_current:
            self.table.tick()

    # Pages

    @on(RunTable.Wanted)
    def _bring(self, wanted: RunTable.Wanted) -> None:
        self._fetch(wanted.offset, wanted.limit)

    @guarded(group="pages")
    async def _fetch(self, offset: int, limit: int) -> None:
        query = RunQuery(filter=self._filter, sort=self.table.sort, limit=limit, offset=offset)
        try:
            page = await self._app.tracker.ask(lambda store: store.list_runs(query))
        except QueryError as error:
            # Asked for long ago, by another version or of a store that has been replaced since.
            self.notify(str(error), title="Filter and order", severity="warning")
            self.table.sort = self._app.preferences.sort = _SORTS[0]
            self._adopt("")
            return
        except StoreError as error:
            self.query_one("#empty > Static", Static).update(Text(str(error)))
            self.add_class("-empty")
            return
        if query.filter != self._filter or query.sort != self.table.sort:
            return  # the question has changed since
        self.table.take(page)
        if page.total == 0:
            self._say_empty(page)
        self.set_class(page.total == 0, "-empty")
        if page.total == 0 and not self.query_one("#filter").has_focus:
            self.set_focus(None)
        elif self.focused is None:
            self.table.focus()
        self._tell(page.total)

    def _say_empty(self, page: Page) -> None:
        words = Content.from_markup(_NO_MATCH if self._filter else _EMPTY)
        for hint in page.hints:
            words = words.append(f"\n\n{hint}")
        self.query_one("#empty > Static", Static).update(words)

    def _tell(self, total: int) -> None:
        words = [Text(f"{total:,} run{'s' * (total != 1)}")]
        if live := len(self._app.live):
            words.insert(0, Text(f"{live} running", self._tone("primary")))
        if self._filter:
            words.insert(0, Text(self._filter, self._tone("accent")))
        if self.table.marked:
            words.insert(0, Text(f"{len(self.table.marked)} marked"))
        self.query_one(TitleBar).status = Text(" · ").join(words)

    def _tone(self, name: str) -> str:
        """A theme's colour by name, for texts that do not know themes."""
        return self.app.theme_variables.get(name, "").removeprefix("ansi_")

    @on(RunTable.Moved)
    def _about(self, event: RunTable.Moved) -> None:
        line = Text(no_wrap=True, overflow="ellipsis")
        if event.row is not None:
            run = event.row.run
            line.append(f"{run.id}  ", "bold")
            parts = [
                run.message.splitlines()[0] if run.message else "",
                run.note.replace("\n", " "),
            ]
            parts.append(" ".join(f"#{tag}" for tag in event.row.tags))
            if run.parent_id:
                parts.append(f"from {run.parent_id}")
            if run.replay_of:
                parts.append(f"replay of {run.replay_of}")
            line.append(" · ".join(part for part in parts if part) or self._place_of(run))
            line.append(f"\n$ mft-tui runs show {run.id}", "dim")
        self.query_one("#about", Static).update(line)

    def _place_of(self, run: RunRecord) -> str:
        """The run's folder, short when it lies where runs lie."""
        folder, root = Path(run.folder), self._app.state.root.absolute()
        return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)

    # Filter, order, columns

    def action_filter(self) -> None:
        line = self.query_one("#filter", Input)
        line.add_class("-asked")
        line.focus()

    @on(Input.Submitted, "#filter")
    def _filtered(self, event: Input.Submitted) -> None:
        self._try_filter(event.value.strip())

    @guarded(group="filter", exclusive=True)
    async def _try_filter(self, text: str) -> None:
        """Adopt a filter that makes sense; another one stays in its line to be mended."""
        query = RunQuery(filter=text, limit=1)
        try:
            await self._app.tracker.ask(lambda store: store.list_runs(query))
        except QueryError as error:
            self.notify(str(error), title="Filter", severity="warning")
            return
        self._adopt(text)

    def _adopt(self, text: str) -> None:
        self._filter = self._app.preferences.filter = text
        self._app.remember()
        self._show_filter()
        self.remove_class("-empty")
        self.table.focus()
        self.table.restart()

    def _show_filter(self) -> None:
        line = self.query_one("#filter", Input)
        line.value = self._filter
        line.set_class(bool(self._filter), "-asked")

    def action_clear(self) -> None:
        if self.query_one("#filter").has_focus or not self.table.marked:
            self._adopt("")
        self.table.marked.clear()
        self.table.refresh()
        self._tell(self.table.row_count)

    def action_sort(self) -> None:
        order = self.table.sort
        known = [sort.lstrip("-") for sort in _SORTS]
        sorts = [*_SORTS, *(f"-{sort}" for sort in self.table.sorts if sort not in (*known, "id"))]
        known = [sort.lstrip("-") for sort in sorts]
        place = known.index(order.lstrip("-")) if order.lstrip("-") in known else -1
        self._set_sort(sorts[(place + 1) % len(sorts)])

    def action_turn(self) -> None:
        order = self.table.sort
        self._set_sort(order[1:] if order.startswith("-") else f"-{order}")

    def _set_sort(self, order: str) -> None:
        self.table.sort = self._app.preferences.sort = order
        self._app.remember()
        self.table.restart()

    @guarded(group="ask", exclusive=True)
    async def action_columns(self) -> None:
        from mft_tui.screens.columns import ColumnsScreen

        chosen = self._app.preferences.columns or [c.key for c in COLUMNS]
        answer = await self.app.push_screen_wait(ColumnsScreen(chosen))
        if answer is not None:
            self._app.preferences.columns = answer
            self._app.remember()
            self.table.set_columns(answer)

    # What is done with a run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        needs_run = {
            "open",
            "compare",
            "replay",
            "resume",
            "export",
            "stop",
            "delete",
            "note",
            "tag",
            "copy",
        }
        if action not in needs_run:
            return True
        if not self.is_mounted or not (tables := self.query(RunTable)):
            return True
        row = tables.first().current
        if row is None:
            return False
        if action == "stop":
            return row.run.status in LIVE_STATUSES
        if action == "resume":
            return row.run.status in ("stopped", "failed", "crashed")
        return True

    def remember_place(self) -> None:
        """Put down where the cursor is, for the next time."""
        if (row := self.table.current) is not None:
            self._app.preferences.cursor = row.run.id
            self._app.preferences.cursor_row = self.table.cursor

    @on(RunTable.Moved)
    def _keys_change(self) -> None:
        self.refresh_bindings()

    @on(RunTable.Opened)
    def _opened(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        """Watch the run, or the marked ones side by side."""
        from mft_tui.screens.monitor import MonitorScreen

        if self.query_one("#filter").has_focus:
            return
        rows = self._chosen_all()
        ids = [row.run.id for row in rows]
        if ids:
            self.app.push_screen(MonitorScreen(ids))

    def action_new(self) -> None:
        self._app.open_wizard()

    def action_compare(self) -> None:
        """Compare the marked runs, or the one under the cursor with the run it replays."""
        from mft_tui.screens.compare import CompareScreen

        ids = list(self.table.marked)
        if (row := self.table.current) is not None and len(ids) < 2:
            ids.extend(i for i in (row.run.id, row.run.replay_of) if i and i not in ids)
        if len(ids) < 2:
            self.notify("Mark two or more runs with space first", severity="warning")
            return
        self.app.push_screen(CompareScreen(ids))

    def _chosen(self) -> RunRow | None:
        return self.table.current

    def _chosen_all(self) -> list[RunRow]:
        """The marked runs, else the one under the cursor."""
        here = self.table.current
        return list(self.table.marked.values()) or ([here] if here is not None else [])

    @guarded(group="act")
    async def action_replay(self) -> None:
        from mft_tui.screens.replaying import replay_run

        if (row := self._chosen()) is not None:
            await replay_run(self._app, row.run)

    @guarded(group="act")
    async def action_resume(self) -> None:
        from mft_tui.screens.actions import resume_run

        if (row := self._chosen()) is not None:
            await resume_run(self._app, row.run)

    @guarded(group="act")
    async def action_export(self) -> None:
        from mft_tui.screens.actions import export_run

        if (row := self._chosen()) is not None:
            await export_run(self._app, row.run)

    @guarded(group="act")
    async def action_stop(self) -> None:
        from mft_tui.screens.actions import stop_run

        if (row := self._chosen()) is not None:
            await stop_run(self._app, row.run.id)

    @guarded(group="ask", exclusive=True)
    async def action_delete(self) -> None:
        from mft_tui.screens.actions import trash_runs

        rows = self._chosen_all()
        if await trash_runs(self._app, [row.run for row in rows]):
            self.table.marked.clear()
            self.table.renew()

    @guarded(group="ask", exclusive=True)
    async def action_note(self) -> None:
        from mft_tui.screens.actions import edit_note

        if (row := self._chosen()) is not None and await edit_note(self._app, row.run):
            self.table.renew()

    @guarded(group="ask", exclusive=True)
    async def action_tag(self) -> None:
        from mft_tui.screens.actions import edit_tags

        if (row := self._chosen()) is not None and await edit_tags(self._app, row):
            self.table.renew()

    @guarded(group="act")
    async def action_demo(self) -> None:
        from mft_tui.screens.actions import run_demo

        await run_demo(self._app)

    def action_copy(self) -> None:
        if (row := self._chosen()) is not None:
            self.app.copy_to_clipboard(f"mft-tui runs show {row.run.id}")
            self.notify("Command copied", timeout=2)
