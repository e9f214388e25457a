"""The app in a terminal of its own, driven by keys alone: tmux plays the terminal."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

_numbers = itertools.count()


class Terminal:
    """A tmux session of its own, with the app in it."""

    def __init__(self, home: Path, size: tuple[int, int]) -> None:
        self._socket = f"mft-test-{os.getpid()}-{next(_numbers)}"
        width, height = size
        self._command = f"env MFT_HOME={home} {sys.executable} -m mft_tui; echo LEFT $?; sleep 600"
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
            self._command,
        )  # fmt: skip

    def open_again(self) -> None:
        """Start the app once more where it was left."""
        self._tmux("respawn-pane", "-k", self._command)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def screen(self) -> str:
        """What stands there now."""
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Press named keys, at a person's pace."""
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.4)

    def type(self, text: str) -> None:
        """Type a text and enter."""
        self._tmux("send-keys", "-l", text)
        time.sleep(0.4)
        self.press("Enter")

    def shows(self, text: str, seconds: float = 120) -> str:
        """Wait until the text stands somewhere; the whole screen."""
        end = time.monotonic() + seconds
        while text not in (screen := self.screen()):
            assert time.monotonic() < end, f"{text!r} never came:\n{screen}"
            time.sleep(0.2)
        return screen

    def goes_to(self, words: str, key: str) -> None:
        """Press a key until a page is there that says so."""
        for _ in range(9):
            time.sleep(1)
            if words in self.screen():
                return
            self.press(key)
        raise AssertionError(f"no page says {words!r}:\n{self.screen()}")

    def sets(self, key: str, value: str) -> None:
        """Search a setting in the form and change it."""
        self.press("/")
        self.type(key)
        self.press("Enter", "C-u")
        self.type(value)

    def launches(self, words: str, seconds: float) -> None:
        """Review the page's job, launch it, and wait for the words in its monitor."""
        self.press("F5")
        self.shows("enter to launch")
        self.press("Enter")
        self.shows(words, seconds)

    def close(self) -> None:
        """End the terminal."""
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True)
