"""A record as the model sees it: every token, the trained ones coloured."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget


@dataclass(frozen=True)
class MaskedRecord:
    """A record's tokens as text, and whether each is trained."""

    place: str
    tokens: tuple[tuple[str, bool], ...]

    @property
    def trained(self) -> int:
        """Tokens that have a loss."""
        return sum(trained for _, trained in self.tokens)


def read_masked(folders: Sequence[Path], tokenizer_path: Path, index: int) -> MaskedRecord:
    """Record ``index`` of the folders, counted over all their files in order.

    Raises ``MftError`` for a missing folder or tokenizer, and ``IndexError`` past the last record.
    """
    from runners.data.chatml import ChatMLEncoder
    from runners.data.decoding import decode_line
    from runners.data.formats import recognize
    from runners.data.records import FORMATS
    from runners.data.sources import ByteRange, find_tasks, read_blocks
    from runners.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_path)
    encoder = ChatMLEncoder(tokenizer)
    left = index
    for task in find_tasks(folders):
        form = recognize(task) or FORMATS[0]
        for file in task.files:
            lines = (
                line
                for block in read_blocks(ByteRange(file))
                for line in block.splitlines()
                if line.strip()
            )
            for number, line in enumerate(islice(lines, left + 1), start=1):
                if left > 0:
                    left -= 1
                    continue
                record = decode_line(line, form)
                ids: list[int] = []
                spans: list[tuple[int, int]] = []
                if form.is_text:
                    encoder.encode_text(record.text, ids, spans)
                else:
                    encoder.encode_chat(form.turns(record), ids, spans)
                trained = [False] * len(ids)
                for start, stop in spans:
                    trained[start:stop] = [True] * (stop - start)
                tokens = tuple(
                    (tokenizer.decode([one]), mark) for one, mark in zip(ids, trained, strict=True)
                )
                return MaskedRecord(f"{file.path}:{number}", tokens)
    raise IndexError(index)


class MaskPreview(Widget):
    """The text of a record; trained tokens in colour and underlined alternately by token."""

    DEFAULT_CSS = """
    MaskPreview { height: auto; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._record: MaskedRecord | None = None

    def show(self, record: MaskedRecord) -> None:
        """Show this record."""
        self._record = record
        self.refresh(layout=True)

    def render(self) -> RenderResult:
        if self._record is None:
            return Text("")
        colour = self.app.theme_variables.get("success", "green")
        colour = colour.removeprefix("ansi_")
        text = Text()
        for place, (token, trained) in enumerate(self._record.tokens):
            tone = colour if trained else "dim"
            text.append(token, f"{tone} bold" if trained and place % 2 else tone)
        return text
