"""A job's settings as a form needs them, read from its Pydantic model and nowhere else.

A new key in a model is a new row in the form, with its group, explanation, default, choices and
checks. Pure: no widget, no file.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from runners.config import KINDS
from runners.config.resolve import (
    ENVIRONMENT_PREFIX,
    NOT_SETTINGS,
    Origin,
    read_config_file,
    settings_from_text,
    user_defaults_path,
)

MISSING = "must be given"
"""What ``problems`` says of a required key that has no value yet."""


@dataclass(frozen=True)
class Setting:
    """One key; ``choices`` is empty where anything may be typed, ``default`` None if required."""

    key: str
    group: str
    explanation: str
    default: object
    required: bool
    choices: tuple[object, ...]
    limits: str
    type: Any = field(repr=False)

    @property
    def is_flag(self) -> bool:
        """Whether it is on or off."""
        return self.choices == (False, True)


def settings_of(kind: str) -> tuple[Setting, ...]:
    """Every setting of a kind of job, in the model's order."""
    fields = KINDS[kind].model_fields
    return tuple(_setting(key, field) for key, field in fields.items())


def _setting(key: str, info: FieldInfo) -> Setting:
    extra = info.json_schema_extra
    group = str(extra["group"]) if isinstance(extra, dict) else ""
    required = info.default is PydanticUndefined
    return Setting(
        key=key,
        group=group,
        explanation=info.description or "",
        default=None if required else to_jsonable_python(info.default),
        required=required,
        choices=_choices(info.annotation),
        limits=_limits(info.metadata),
        type=_type(info),
    )


def _type(info: FieldInfo) -> Any:
    """The field's type with its limits and readers, as Pydantic takes it."""
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def _choices(annotation: Any) -> tuple[object, ...]:
    if get_origin(annotation) is Annotated:
        return _choices(get_args(annotation)[0])
    if annotation is bool:
        return (False, True)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        inner = [_choices(part) for part in parts]
        if parts and all(inner):
            optional = (None,) if NoneType in get_args(annotation) else ()
            return optional + tuple(choice for part in inner for choice in part)
    return ()


_SIGNS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def _limits(metadata: Sequence[object]) -> str:
    said = [
        f"{sign} {bound:g}"
        for name, sign in _SIGNS
        for limit in metadata
        if (bound := getattr(limit, name, None)) is not None
    ]
    return ", ".join(said)


def shown(value: object) -> str:
    """A value as a person types it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)


def displayed(value: object) -> str:
    """A value as it stands in a list: nothing is a dash, whichever way it is nothing."""
    return shown(value) if value or value in (False, 0) else "–"


def typed(setting: Setting, text: str) -> object:
    """The value that a person means by a text; ``check`` says whether it fits."""
    stripped = text.strip()
    for choice in setting.choices:
        if stripped == shown(choice):
            return choice
    if not stripped and isinstance(setting.default, str | list | dict):
        return type(setting.default)()
    if stripped.lower() in ("", "none", "null"):
        return None
    if setting.is_flag and stripped.lower() in ("on", "yes", "off", "no"):
        return stripped.lower() in ("on", "yes")
    value = settings_from_text([f"{setting.key}={stripped}"])[setting.key]
    try:
        return to_jsonable_python(TypeAdapter(setting.type).validate_python(value))
    except ValidationError:
        return value


@dataclass(frozen=True)
class Inherited:
    """A value that a draft leaves open and somebody else has decided; ``origin`` says who."""

    value: object
    origin: str


def inherited(kind: str, environ: Mapping[str, str] = os.environ) -> dict[str, Inherited]:
    """What the person's defaults and the environment say of a kind of job, by key.

    Raises ``UsageError`` when the file of defaults cannot be read.
    """
    model = KINDS[kind]
    found: dict[str, Inherited] = {}
    defaults = user_defaults_path()
    if defaults.is_file():
        for key, value in read_config_file(defaults).get(kind, {}).items():
            found[model.aliases.get(key, key)] = Inherited(value, str(Origin.USER_DEFAULT))
    for setting in settings_of(kind):
        variable = ENVIRONMENT_PREFIX + setting.key.upper()
        if variable in environ and variable not in NOT_SETTINGS:
            value = typed(setting, environ[variable])
            found[setting.key] = Inherited(value, str(Origin.ENVIRONMENT))
    return {key: found[key] for key in found if key in model.model_fields}


def problems(kind: str, values: Mapping[str, object]) -> dict[str, str]:
    """What is wrong with the values, by key; "" for what concerns several.

    Keys that are required and not given yet are problems as well, said as such.
    """
    try:
        KINDS[kind].model_validate(dict(values))
    except ValidationError as error:
        found: dict[str, str] = {}
        for problem in error.errors():
            key = str(problem["loc"][0]) if problem["loc"] else ""
            said = problem["msg"].removeprefix("Value error, ")
            found.setdefault(key, MISSING if problem["type"] == "missing" else said)
        return found
    return {}


def differing(kind: str, values: Mapping[str, object]) -> dict[str, object]:
    """The values that are not the default."""
    defaults = {setting.key: setting for setting in settings_of(kind)}
    return {
        key: value
        for key, value in values.items()
        if key in defaults and (defaults[key].required or value != defaults[key].default)
    }
