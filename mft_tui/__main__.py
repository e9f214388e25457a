"""``python -m mft_tui`` is ``mft-tui``."""

from mft_tui.cli.main import main

main()
