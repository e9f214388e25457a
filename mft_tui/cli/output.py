"""Where a command's words go: data to stdout, talk to stderr."""

import sys
from typing import Any

import msgspec
from rich.console import Console

console = Console(stderr=True, highlight=False)
"""For people: progress, notes, errors. Never data."""

data = Console(highlight=False)
"""For tables a person reads on stdout; machine-readable output goes through ``print_json``."""


def print_json(value: Any) -> None:
    """Write ``value`` as indented JSON on stdout; NaN and infinities become null."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()
