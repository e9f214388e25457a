"""``mft-tui`` without a command: the app."""

import os
import sys

from runners.errors import ExitCode


def run_app() -> int:
    """Start the app in this terminal; returns the exit status. Needs a terminal."""
    in_browser = "TEXTUAL_DRIVER" in os.environ  # textual-serve talks to the app through pipes
    if not in_browser and not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(
            "mft-tui without a command is a terminal app, and this is no terminal.\n"
            "  Use one of its commands (mft-tui --help), or mft-tui serve for a browser.",
            file=sys.stderr,
        )
        return ExitCode.USAGE
    from mft_tui.app import main

    return main()
