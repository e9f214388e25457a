"""The record formats a line of JSONL can have, and what each one says in common terms.

Typed decoding is the whole speed of this room: msgspec checks a line's structure while it parses,
so a line that decodes needs only its turns looked at. Each format is one record type and one
function that gives its turns; nothing else in the room knows how a format spells its roles.
"""

from collections.abc import Callable, Iterator, Sequence
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


class Columns(NamedTuple):
    """Records turned on their side: their turns one after the other.

    Passing over a column takes a fraction of the time of passing over records, so what is asked of
    every record is asked of columns. ``counts`` are the turns of each record; ``roles`` are spelled
    as the format spells them; ``numbers`` are ``chat_round_id`` (empty where a format has none).
    """

    counts: list[int]
    roles: list[str]
    numbers: list[int | None]
    contents: list[str]

    def period(self) -> int:
        """The number of turns of every record if all have the same order; else 0.

        Most data has one order throughout, and lists are compared at the speed of memory.
        """
        counts, roles, numbers, _ = self
        turns = counts[0] if counts else 0
        same = (
            counts.count(turns) == len(counts)
            and roles == roles[:turns] * len(counts)
            and numbers == numbers[:turns] * len(counts)
        )
        return turns if same else 0


def _chat_rounds(record: ChatRounds) -> list[Turn]:
    return [Turn(r.role, r.content) for r in record.chat_rounds]


def _chat_rounds_columns(records: Sequence[ChatRounds]) -> Columns:
    return Columns(
        [len(record.chat_rounds) for record in records],
        [r.role for record in records for r in record.chat_rounds],
        [r.chat_round_id for record in records for r in record.chat_rounds],
        _chat_rounds_contents(records),
    )


def _chat_rounds_contents(records: Sequence[Any]) -> list[str]:
    return [r.content for record in records for r in record.chat_rounds]


def _messages(record: Messages) -> list[Turn]:
    return [Turn(_OPENAI_ROLES[m.role], m.content) for m in record.messages]


def _messages_columns(records: Sequence[Messages]) -> Columns:
    return Columns(
        [len(record.messages) for record in records],
        [m.role for record in records for m in record.messages],
        [],
        _messages_contents(records),
    )


def _messages_contents(records: Sequence[Any]) -> list[str]:
    return [m.content for record in records for m in record.messages]


def _conversations(record: Conversations) -> list[Turn]:
    turns = [Turn(_SHAREGPT_ROLES[t.sender], t.value) for t in record.conversations]
    return [Turn("system", record.system), *turns] if record.system else turns


def _prompt_answer(record: PromptAnswer) -> list[Turn]:
    turns = [Turn("human", record.prompt), Turn("bot", record.answer)]
    return [Turn("system", record.system), *turns] if record.system else turns


def _no_turns(_record: Text) -> list[Turn]:
    return []


def _text_columns(records: Sequence[Text]) -> Columns:
    texts = [record.text for record in records]
    return Columns([1] * len(texts), ["text"] * len(texts), [], texts)


@dataclass(frozen=True)
class Format:
    """A record format: its name, the keys that give it away, its type, its turns.

    ``turns`` of a ``text`` record is empty: it is no conversation; its columns hold it as one turn.
    ``answer`` is the role in ``columns`` that is trained. ``contents`` gives that column alone; it
    is None where ``decoder_of_order`` cannot be used.
    """

    name: str
    keys: frozenset[str]
    record: type[msgspec.Struct]
    turns: Callable[[Any], list[Turn]]
    columns: Callable[[Sequence[Any]], Columns]
    answer: str = "bot"
    contents: Callable[[Sequence[Any]], list[str]] | None = None

    @property
    def is_text(self) -> bool:
        """True for pretraining text, which is trained everywhere."""
        return self.record is Text

    def decoder(self) -> "msgspec.json.Decoder[Any]":
        """A decoder of one record of this format."""
        return msgspec.json.Decoder(self.record)

    def decoder_of_order(
        self, roles: Sequence[str], numbers: Sequence[int | None]
    ) -> "msgspec.json.Decoder[Any]":
        """A decoder whose type allows just this order of roles and numbers.

        What it makes has the fields of ``record``, and needs no look at its order any more.
        """
        turns: list[Any] = []
        for i, role in enumerate(roles):
            fields: list[Any] = [("role", Literal[role]), ("content", str)]
            if numbers and numbers[i] is None:
                fields.append(("chat_round_id", None, None))
            elif numbers:
                fields.append(("chat_round_id", Literal[numbers[i]]))
            turns.append(msgspec.defstruct(f"Turn{i}", fields, frozen=True, gc=False))
        (key,) = self.keys
        fields = [(key, tuple[tuple(turns)])]  # type: ignore[misc]
        return msgspec.json.Decoder(msgspec.defstruct("OfOrder", fields, frozen=True, gc=False))


