"""A draft: what a person has decided on the way through the wizard, kept as a file.

Each kind of job has its own values, only those that were set; what they leave open comes from the
defaults when the job is launched. A draft outlives the app, and each of its configs is a file that
the command line takes.
"""

import os
import re
import time
from pathlib import Path
from typing import Any

import msgspec

STEPS = ("data", "model", "hardware", "settings", "train", "generate", "evaluate", "export")

KIND_OF_STEP = {
    "data": "train", "model": "train", "hardware": "train", "settings": "train",
    "train": "train", "generate": "generate", "evaluate": "evaluate", "export": "export",
}  # fmt: skip

_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Draft(msgspec.Struct):
    """``found`` holds a sentence a step for the rail; ``runs`` the run that each kind became.

    ``launching`` has the id that a run will have, from its launch's begin until it is known that it
    was launched: a launch goes on when the app is left. One that was refused stays there, unseen.
    """

    name: str
    step: str = "data"
    values: dict[str, dict[str, Any]] = {}
    found: dict[str, str] = {}
    runs: dict[str, str] = {}
    launching: dict[str, str] = {}
    changed_at: float = 0.0

    def of(self, kind: str) -> dict[str, Any]:
        """The values set for a kind of job; changing them changes the draft."""
        return self.values.setdefault(kind, {})

    def link(self, kind: str, run_id: str) -> None:
        """Know the run that this draft's job of a kind became."""
        self.runs[kind] = run_id
        self.launching.pop(kind, None)
        self.found[kind] = "running: launched"


class Drafts:
    """The drafts of a state folder. A damaged file is passed over, never deleted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Their names, the one last changed first."""
        found = sorted(self.folder.glob("*/draft.json"), key=lambda p: -p.stat().st_mtime)
        return [path.parent.name for path in found]

    def load(self, name: str) -> Draft | None:
        """The draft of that name, or None when there is none that can be read."""
        try:
            return msgspec.json.decode(self._file(name).read_bytes(), type=Draft)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            return None

    def encoded(self, draft: Draft) -> dict[Path, bytes]:
        """The files of a draft as it is now: its own, and a config for each kind of job.

        Apart from ``write`` because a draft may be changed while another thread writes.
        """
        draft.changed_at = time.time()
        files = {self._file(draft.name): msgspec.json.encode(draft)}
        for kind, values in draft.values.items():
            files[self.config_file(draft, kind)] = msgspec.json.encode(values)
        return files

    def write(self, files: dict[Path, bytes]) -> None:
        """Write what ``encoded`` gave, each file whole or not at all."""
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)

    def save(self, draft: Draft) -> None:
        """Encode and write in one go."""
        self.write(self.encoded(draft))

    def link(self, name: str, kind: str, run_id: str) -> None:
        """Do so in the files of the draft of that name, if they can still be read."""
        if (draft := self.load(name)) is not None:
            draft.link(kind, run_id)
            self.save(draft)

    def config_file(self, draft: Draft, kind: str) -> Path:
        """The config that a command takes for this draft's job of a kind."""
        return self.folder / draft.name / f"{kind}.json"

    def fresh_name(self, wanted: str = "draft") -> str:
        """A name that no draft has yet."""
        base = _NAME.sub("-", wanted).strip("-") or "draft"
        taken, number, name = set(self.names()), 2, base
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        return name

    def _file(self, name: str) -> Path:
        return self.folder / name / "draft.json"


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(msgspec.json.format(content, indent=2) + b"\n")
    fresh.replace(path)
