"""The record formats a line of JSONL can have, and what each one says in common terms.

Typed decoding is the whole speed of this room: msgspec checks a line's structure while it parses,
so a line that decodes needs only its turns looked at. Each format is one record type and one
function that gives its turns; nothing else in the room knows how a format spells its roles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

Role = Literal["system", "human", "bot"]


class Turn(NamedTuple):
    """One message of a conversation, in the reference's terms."""

    role: Role
    content: str


class Round(msgspec.Struct, frozen=True, gc=False):
    """One entry of ``chat_rounds``."""

    role: Role
    content: str
    chat_round_id: int | None = None


class ChatRounds(msgspec.Struct, frozen=True, gc=False):
    """``{"chat_rounds": [{"role", "content", "chat_round_id"}, …]}``, the reference's own."""

    chat_rounds: list[Round]


class Message(msgspec.Struct, frozen=True, gc=False):
    """One entry of ``messages``."""

    role: Literal["system", "user", "assistant"]
    content: str


class Messages(msgspec.Struct, frozen=True, gc=False):
    """``{"messages": [{"role", "content"}, …]}``, as OpenAI's API has it."""

    messages: list[Message]


class ShareTurn(msgspec.Struct, frozen=True, gc=False, rename={"sender": "from"}):
    """One entry of ``conversations``."""

    sender: Literal["system", "human", "gpt"]
    value: str


class Conversations(msgspec.Struct, frozen=True, gc=False):
    """``{"conversations": [{"from", "value"}, …]}``, as ShareGPT's exports have it."""

    conversations: list[ShareTurn]
    system: str | None = None


class PromptAnswer(msgspec.Struct, frozen=True, gc=False):
    """``{"prompt", "answer", "system"?}``: one exchange."""

    prompt: str
    answer: str
    system: str | None = None


class Text(msgspec.Struct, frozen=True, gc=False):
    """``{"text"}``: pretraining text, trained everywhere."""

    text: str


_OPENAI_ROLES: dict[str, Role] = {"system": "system", "user": "human", "assistant": "bot"}
_SHAREGPT_ROLES: dict[str, Role] = {"system": "system", "human": "human", "gpt": "bot"}


def _chat_rounds(record: ChatRounds) -> list[Turn]:
    return [Turn(r.role, r.content) for r in record.chat_rounds]


def _messages(record: Messages) -> list[Turn]:
    return [Turn(_OPENAI_ROLES[m.role], m.content) for m in record.messages]


def _conversations(record: Conversations) -> list[Turn]:
    turns = [Turn(_SHAREGPT_ROLES[t.sender], t.value) for t in record.conversations]
    return [Turn("system", record.system), *turns] if record.system else turns


def _prompt_answer(record: PromptAnswer) -> list[Turn]:
    turns = [Turn("human", record.prompt), Turn("bot", record.answer)]
    return [Turn("system", record.system), *turns] if record.system else turns


def _no_turns(_record: Text) -> list[Turn]:
    return []


@dataclass(frozen=True)
class Format:
    """A record format: its name, the key that gives it away, its type, its turns.

    ``turns`` of a ``text`` record is empty: it is no conversation. ``contents`` gives the texts
    of many records at once, without the cost of naming their roles.
    """

    name: str
    key: str
    record: type[msgspec.Struct]
    turns: Callable[[Any], list[Turn]]
    contents: Callable[[Sequence[Any]], list[list[str]]]

    @property
    def is_text(self) -> bool:
        """True for pretraining text, which is trained everywhere."""
        return self.record is Text

    def decoder(self) -> "msgspec.json.Decoder[Any]":
        """A decoder of one record of this format."""
        return msgspec.json.Decoder(self.record)


def _of_turns(turns: Callable[[Any], list[Turn]]) -> Callable[[Sequence[Any]], list[list[str]]]:
    return lambda records: [[turn.content for turn in turns(record)] for record in records]


FORMATS: tuple[Format, ...] = (
    Format(
        "chat_rounds",
        "chat_rounds",
        ChatRounds,
        _chat_rounds,
        lambda records: [[r.content for r in record.chat_rounds] for record in records],
    ),
    Format(
        "messages",
        "messages",
        Messages,
        _messages,
        lambda records: [[m.content for m in record.messages] for record in records],
    ),
    Format(
        "conversations",
        "conversations",
        Conversations,
        _conversations,
        _of_turns(_conversations),
    ),
    Format("prompt_answer", "answer", PromptAnswer, _prompt_answer, _of_turns(_prompt_answer)),
    Format("text", "text", Text, _no_turns, lambda records: [[r.text] for r in records]),
)
"""Every format, the one that wins first when a record has the keys of several."""


def get_format(name: str) -> Format:
    """The format called ``name``. Raises ``KeyError``."""
    return next(f for f in FORMATS if f.name == name)


def fault_in_roles(roles: Sequence[Role]) -> tuple[int, str] | None:
    """What is wrong with the order of a conversation's roles: the turn's index and a sentence.

    A conversation is an optional system message, then human and bot in turn; a last human turn
    that nobody answers is allowed (it is read, and not trained).
    """
    if not roles:
        return 0, "has no turns"
    for i, role in enumerate(roles):
        before = roles[i - 1] if i else None
        if role == "system" and i > 0:
            return i, "a system message may only come first"
        if role == "bot" and before in (None, "system"):
            return i, "a bot turn comes before any human turn"
        if role == before:
            return i, f"two {role} turns in a row"
    if "bot" not in roles:
        return len(roles) - 1, "there is no bot turn, so there is nothing to train on"
    return None


def fault_in_round_ids(roles: Sequence[Role], ids: Sequence[int | None]) -> tuple[int, str] | None:
    """What is wrong with ``chat_round_id``: it never falls, and rises with each new question.

    Both ways of numbering in use pass: one number an exchange, and one number a message.
    """
    last: int | None = None
    seen_human = False
    for i, (role, number) in enumerate(zip(roles, ids, strict=True)):
        if number is None:
            continue
        if last is not None and number < last:
            return i, f"chat_round_id {number} comes after {last}"
        if role == "human":
            if seen_human and number == last:
                return i, f"chat_round_id {number} is used by two exchanges"
            seen_human = True
        last = number
    return None
