"""What the app remembers of the person: theme, keys, columns, and where they were.

A small JSON file in the state folder. A damaged one is set aside, never a reason not to start.
"""

import contextlib
import os
from pathlib import Path

import msgspec


class Preferences(msgspec.Struct):
    """``keys`` maps a binding's id (shown on the help screen) to keys, such as "ctrl+r,f5"."""

    theme: str = "dark"
    keys: dict[str, str] = {}
    columns: list[str] = []
    sort: str = "-created_at"
    filter: str = ""
    cursor: str = ""
    """The run that home's cursor was on, which was row ``cursor_row``."""
    cursor_row: int = 0
    monitoring: list[str] = []
    """The runs whose monitor was open when the app was last left."""
    wizard: bool = False
    """Whether the wizard was open then, at ``draft``."""
    draft: str = ""


def load_preferences(path: Path) -> Preferences:
    """Read them, or the defaults."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Preferences)
    except FileNotFoundError:
        return Preferences()
    except (msgspec.DecodeError, msgspec.ValidationError):
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".damaged.json"))
        return Preferences()


def save_preferences(path: Path, preferences: Preferences) -> None:
    """Write them whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(preferences), indent=2) + b"\n")
    fresh.replace(path)
