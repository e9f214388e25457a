"""When a completion is over: the rule on whole text, and the same rule fed piece by piece.

A model emits thousands of tokens a second over many rows; testing the whole text after each of
them is quadratic. ``StopChecker`` remembers what it needs of the past and gives, after every piece,
the same answer as ``holds`` on everything so far.
"""

from runners.benchmarks.family import StopRule


def holds(rule: StopRule, text: str) -> bool:
    """Whether the completion ``text`` (what follows the prompt) is over."""
    if any(word in text for word in rule.words):
        return True
    if rule.line_start and any(line and line[0] not in " \t" for line in text.split("\n")):
        return True
    if rule.open_braces is not None:
        return text.count("{") + rule.open_braces == text.count("}")
    return False


class StopChecker:
    """``holds`` of one completion, in time proportional to the new piece.

    It has no way back: after it has held, only a new checker is meaningful, because the brace rule
    may stop holding again.
    """

    __slots__ = ("_at_line_start", "_balance", "_rule", "_tail")

    def __init__(self, rule: StopRule) -> None:
        self._rule = rule
        self._tail = ""
        self._at_line_start = True
        self._balance = rule.open_braces or 0

    def feed(self, piece: str) -> bool:
        """Add ``piece`` for good; whether the rule holds of all that was fed."""
        over = self.holds_with(piece)
        window = self._tail + piece
        keep = self._rule.longest - 1
        self._tail = window[-keep:] if keep > 0 else ""
        if piece:
            self._at_line_start = piece.endswith("\n")
        self._balance += piece.count("{") - piece.count("}")
        return over

    def holds_with(self, piece: str) -> bool:
        """Whether the rule would hold with ``piece`` added, without adding it.

        For the text of a character whose last bytes have not been generated yet.
        """
        rule = self._rule
        window = self._tail + piece
        if any(word in window for word in rule.words):
            return True
        if rule.line_start and self._unindented(piece):
            return True
        if rule.open_braces is not None:
            return self._balance + piece.count("{") - piece.count("}") == 0
        return False

    def _unindented(self, piece: str) -> bool:
        lines = piece.split("\n")
        if not self._at_line_start:
            del lines[0]
        return any(line and line[0] not in " \t" for line in lines)


def first_stop(rule: StopRule, text: str) -> int | None:
    """The length of the shortest prefix of ``text`` that the rule holds of; None if it never does.

    What a server sent past the stop is cut here, where text after the stop would change the result.
    Completions made elsewhere are taken as they are: whoever made them has decided where they end.
    """
    checker = StopChecker(rule)
    for end, character in enumerate(text, start=1):
        if checker.feed(character):
            return end
    return None


def reason(rule: StopRule, text: str) -> str | None:
    """Which part of the rule holds of ``text``, in a few words for people; None if none does."""
    for word in rule.words:
        if word in text:
            return f"stop word {word!r}"
    if rule.line_start and holds(StopRule((), line_start=True), text):
        return "unindented line"
    if rule.open_braces is not None and holds(StopRule((), open_braces=rule.open_braces), text):
        return "braces closed"
    return None
