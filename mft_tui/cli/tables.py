"""Tables on stdout: fitted to a terminal, and never folded for a file or a pipe.

Without a terminal there is no width to keep to, and a cell that was folded cannot be searched.
"""

import sys

from rich.console import Console
from rich.table import Table

from mft_tui.cli.output import data

_WIDE = 400


def print_table(table: Table) -> None:
    """Print a table of data."""
    out = data if data.is_terminal else Console(file=sys.stdout, width=_WIDE, highlight=False)
    out.print(table)
