"""What every job's config has in common.

A config is a flat Pydantic model. Each field carries its group, its explanation and its default, so
that the wizard, the flags, the JSON schema and the error messages all come from one place.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def setting(default: Any, group: str, explanation: str, **constraints: Any) -> Any:
    """A config field: its default, the group the wizard shows it in, and what it does."""
    return Field(
        default, description=explanation, json_schema_extra={"group": group}, **constraints
    )


def required(group: str, explanation: str, **constraints: Any) -> Any:
    """A config field without a default."""
    return Field(description=explanation, json_schema_extra={"group": group}, **constraints)


def _listed(value: object) -> object:
    """Read "[a,b]" or "a,b" as a list, the way the reference writes its data paths."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        return [part.strip().strip("'\"") for part in text.split(",") if part.strip()]
    return value


PathList = Annotated[list[Path], BeforeValidator(_listed)]
StrList = Annotated[list[str], BeforeValidator(_listed)]


class JobConfig(BaseModel):
    """Base of every job's config. Unknown keys are errors; values are checked when assigned."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())

    kind: ClassVar[str]
    """The job's name: ``train``, ``generate``, …"""

    aliases: ClassVar[dict[str, str]] = {}
    """Other spellings of keys that files on disk use, and the key each one means."""

    obsolete: ClassVar[dict[str, str]] = {}
    """Keys of the reference that no longer mean anything, and what each one did."""
