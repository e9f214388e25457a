"""From flags, environment, files and defaults to one checked config, every value with its origin.

Precedence, highest first: flag, environment (``MFT_LEARNING_RATE`` for ``learning_rate``), config
file, user defaults (``defaults.toml`` in the XDG config folder, a table for each kind), default.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import platformdirs
import yaml
from pydantic import ValidationError

from runners.config import KINDS
from runners.config.base import JobConfig
from runners.errors import MissingInputError, UsageError

ENVIRONMENT_PREFIX = "MFT_"
NOT_SETTINGS = frozenset({"MFT_HOME", "MFT_RUN_ID"})
"""Variables of ours that are no config keys."""


class Origin(StrEnum):
    """Who decided a value."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    USER_DEFAULT = "user default"
    DEFAULT = "default"


@dataclass(frozen=True)
class Resolved:
    """A checked config, who decided each of its values, and what the person should know."""

    config: JobConfig
    origins: Mapping[str, Origin]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Layer:
    origin: Origin
    source: str
    values: Mapping[str, Any]


def resolve(
    kind: str,
    *,
    file: Path | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Resolved:
    """Merge every source of settings for a job of ``kind`` and check the result.

    Raises ``UsageError`` naming the key and where it was set when a key is unknown or a value does
    not fit, and ``MissingInputError`` when ``file`` is not there.
    """
    model = KINDS[kind]
    layers = _layers(model, file, flags or {}, environ)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(model.model_fields, Origin.DEFAULT)
    sources: dict[str, str] = {}
    notices: list[str] = []
    for layer in layers:
        for key, value in _known(model, layer, notices).items():
            values[key], origins[key], sources[key] = value, layer.origin, layer.source
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        raise _explained(model, error, sources) from None
    notices += _corrected(config, values)
    return Resolved(config, origins, tuple(notices))


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a JSON, YAML or TOML mapping.

    Raises ``MissingInputError`` or ``UsageError``, with the line where the text breaks.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingInputError(
            "there is no such config file",
            where=str(path),
            fix="`mft-tui config new train` writes one to start from.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read this config file: {error}", where=str(path)) from error
    try:
        content = _parse(path.suffix.lower(), text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"not JSON: {error.msg} (column {error.colno})", where=f"{path}:{error.lineno}"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise UsageError(f"not YAML: {problem}", where=f"{path}{line}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not TOML: {error}", where=str(path)) from None
    if not isinstance(content, dict):
        raise UsageError("a config file holds one mapping of keys to values", where=str(path))
    return content


def settings_from_text(pairs: Sequence[str]) -> dict[str, object]:
    """Read ``key=value`` pairs of ``--set``; values that are JSON are read as such.

    Raises ``UsageError`` for a pair without "=".
    """
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                f"{pair!r} has no value", where="--set", fix="Write it as --set learning_rate=1e-4."
            )
        values[key.strip()] = _value_from_text(text)
    return values


def user_defaults_path() -> Path:
    """The file with the person's own defaults."""
    return platformdirs.user_config_path("mft-tui") / "defaults.toml"


def _layers(
    model: type[JobConfig],
    file: Path | None,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
) -> list[_Layer]:
    """The sources from lowest to highest precedence."""
    layers = []
    defaults = user_defaults_path()
    if defaults.is_file():
        table = read_config_file(defaults).get(model.kind, {})
        layers.append(_Layer(Origin.USER_DEFAULT, f"{defaults} [{model.kind}]", table))
    if file is not None:
        layers.append(_Layer(Origin.FILE, str(file), read_config_file(file)))
    from_environment = {
        key: _value_from_text(environ[variable])
        for key in model.model_fields
        if (variable := ENVIRONMENT_PREFIX + key.upper()) in environ
        and variable not in NOT_SETTINGS
    }
    layers.append(_Layer(Origin.ENVIRONMENT, "the environment", from_environment))
    layers.append(_Layer(Origin.FLAG, "the command line", flags))
    return layers


def _known(model: type[JobConfig], layer: _Layer, notices: list[str]) -> dict[str, Any]:
    """The layer's values under their present keys. Raises ``UsageError`` for an unknown key."""
    values: dict[str, Any] = {}
    for key, value in layer.values.items():
        if key in model.obsolete:
            notices.append(f"{layer.source}: {key} has no effect: it {model.obsolete[key]}")
            continue
        if key not in model.model_fields and key not in model.aliases:
            raise UsageError(
                f"unknown {model.kind} setting {key!r}",
                where=layer.source,
                fix=_nearest(model, key),
            )
        name = model.aliases.get(key, key)
        if name in values and values[name] != value:
            raise UsageError(f"{key} and {name} are the same setting", where=layer.source)
        values[name] = value
    return values


def _corrected(config: JobConfig, given: Mapping[str, Any]) -> list[str]:
    """What the model made of values that contradict one another (lora on 4-bit weights, say)."""
    return [
        f"{key} is {now!r}, not {value!r}: the other settings ask for it"
        for key, value in given.items()
        if isinstance(value, str) and isinstance(now := getattr(config, key), str) and now != value
    ]


def _nearest(model: type[JobConfig], key: str) -> str:
    names = [*model.model_fields, *model.aliases, *model.obsolete]
    if close := difflib.get_close_matches(key, names, n=1, cutoff=0.6):
        return f"Did you mean {close[0]}?"
    return f"`mft-tui config schema {model.kind}` lists every setting."


def _explained(
    model: type[JobConfig], error: ValidationError, sources: Mapping[str, str]
) -> UsageError:
    lines = []
    first_source = None
    for problem in error.errors():
        key = str(problem["loc"][0]) if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            lines.append(f"{key} must be given: {model.model_fields[key].description}")
            continue
        source = sources.get(key)
        first_source = first_source or source
        given = f", not {problem['input']!r}" if key and problem["type"] != "value_error" else ""
        text = f"{key}: {message}{given}" if key else message
        lines.append(text)
    unique = list(dict.fromkeys(lines))
    return UsageError("; ".join(unique), where=first_source)


def _parse(suffix: str, text: str) -> Any:
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix in {".yaml", ".yml"}:
        return yaml.safe_load(text)
    return json.loads(text)


def _value_from_text(text: str) -> object:
    """Read lists, mappings, quoted text and null as JSON; the model reads numbers and flags."""
    if text == "null" or text[:1] in {"[", "{", '"'}:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text
