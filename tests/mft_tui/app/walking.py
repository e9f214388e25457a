"""Walking over a screen by its keys: a list of presses, and what must come true after each."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from textual.binding import Binding
from textual.pilot import Pilot

import mft_tui.app
import mft_tui.screens
import mft_tui.widgets
from mft_tui.app import MftApp
from tests.mft_tui.app.waiting import until

Holds = Callable[[Any], object]


@dataclass(frozen=True)
class Press:
    """A key of the binding ``name`` ("" for what only leads on), and what it must bring about."""

    name: str
    key: str
    holds: Holds


def on(screen: type[object]) -> Holds:
    """That a screen of this kind is in front."""
    return lambda app: type(app.screen) is screen


async def walk(app: MftApp, pilot: Pilot[Any], presses: Sequence[Press]) -> None:
    """Press one key after the other; each must do what it is there for."""
    for press in presses:
        await pilot.press(press.key)
        said = f"{press.name or 'leading on'} ({press.key})"
        await until(pilot, lambda press=press: press.holds(app), what=said)


def bindings() -> Iterator[tuple[str, str]]:
    """Every (name, key) that a class of the app binds."""
    for owner in _classes():
        for binding in vars(owner).get("BINDINGS", []):
            assert isinstance(binding, Binding), owner
            assert binding.id, f"{owner.__name__} binds {binding.key} without an id to remap it"
            for key in binding.key.split(","):
                yield binding.id, key


def _classes() -> Iterator[type]:
    modules = [mft_tui.app]
    for package in (mft_tui.screens, mft_tui.widgets):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            modules.append(importlib.import_module(found.name))
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield value
