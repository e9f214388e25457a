"""One switch that ends whatever runs in any sandbox, from any thread, at once."""

import os


class Halted(Exception):  # noqa: N818 - not an error: somebody asked
    """The evaluation was asked to stop; nothing was found out about the program."""


class Halt:
    """A switch that can be waited for as a file descriptor."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._set = False

    def set(self) -> None:
        """Throw the switch; it stays thrown."""
        self._set = True
        os.eventfd_write(self.fd, 1)

    @property
    def is_set(self) -> bool:
        """True once it was thrown."""
        return self._set

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
