"""The entry point: starts the app or a command, and settles how any of them ends."""

import os
import sys

from runners.errors import ExitCode


def main() -> None:
    """Run the command line. Our own errors are printed once; the exit status is as documented."""
    try:
        # The app is what people wait for: it does not wait for the command line to be imported.
        if len(sys.argv) == 1 and not _completing():
            from mft_tui.cli.app import run_app

            sys.exit(run_app())
        from mft_tui.cli.commands import app

        app()
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our stdout is gone (`| head`): nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        # Errors of ours, the database's included, carry what, where, fix and exit_code.
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(int(code))


def _completing() -> bool:
    """Whether a shell asks for completions: it names no argument and sets _MFT_TUI_COMPLETE."""
    return any(name.endswith("_COMPLETE") for name in os.environ)
