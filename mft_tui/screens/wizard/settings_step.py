"""Settings: every key of the training config, and files to load and save."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from mft_tui.screens.wizard.draft import Draft
from mft_tui.screens.wizard.step import StepPane
from mft_tui.widgets.config_fields import MISSING, differing, problems
from mft_tui.widgets.config_form import ConfigForm, SettingList
from mft_tui.widgets.guard import guarded
from runners.errors import MftError

PRESETS: dict[str, dict[str, Any]] = {
    "quick look: 100 steps, small rows": {
        "max_train_steps": 100, "seq_length": 1024, "evaluation_steps": 50, "log_interval": 5,
    },
    "LoRA, packed rows": {
        "peft_type": "lora", "padding_mode": "pack", "seq_length": 4096, "lora_rank": 64,
        "lora_alpha": 128, "gradient_checkpointing": "full",
    },
    "QLoRA on one small GPU": {
        "peft_type": "qlora", "quantization": "4bit", "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 16, "gradient_checkpointing": "full",
    },
    "full fine-tuning, ZeRO 3": {
        "peft_type": "full", "zero_stage": 3, "learning_rate": 1e-5,
        "gradient_checkpointing": "full",
    },
    "tasks weighted by convergence (CoBa)": {
        "weighted_loss_mode": "coba", "evaluation_steps": 100,
    },
}  # fmt: skip


def origin_of(kind: str) -> dict[str, str]:
    """Where values come from that a draft leaves open, by key: environment or user default."""
    import os

    from runners.config import KINDS
    from runners.config.resolve import ENVIRONMENT_PREFIX, read_config_file, user_defaults_path

    found: dict[str, str] = {}
    defaults = user_defaults_path()
    if defaults.is_file():
        try:
            found = dict.fromkeys(read_config_file(defaults).get(kind, {}), "user default")
        except MftError:
            found = {}
    for key in KINDS[kind].model_fields:
        if ENVIRONMENT_PREFIX + key.upper() in os.environ:
            found[key] = "environment"
    return found


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
    return form_state(problems("train", values), len(differing("train", values)))


class SettingsStep(StepPane):
    """The form of the training config."""

    step = "settings"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "load", "Load", id="settings.load"),
        Binding("ctrl+s", "save", "Save", id="settings.save"),
        Binding("ctrl+e", "preset", "Preset", id="settings.preset"),
    ]

    def compose(self) -> ComposeResult:
        origins = origin_of(self.kind)
        yield ConfigForm(
            self.kind,
            self.draft.of(self.kind),
            origin=lambda key: origins.get(key, "default"),
        )

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
            values = await self.mft.lanes["files"].call(_load, Path(text).expanduser(), self.kind)
            if isinstance(values, str):
                self.notify(values, severity="error", timeout=10)
                return
            self.draft.values[self.kind] = {**self.draft.of(self.kind), **values}
            self.enter()
            self.notify(f"{len(values)} settings loaded", timeout=3)

    @guarded(group="ask", exclusive=True)
    async def action_save(self) -> None:
        """Write the settings to a file that `mft-tui train` takes."""
        from mft_tui.screens.ask import AskText

        text = await self.app.push_screen_wait(
            AskText(
                "Save settings to", f"{self.draft.name}.json", "a JSON file for `mft-tui train`"
            )
        )
        if text:
            path = Path(text).expanduser().absolute()
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

        chosen = await self.app.push_screen_wait(Choose("Preset", list(PRESETS)))
        if chosen is not None:
            self.draft.values[self.kind] = {**self.draft.of(self.kind), **PRESETS[chosen]}
            self.enter()


def _load(path: Path, kind: str) -> dict[str, object] | str:
    from runners.config import KINDS
    from runners.config.resolve import read_config_file

    try:
        content = read_config_file(path)
    except MftError as error:
        return str(error)
    model = KINDS[kind]
    values: dict[str, object] = {}
    for key, value in content.items():
        name = model.aliases.get(key, key)
        if name in model.model_fields:
            values[name] = value
        elif key not in model.obsolete:
            return f"{path}: unknown {kind} setting {key!r}"
    return values


def _save(path: Path, values: dict[str, Any]) -> None:
    import msgspec

    path.write_bytes(msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n")
