"""Model: a checkpoint by path or name, and what it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, Static

from mft_tui.screens.wizard.preview import InlinePreview, PreviewScreen
from mft_tui.screens.wizard.step import StepPane
from mft_tui.widgets.facts import Fact, Facts
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.path_input import PathInput
from mft_tui.widgets.quantities import size
from runners.errors import MftError


@dataclass(frozen=True)
class ModelWords:
    """What there is to say of a checkpoint: facts, and sentences about what will happen to it."""

    facts: tuple[Fact, ...]
    notes: tuple[str, ...]


def describe_model(path: Path) -> ModelWords:
    """Read a checkpoint folder's config and tokenizer; no weights. Raises ``MftError``."""
    from runners.data.tokenizer import load_tokenizer
    from runners.hardware.shape import read_shape
    from runners.models.families import detect_family, read_model_config, weight_files

    config = read_model_config(path)
    family = detect_family(config)
    shape = read_shape(config)
    facts: list[Fact] = [
        ("family", family.name),
        ("parameters", _billions(shape.parameters)),
        ("layers", f"{shape.layers} x {shape.hidden:,}"),
        ("heads", f"{shape.heads} ({shape.kv_heads} kv)"),
        ("context", f"{shape.longest:,}" if shape.longest else "not told"),
        ("vocabulary", f"{shape.vocab:,}"),
    ]
    notes = []
    if family.first_generation:
        notes.append(
            f"A first-generation {family.name} checkpoint: it is converted to {family.native} on "
            "load, and saved in the native format."
        )
    weights = weight_files(path)
    facts.append(("weights", size(sum(file.stat().st_size for file in weights))))
    facts.append(("weight files", str(len(weights))))
    try:
        tokenizer = load_tokenizer(path)
    except MftError as error:
        notes.append(f"Tokenizer: {error.what}")
    else:
        facts.append(("<|im_end|>", f"{tokenizer.im_end:,}"))
        if tokenizer.added:
            names = ", ".join(token.text for token in tokenizer.added)
            notes.append(f"The tokenizer lacks {names}: added, and the embeddings are resized.")
    return ModelWords(tuple(facts), tuple(notes))


def _meant(text: str) -> str:
    """A folder as a whole path, so that it is found from everywhere; a hub name as it is."""
    path = Path(text).expanduser()
    return str(path.absolute()) if text and path.exists() else text


def _billions(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.2f} billion"
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"


class ModelStep(StepPane):
    """A path, and what stands there."""

    step = "model"
    DEFAULT_CSS = """
    ModelStep .columns { height: 1fr; }
    ModelStep Facts { margin-top: 1; }
    ModelStep InlinePreview { display: none; margin-top: 1; }
    ModelStep.-wide InlinePreview { display: block; width: 2fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f6", "preview", "Mask preview", id="model.preview"),
    ]

    def compose(self) -> ComposeResult:
        yield Static("the base model: a checkpoint folder or a hub name", classes="head first")
        value = str(self.draft.of("train").get("pretrained_model_path", ""))
        yield PathInput(self.mft.lanes["files"], value, placeholder="enter to take it")
        with VerticalScroll(classes="columns", can_focus=False):
            with Vertical():
                yield Facts()
                yield Static(id="notes", classes="said")
            yield InlinePreview()

    def on_mount(self) -> None:
        if self.draft.of("train").get("pretrained_model_path"):
            self._read()

    def enter(self) -> None:
        values = self.draft.of("train")
        folders = [Path(str(folder)) for folder in values.get("data_paths", [])]
        model = str(values.get("pretrained_model_path", ""))
        self.query_one(InlinePreview).look(folders, model)

    def command(self, config: str) -> list[str]:
        return ["mft-tui", "estimate", config]

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        event.stop()
        self._take_text(event.value.strip())

    def leave(self) -> None:
        text = self.query_one(PathInput).value.strip()
        known = str(self.draft.of("train").get("pretrained_model_path", ""))
        if known not in (text, _meant(text)):
            self._take_text(text)

    def _take_text(self, text: str) -> None:
        values = self.draft.of("train")
        if text:
            values["pretrained_model_path"] = _meant(text)
        else:
            values.pop("pretrained_model_path", None)
        self.post_message(self.Changed())
        self._read()
        self.enter()

    @guarded(group="model", exclusive=True)
    async def _read(self) -> None:
        text = str(self.draft.of("train").get("pretrained_model_path", ""))
        notes = self.query_one("#notes", Static)
        self.query_one(Facts).show(())
        if not text:
            notes.update("")
            self.tell("")
            return
        path = Path(text)
        if not path.exists() and text.count("/") == 1 and not text.startswith((".", "/", "~")):
            notes.update("\nA hub name: it is downloaded when the run starts.")
            self.tell(f"ok: {text}")
            return
        notes.update("\nreading …")
        try:
            words = await self.mft.lanes["data"].call(describe_model, path)
        except MftError as error:
            notes.update(Text.assemble("\n", (error.what, "bold"), f"\n{error.fix or ''}"))
            self.tell(f"problem: {error.what}")
            return
        self.query_one(Facts).show(words.facts)
        notes.update(Text("\n" + "\n".join(words.notes)))
        self.tell(f"ok: {path.name}")

    def action_preview(self) -> None:
        """The mask preview, with this model's tokenizer."""
        values = self.draft.of("train")
        if not values.get("data_paths") or not values.get("pretrained_model_path"):
            self.notify("Name a data folder and a model first", severity="warning")
            return
        folders = [Path(str(folder)) for folder in values["data_paths"]]
        self.app.push_screen(PreviewScreen(folders, Path(str(values["pretrained_model_path"]))))
