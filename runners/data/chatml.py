"""A record as the model sees it: ChatML ids, and which of them are trained.

``<|im_start|>`` + role + ``\\n`` + content + ``<|im_end|>`` + ``\\n``, the very last newline left
out; the loss is on the bot's content and its ``<|im_end|>`` only. Each piece is tokenized alone, so
that a mask boundary is a token boundary, and so that an answer is tokenized exactly as it will be
generated, after the marker's newline. Pretraining text is trained everywhere and ends in the
end-of-text token. The first token of a sample is never trained: nothing comes before it to
predict it from.
"""

from array import array
from collections.abc import Sequence

from runners.data.records import Role, Turn
from runners.data.tokenizer import ChatTokenizer, Encode, Ids, Markers

TEMPLATE = "chatml-1"
"""Names the template and the rules of its mask; part of every cache's key."""

CHATML_ROLES: dict[Role, str] = {"system": "system", "human": "user", "bot": "assistant"}

_REMEMBERED = 64
_REMEMBERED_LENGTH = 2048


class ChatMLEncoder:
    """Encodes conversations and texts with one tokenizer.

    ``system_prompt`` is given to conversations that have no system message of their own.
    ``encode`` replaces the tokenizer's own encoder by a faster one with the same ids; then its
    ``Markers`` are enough, and the tokenizer itself need not be loaded.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer | Markers,
        *,
        system_prompt: str | None = None,
        encode: Encode | None = None,
    ) -> None:
        if encode is None:
            if isinstance(tokenizer, Markers):
                raise TypeError("markers alone cannot encode: give encode as well")
            encode = tokenizer.encode
        self._encode = encode
        self._im_end = tokenizer.im_end
        self._end_of_text = tokenizer.end_of_text
        self._newline = self._encode("\n")
        self._header = {
            role: array("i", [tokenizer.im_start]) + self._encode(f"{name}\n")
            for role, name in CHATML_ROLES.items()
        }
        self._system_prompt = system_prompt
        self._systems: dict[str, Ids] = {}

    def encode_chat(self, turns: Sequence[Turn], ids: Ids, spans: list[tuple[int, int]]) -> None:
        """Append the conversation to ``ids`` and its trained ranges ``[start, stop)`` to ``spans``.

        Ranges count from the start of all of ``ids``.
        """
        if self._system_prompt is not None and turns[0].role != "system":
            turns = [Turn("system", self._system_prompt), *turns]
        last = len(turns) - 1
        for i, (role, content) in enumerate(turns):
            ids += self._header[role]
            start = len(ids)
            ids += self._system(content) if role == "system" else self._encode(content)
            ids.append(self._im_end)
            if role == "bot":
                spans.append((start, len(ids)))
            if i < last:
                ids += self._newline

    def encode_text(self, text: str, ids: Ids, spans: list[tuple[int, int]]) -> None:
        """Append a pretraining text and its end-of-text token, all trained but the first."""
        start = len(ids)
        ids += self._encode(text)
        ids.append(self._end_of_text)
        spans.append((start + 1, len(ids)))

    def _system(self, content: str) -> Ids:
        """A system message's ids, remembered: a whole data set often shares one."""
        known = self._systems.get(content)
        if known is None:
            known = self._encode(content)
            if len(self._systems) < _REMEMBERED and len(content) <= _REMEMBERED_LENGTH:
                self._systems[content] = known
        return known
