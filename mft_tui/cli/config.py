"""``mft-tui config``: make, check, compare and describe configs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mft_tui.cli.output import console, print_json
from runners.config import KINDS, JobConfig
from runners.config.resolve import read_config_file, resolve, settings_from_text
from runners.errors import UsageError

app = typer.Typer(
    help="Make, check, compare configs; print JSON schema.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")
]
Kind = Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")]


@app.command()
def new(
    kind: Kind = "train",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here; stdout by default.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Write a config with every setting at its default.

    \b
    Examples:
      mft-tui config new train -o train.json
      mft-tui config new train --set peft_type=qlora --set lora_rank=64
    """
    model = _model(kind)
    values: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        values[key] = _placeholder(key) if field.is_required() else field.get_default()
    values |= settings_from_text(settings or [])
    checked = resolve(kind, flags=values)
    text = checked.config.model_dump_json(indent=2) + "\n"
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise UsageError(
            "this file is there already", where=str(output), fix="Choose another name for it."
        )
    output.write_text(text, encoding="utf-8")
    missing = [key for key, field in model.model_fields.items() if field.is_required()]
    console.print(f"wrote {output}; set {', '.join(missing)} in it")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON, YAML or TOML.")],
    kind: Annotated[str, typer.Option(help="What it configures; recognized by default.")] = "",
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Values and origins as JSON.")] = False,
) -> None:
    """Check a config and say where each value that is no default comes from.

    \b
    Examples:
      mft-tui config check qwen_train_config_1_8B.json
      mft-tui config check train.yaml --set seed=7 --json
    """
    name = kind or _recognized(file)
    _model(name)
    checked = resolve(name, file=file, flags=settings_from_text(settings or []))
    values = json.loads(checked.config.model_dump_json())
    if as_json:
        print_json(
            {
                "ok": True,
                "kind": name,
                "values": values,
                "origins": dict(checked.origins),
                "notices": list(checked.notices),
            }
        )
        return
    for key, origin in checked.origins.items():
        if origin != "default":
            print(f"{key} = {json.dumps(values[key])}  ({origin})")
    for notice in checked.notices:
        console.print(f"note: {notice}", style="yellow", markup=False)
    console.print(f"{file}: a valid {name} config", style="green", markup=False)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="A config.")],
    second: Annotated[
        Path | None, typer.Argument(help="Another; the defaults when left out.")
    ] = None,
    kind: Annotated[str, typer.Option(help="What they configure; recognized by default.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what differs between two configs, or between one and the defaults.

    Settings of the reference that no longer have an effect are named with what they did.

    \b
    Examples:
      mft-tui config diff qwen_train_config_1_8B.json
      mft-tui config diff a.json b.json
    """
    name = kind or _recognized(first)
    model = _model(name)
    left = resolve(name, file=first, environ={})
    left_values = json.loads(left.config.model_dump_json())
    notices = list(left.notices)
    if second is None:
        right_values: dict[str, Any] = {
            key: json.loads(json.dumps(field.get_default(), default=str))
            for key, field in model.model_fields.items()
            if not field.is_required()
        }
    else:
        right = resolve(name, file=second, environ={})
        right_values = json.loads(right.config.model_dump_json())
        notices += right.notices
    differing = {
        key: (value, right_values.get(key))
        for key, value in left_values.items()
        if value != right_values.get(key)
    }
    if as_json:
        rows = [{"key": k, "first": a, "second": b} for k, (a, b) in differing.items()]
        print_json({"differences": rows, "notices": notices})
        return
    against = str(second) if second else "the defaults"
    console.print(f"- {first}\n+ {against}", style="dim", markup=False)
    for key, (value, other) in differing.items():
        print(f"- {key} = {json.dumps(value)}")
        if key in right_values:
            print(f"+ {key} = {json.dumps(other)}")
    for notice in notices:
        print(f"~ {notice}")


@app.command()
def schema(kind: Kind = "train") -> None:
    """Print the JSON schema of a config: every setting, its type, default and explanation.

    \b
    Examples:
      mft-tui config schema train > train.schema.json
    """
    print_json(_model(kind).model_json_schema())


def _model(kind: str) -> type[JobConfig]:
    if kind not in KINDS:
        raise UsageError(f"there is no config kind {kind!r}", fix=f"Kinds: {', '.join(KINDS)}.")
    return KINDS[kind]


def _recognized(file: Path) -> str:
    """The kind that knows most of the file's keys."""
    keys = set(read_config_file(file))

    def known(kind: str) -> int:
        model = KINDS[kind]
        return len(keys & {*model.model_fields, *model.aliases, *model.obsolete})

    return max(KINDS, key=known)


def _placeholder(key: str) -> object:
    """A value for a required setting that reads as one to be replaced."""
    if key == "data_paths":
        return ["path/to/task_1", "path/to/task_2"]
    return {"model_name": "my-model"}.get(key, f"path/to/{key}")
