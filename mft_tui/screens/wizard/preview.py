"""Records as the model sees them: one at a time on a screen, the first one beside a page."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from mft_tui.widgets.command_line import CommandLine
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.key_line import KeyLine
from mft_tui.widgets.mask_preview import MaskPreview
from mft_tui.widgets.title_bar import TitleBar
from runners.errors import MftError

if TYPE_CHECKING:
    from mft_tui.app import MftApp
    from runners.data.preview import Preview


class InlinePreview(Vertical):
    """The first record of a draft's data, with the tokenizer of its model, where there is room."""

    DEFAULT_CSS = """
    InlinePreview { height: auto; padding: 0 1; }
    InlinePreview #about-record { height: auto; color: $text-muted; margin-bottom: 1; }
    InlinePreview MaskPreview { padding: 0; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: tuple[list[Path], str] | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="about-record")
        yield MaskPreview()

    def look(self, folders: list[Path], model: str) -> None:
        """Show the first record of the first folder; once for the same data and model."""
        if (folders, model) != self._seen:
            self._seen = folders, model
            self._look(folders, model)

    @guarded(group="inline", exclusive=True)
    async def _look(self, folders: list[Path], model: str) -> None:
        about, shown = self.query_one("#about-record", Static), self.query_one(MaskPreview)
        shown.show(None)
        if not folders or not model:
            missing = "a model" if folders else "a data folder" if model else "data and a model"
            about.update(f"with {missing} named: a record as the model sees it")
            return
        about.update("reading …")
        app = cast("MftApp", self.app)
        try:
            seen = await app.lanes["data"].call(_preview, folders, Path(model), 0)
        except MftError as error:
            about.update(Text(f"no record to show: {error.what}"))
            return
        text = Text("as the model sees it, trained tokens coloured\n")
        text.append(f"{seen.task}  {Path(seen.file).name}:{seen.line}  ")
        text.append(f"{sum(seen.mask):,} of {len(seen.ids):,} tokens trained · F6 walks through")
        about.update(text)
        shown.show(seen)


class PreviewScreen(Screen[None]):
    """The mask of a record: what is trained is coloured."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Back", id="preview.back"),
        Binding("right,n", "go(1)", "Next record", id="preview.next"),
        Binding("left,p", "go(-1)", "Previous record", id="preview.previous"),
        Binding("f", "folder", "Next folder", id="preview.folder"),
    ]

    def __init__(self, folders: list[Path], tokenizer: Path) -> None:
        super().__init__()
        self._folders, self._tokenizer = folders, tokenizer
        self._index = 0

    def compose(self) -> ComposeResult:
        yield TitleBar("mask preview")
        with VerticalScroll():
            yield MaskPreview()
        yield CommandLine()
        yield KeyLine()

    def on_mount(self) -> None:
        self._show()

    def action_go(self, step: int) -> None:
        self._index = max(0, self._index + step)
        self._show()

    def action_folder(self) -> None:
        self._folders = [*self._folders[1:], self._folders[0]]
        self._index = 0
        self._show()

    @guarded(group="preview", exclusive=True)
    async def _show(self) -> None:
        app = cast("MftApp", self.app)
        self.query_one(CommandLine).argv = (
            "mft-tui", "preview", str(self._folders[0]),
            "--tokenizer", str(self._tokenizer), "--index", str(self._index),
        )  # fmt: skip
        try:
            seen = await app.lanes["data"].call(
                _preview, self._folders, self._tokenizer, self._index
            )
        except MftError as error:
            self._index = max(0, self._index - 1)
            self.notify(str(error), severity="warning")
            return
        self.query_one(MaskPreview).show(seen)
        self.query_one(VerticalScroll).scroll_home(animate=False)
        title = self.query_one(TitleBar)
        title.title = f"{seen.task} {self._index}  {Path(seen.file).name}:{seen.line}"
        title.status = f"{sum(seen.mask):,} of {len(seen.ids):,} tokens trained"


def _preview(folders: list[Path], tokenizer: Path, index: int) -> "Preview":
    from runners.data.preview import preview

    return preview(folders[0], tokenizer, index=index)