def _columns_of(turns: Callable[[Any], list[Turn]]) -> Callable[[Sequence[Any]], Columns]:
    def columns(records: Sequence[Any]) -> Columns:
        all_turns = [turns(record) for record in records]
        return Columns(
            list(map(len, all_turns)),
            [turn.role for some in all_turns for turn in some],
            [],
            [turn.content for some in all_turns for turn in some],
        )

    return columns


FORMATS: tuple[Format, ...] = (
    Format(
        "chat_rounds",
        frozenset({"chat_rounds"}),
        ChatRounds,
        _chat_rounds,
        _chat_rounds_columns,
        contents=_chat_rounds_contents,
    ),
    Format(
        "messages",
        frozenset({"messages"}),
        Messages,
        _messages,
        _messages_columns,
        answer="assistant",
        contents=_messages_contents,
    ),
    Format(
        "conversations",
        frozenset({"conversations"}),
        Conversations,
        _conversations,
        _columns_of(_conversations),
    ),
    Format(
        "prompt_answer",
        frozenset({"prompt", "answer"}),
        PromptAnswer,
        _prompt_answer,
        _columns_of(_prompt_answer),
    ),
    Format("text", frozenset({"text"}), Text, _no_turns, _text_columns, answer="text"),
)
"""Every format, the one that wins first when a record has the keys of several."""


def get_format(name: str) -> Format:
    """The format called ``name``. Raises ``KeyError``."""
    return next(f for f in FORMATS if f.name == name)


def faults_in_roles(roles: Sequence[Role | None]) -> Iterator[tuple[int, str]]:
    """All that is wrong with the order of a conversation's roles: a turn's index and a sentence.

    A conversation is an optional system message, then human and bot in turn; a last human turn
    that nobody answers is allowed (it is read, and not trained). None is a role that is unknown:
    it may be any, so nothing is said of it nor of its neighbours because of it.
    """
    if not roles:
        yield 0, "has no turns"
        return
    before: Role | None = "system"
    for i, role in enumerate(roles):
        if role == "system":
            if i > 0:
                # Set aside, so that the turns around it are judged as if it were not there.
                yield i, "a system message may only come first"
            continue
        if role == "bot" and before == "system":
            yield i, "a bot turn comes before any human turn"
        elif role is not None and role == before:
            yield i, f"two {role} turns in a row"
        before = role
    if "bot" not in roles and None not in roles:
        yield len(roles) - 1, "there is no bot turn, so there is nothing to train on"


def faults_in_round_ids(
    roles: Sequence[Role | None], ids: Sequence[int | None]
) -> Iterator[tuple[int, str]]:
    """All that is wrong with ``chat_round_id``: it never falls, and rises with each new question.

    Both ways of numbering in use pass: one number an exchange, and one number a message.
    """
    last: int | None = None
    seen_human = False
    for i, (role, number) in enumerate(zip(roles, ids, strict=True)):
        if number is None:
            continue
        if last is not None and number < last:
            yield i, f"chat_round_id {number} comes after {last}"
        elif role == "human" and seen_human and number == last:
            yield i, f"chat_round_id {number} is used by two exchanges"
        seen_human = seen_human or role == "human"
        last = number
