"""What the command palette offers of a screen: everything that its keys can do, shown or not."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.app import SystemCommand
from textual.screen import Screen

if TYPE_CHECKING:
    from mft_tui.app import MftApp

_MOVES = frozenset({"move", "page", "edge", "cursor", "top", "pan"})
"""Actions that only make sense as a key that is pressed again and again."""

_OFFERED_ANYWAY = frozenset({"help", "quit", "app.quit", "command_palette"})


def commands_of(app: "MftApp", screen: Screen[object]) -> Iterator[SystemCommand]:
    """A command for each thing that a key of the screen, or of what has the focus, does now."""
    seen = set()
    for active in screen.active_bindings.values():
        binding = active.binding
        action = binding.action
        if not binding.id or not binding.description or not active.enabled:
            continue  # what Textual itself brings, and what cannot be done now
        if action.partition("(")[0] in _MOVES or action in _OFFERED_ANYWAY or action in seen:
            continue
        seen.add(action)
        yield SystemCommand(
            binding.description,
            f"key {app.get_key_display(binding)}",
            lambda action=action, node=active.node: app.call_later(app.run_action, action, node),
        )
