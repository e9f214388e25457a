"""Settings: every key of the training config, and files to load and save."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from mft_tui.screens.wizard.draft import Draft
from mft_tui.screens.wizard.step import StepPane
from mft_tui.widgets.config_fields import MISSING, differing, inherited, problems, settings_of
from mft_tui.widgets.config_form import ConfigForm
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.setting_list import SettingList
from runners.errors import MftError


@dataclass(frozen=True)
class Preset:
    """Settings that belong together; of one ``group`` a draft has one preset at a time."""

    name: str
    group: str
    keys: Mapping[str, object]


PRESETS = (
    Preset("quick look: 100 steps, small rows", "length", {
        "max_train_steps": 100, "seq_length": 1024, "evaluation_steps": 50, "log_interval": 5,
    }),
    Preset("LoRA, packed rows", "method", {
        "peft_type": "lora", "padding_mode": "pack", "seq_length": 4096, "lora_rank": 64,
        "lora_alpha": 128, "gradient_checkpointing": "full",
    }),
    Preset("QLoRA on one small GPU", "method", {
        "peft_type": "qlora", "quantization": "4bit", "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 16, "gradient_checkpointing": "full",
    }),
    Preset("full fine-tuning, ZeRO 3", "method", {
        "peft_type": "full", "zero_stage": 3, "learning_rate": 1e-5,
        "gradient_checkpointing": "full",
    }),
    Preset("tasks weighted by convergence (CoBa)", "weights", {
        "weighted_loss_mode": "coba", "evaluation_steps": 100,
    }),
)  # fmt: skip


def with_preset(values: Mapping[str, object], preset: Preset) -> dict[str, object]:
    """The values with a preset taken, and without what another of its group had given."""
    left = dict(values)
    for other in PRESETS:
        if other.group == preset.group:
            left = {
                key: value
                for key, value in left.items()
                if key not in other.keys or other.keys[key] != value
            }
    return {**left, **preset.keys}


def form_state(wrong: Mapping[str, str], changed: int) -> str:
    """How a form stands, for the rail: what is wrong, else what is missing, else what was set."""
    for key, said in wrong.items():
        if said != MISSING:
            return f"problem: {key} {said}".replace("problem:  ", "problem: ")
    if wrong:
        return f"todo: still to give: {', '.join(wrong)}"
    return f"ok: {changed} setting{'s' * (changed != 1)} changed"


def settings_state(draft: Draft) -> str:
    """The same of a draft's training settings, those that other pages ask for included."""
    values = draft.of("train")
    try:
        given = {key: one.value for key, one in inherited("train").items()}
    except MftError:  # said by the page that shows the settings
        given = {}
    return form_state(problems("train", {**given, **values}), len(differing("train", values)))


class SettingsStep(StepPane):
    """The form of the training config."""

    step = "settings"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "load", "Load", id="settings.load"),
        Binding("ctrl+s", "save", "Save", id="settings.save"),
        Binding("ctrl+e", "preset", "Preset", id="settings.preset"),
    ]

    def compose(self) -> ComposeResult:
        yield ConfigForm(self.kind, self.draft.of(self.kind), inherited=self.inherited())

    def leave(self) -> None:
        self.query_one(ConfigForm).finish()

    def command(self, config: str) -> list[str]:
        return ["mft-tui", "config", "check", config]

    def enter(self) -> None:
        self.query_one(ConfigForm).replace(self.draft.of(self.kind))
        self._tell_state()

    def focus_first(self) -> None:
        self.query_one(SettingList).focus()

    @on(ConfigForm.Changed)
    def _keep(self, event: ConfigForm.Changed) -> None:
        event.stop()
        self.draft.values[self.kind] = dict(event.form.values)
        self._tell_state()

    def _tell_state(self) -> None:
        self.tell(settings_state(self.draft))

    @guarded(group="ask", exclusive=True)
    async def action_load(self) -> None:
        """Take the settings of a config file: ours, or a reference one."""
        from mft_tui.screens.ask import AskText

        text = await self.app.push_screen_wait(
            AskText(
                "Load settings from", hint="a JSON, YAML or TOML file; the reference's load too"
            )
        )
        if text:
            path, known = Path(text).expanduser(), dict(self.draft.of(self.kind))
            try:
                values, notices = await self.mft.lanes["files"].call(_load, path, self.kind, known)
            except MftError as error:
                self.notify(str(error), title="Not loaded", severity="error", timeout=10)
                return
            self.draft.values[self.kind] = {**self.draft.of(self.kind), **values}
            self.enter()
            self.notify("\n".join([f"{len(values)} settings loaded", *notices]), timeout=8)

    @guarded(group="ask", exclusive=True)
    async def action_save(self) -> None:
        """Write the settings to a file that `mft-tui train` takes."""
        from mft_tui.screens.ask import AskText, Confirm

        text = await self.app.push_screen_wait(
            AskText(
                "Save settings to", f"{self.draft.name}.json", "a JSON file for `mft-tui train`"
            )
        )
        if text:
            path = Path(text).expanduser().absolute()
            there = await self.mft.lanes["files"].call(path.exists)
            question = Confirm(f"Write over {path}?", "what it holds now is lost")
            if there and not await self.app.push_screen_wait(question):
                return
            try:
                await self.mft.lanes["files"].call(_save, path, self.draft.of(self.kind))
            except OSError as error:
                self.notify(f"{path}: {error.strerror}", severity="error")
                return
            self.notify(f"Saved {path}", timeout=4)

    @guarded(group="ask", exclusive=True)
    async def action_preset(self) -> None:
        """Take a set of settings that belong together."""
        from mft_tui.screens.choose import Choose

        names = [preset.name for preset in PRESETS]
        chosen = await self.app.push_screen_wait(Choose("Preset", names))
        if chosen is not None:
            preset = PRESETS[names.index(chosen)]
            self.draft.values[self.kind] = with_preset(self.draft.of(self.kind), preset)
            self.enter()


def _load(
    path: Path, kind: str, known: Mapping[str, object]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """A file's settings by their present names, and what is to be said of the others.

    Raises ``MftError`` for a key that is unknown, naming the nearest, and for a value that does not
    fit. What the file leaves out and must be given comes from ``known``, or from the pages.
    """
    from runners.config import KINDS
    from runners.config.resolve import read_config_file, resolve

    model, content = KINDS[kind], read_config_file(path)
    values = {
        model.aliases.get(key, key): value
        for key, value in content.items()
        if key not in model.obsolete
    }
    open_still = {
        setting.key: known.get(setting.key) or "to be given"
        for setting in settings_of(kind)
        if setting.required and setting.key not in values
    }
    notices = resolve(kind, file=path, flags=open_still, environ={}).notices
    return values, notices


def _save(path: Path, values: dict[str, Any]) -> None:
    import msgspec

    path.write_bytes(msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n")
