"""Where things that belong to this machine's toolchains are kept, whatever the state folder is.

Two kinds live here: what ``make toolchains`` installs for us (an npm package, vendored crates),
and what we build once from a toolchain and use for ever (``toolcache``). Both belong to the
machine and not to a state folder, so that a second state folder costs nothing.
"""

import os
from pathlib import Path

import platformdirs


def tool_home() -> Path:
    """``$MFT_TOOLCHAINS``, else ``toolchains`` in the person's cache folder; not created here."""
    if given := os.environ.get("MFT_TOOLCHAINS"):
        return Path(given).expanduser().absolute()
    return platformdirs.user_cache_path("mft-tui") / "toolchains"


def installed(relative: str) -> Path | None:
    """The place of something the installer put on this machine; None when it did not."""
    for home in (tool_home(), Path("/usr/local/share/mft-tui/toolchains")):
        if (path := home / relative).exists():
            return path
    return None
