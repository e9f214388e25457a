"""What a kind of ``mutations`` puts into a program."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Snippet:
    """Text in front of the solution, first in its body, and behind it."""

    body: str = ""
    head: str = ""
    tail: str = ""


def table(*, body: dict[str, str], **others: Snippet) -> dict[str, Snippet]:
    """Kinds by name: snippets for the body alone, then the others (``_`` for a space)."""
    named = {kind.replace("_", " "): snippet for kind, snippet in others.items()}
    return {kind: Snippet(text) for kind, text in body.items()} | named
