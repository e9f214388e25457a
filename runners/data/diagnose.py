"""What exactly is wrong with one line: the slow, careful reading that a failing line gets.

The fast path decodes whole typed records and only knows that a line failed. Here the line is read
again, loosely, and every fault in it is named with its JSON path, so that a person can repair it
without guessing.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from runners.data.records import Format, Role, faults_in_roles, faults_in_round_ids


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong in a line: ``where`` is a JSON path such as ``chat_rounds[3].role``.

    ``where`` is empty when the whole line is meant.
    """

    where: str
    message: str


@dataclass(frozen=True)
class _Shape:
    """How a format spells a conversation: its list, and each turn's role and content."""

    turns: str
    role: str
    content: str
    roles: dict[str, Role]


_SHAPES = {
    "chat_rounds": _Shape(
        "chat_rounds", "role", "content", {"system": "system", "human": "human", "bot": "bot"}
    ),
    "messages": _Shape(
        "messages",
        "role",
        "content",
        {"system": "system", "user": "human", "assistant": "bot"},
    ),
    "conversations": _Shape(
        "conversations", "from", "value", {"system": "system", "human": "human", "gpt": "bot"}
    ),
}

_TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def diagnose(line: bytes, form: Format) -> list[Fault]:
    """Every fault of ``line`` (without its newline) as a record of ``form``; empty if it has none.

    A line that is not JSON has one fault; a record may have many.
    """
    if b"\0" in line:
        return [Fault("", f"holds a NUL byte (byte {line.index(0)})")]
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return [Fault("", f"is not UTF-8 (byte {error.start}: {error.reason})")]
    try:
        value = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        return [Fault("", f"is not JSON: {_lower_first(str(error))}")]
    except RecursionError:
        return [Fault("", "is nested too deeply")]
    if not isinstance(value, dict):
        return [Fault("", f"is {_kind(value)}, not an object")]
    if shape := _SHAPES.get(form.name):
        return _faults_of_turns(value, shape) + _faults_of_system(value, form)
    keys = ("text",) if form.is_text else ("prompt", "answer")
    faults = [fault for key in keys for fault in _faults_of_text(value, key, key)]
    if form.is_text and value.get("text") == "":
        faults.append(Fault("text", "is empty"))
    return faults + _faults_of_system(value, form)


def _lower_first(text: str) -> str:
    text = text.removeprefix("JSON is malformed: ")
    return text[:1].lower() + text[1:]


def _faults_of_system(record: dict[str, Any], form: Format) -> list[Fault]:
    if "system" not in form.record.__struct_fields__ or record.get("system") is None:
        return []
    return _faults_of_text(record, "system", "system")


def _faults_of_text(owner: dict[str, Any], key: str, where: str) -> list[Fault]:
    if key not in owner:
        return [Fault(where, "is missing")]
    value = owner[key]
    if not isinstance(value, str):
        return [Fault(where, f"is {_kind(value)}, not text")]
    if "\0" in value:
        return [Fault(where, "holds a NUL character (\\u0000)")]
    return []


def _faults_of_turns(record: dict[str, Any], shape: _Shape) -> list[Fault]:
    if shape.turns not in record:
        return [Fault(shape.turns, "is missing")]
    turns = record[shape.turns]
    if not isinstance(turns, list):
        return [Fault(shape.turns, f"is {_kind(turns)}, not a list")]
    if not turns:
        return [Fault(shape.turns, "is empty")]
    faults = [
        (i, fault)
        for i, turn in enumerate(turns)
        for fault in _faults_of_turn(turn, f"{shape.turns}[{i}]", shape)
    ]
    faults += _faults_of_order(turns, shape)
    return [fault for _, fault in sorted(faults, key=lambda found: found[0])]


def _faults_of_turn(turn: object, where: str, shape: _Shape) -> list[Fault]:
    if not isinstance(turn, dict):
        return [Fault(where, f"is {_kind(turn)}, not an object")]
    faults = _faults_of_text(turn, shape.role, f"{where}.{shape.role}")
    if not faults and turn[shape.role] not in shape.roles:
        known = ", ".join(shape.roles)
        faults = [Fault(f"{where}.{shape.role}", f'is "{turn[shape.role]}", not one of {known}')]
    faults += _faults_of_text(turn, shape.content, f"{where}.{shape.content}")
    number = turn.get("chat_round_id")
    if shape.turns == "chat_rounds" and number is not None and type(number) is not int:
        faults.append(Fault(f"{where}.chat_round_id", f"is {_kind(number)}, not a whole number"))
    return faults


def _faults_of_order(turns: list[Any], shape: _Shape) -> list[tuple[int, Fault]]:
    """What is wrong from turn to turn, by the turn's index; what is unreadable is passed over."""
    records = [turn if isinstance(turn, dict) else {} for turn in turns]
    spelled = [record.get(shape.role) for record in records]
    roles = [shape.roles.get(role) if isinstance(role, str) else None for role in spelled]
    misplaced = list(faults_in_roles(roles))
    faults = [(i, Fault(f"{shape.turns}[{i}].{shape.role}", text)) for i, text in misplaced]
    if shape.turns == "chat_rounds":
        # The number of a turn that is out of place would tell of the same fault again.
        told = {i for i, _ in misplaced}
        numbers = [record.get("chat_round_id") for record in records]
        usable = [n if type(n) is int and i not in told else None for i, n in enumerate(numbers)]
        faults += [
            (i, Fault(f"chat_rounds[{i}].chat_round_id", text))
            for i, text in faults_in_round_ids(roles, usable)
        ]
    return faults
