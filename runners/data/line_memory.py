"""Lines of code remembered with their ids, because code repeats its lines.

Some tokenizers' patterns end a piece at the last newline of any white space that holds one,
whatever follows. With such a pattern a text can be cut there, its parts encoded apart, and the ids
put end to end; and a part that was seen before need not be encoded again.
"""

from runners.data.tokenizer import Encode

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

LINE_PATTERNS = frozenset(
    f"{_CONTRACTIONS}|{_WORDS}|{number}|{_REST}" for number in (r"\p{N}", r"\p{N}{1,3}")
)
"""The patterns of Qwen 2 and 3, and of Llama 3.

Only two of their alternatives can hold a newline, the punctuation's tail and the white space that
ends in newlines, and both go on to the last newline they can reach.
"""

_LINES = 50_000
_LONGEST = 200


def by_lines(encode: Encode) -> Encode:
    """``encode`` for a tokenizer of one of ``LINE_PATTERNS``, with a memory of lines.

    The memory holds a few ten megabytes at most.
    """
    memory: dict[str, list[int]] = {}

    def encode_by_lines(text: str) -> list[int]:
        # A lone carriage return belongs to the newlines before it.
        if "\r" in text:
            return encode(text)
        ids: list[int] = []
        first, *others = text.split("\n")
        part = first
        for line in [*others, None]:
            # A blank line continues the white space before it, so there is no cut in front of it.
            if line is not None and (not line or line.isspace()):
                part = f"{part}\n{line}"
                continue
            if line is not None:
                part += "\n"
            known = memory.get(part)
            if known is None:
                known = encode(part)
                if len(part) <= _LONGEST:
                    if len(memory) >= _LINES:
                        memory.clear()
                    memory[part] = known
            ids += known
            if line is not None:
                part = line
        return ids

    return encode_by_lines
