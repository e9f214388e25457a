"""Which languages can be scored on this machine, and with what."""

from collections.abc import Iterable

from runners.evaluate.languages import LANGUAGES, get_language
from runners.evaluate.languages.base import Missing, Toolchain


def discover(languages: Iterable[str] = LANGUAGES) -> list[Toolchain | Missing]:
    """Look for the toolchain of each language; light, and under a second in all.

    ``Toolchain.version`` is what is recorded with the scores; ``Missing.install`` is the line that
    brings what is not there.
    """
    return [get_language(name).discover() for name in languages]
