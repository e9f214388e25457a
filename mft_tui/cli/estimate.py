"""``mft-tui estimate``: what a training run needs, before anything is launched or downloaded."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mft_tui.cli.following import display_for
from mft_tui.cli.output import console, data, print_json
from runners.errors import MissingInputError, UsageError
from runners.lifecycle.events import Progress

if TYPE_CHECKING:
    from runners.config import TrainConfig
    from runners.hardware.estimate import Estimate
    from runners.hardware.probe import Hardware
    from runners.hardware.speed import DataCounts

COLOURS = {"fits": "green", "tight": "yellow", "does not fit": "red", "unknown": "yellow"}


def estimate(
    config: Annotated[Path, typer.Argument(help="A training config: JSON, YAML or TOML.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="Plan for this many GPUs; this machine's by default.")
    ] = None,
    gpu_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory of each planned GPU, such as 24GB.")
    ] = None,
    gpu_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Model of the planned GPUs, such as H100, for the time."),
    ] = None,
    model_config: Annotated[
        Path | None,
        typer.Option(help="The model's config.json, where the model itself is not here."),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Training samples.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of all samples.")] = None,
    trained_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens that are targets; all by default.")
    ] = None,
    count: Annotated[
        bool,
        typer.Option(
            "--count", help="Count samples and tokens: tokenizes the data, once for training too."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
) -> None:
    """Memory per rank, steps and time of a training run; whether it fits, and what would help.

    Needs the model's config.json only: no weights are loaded. Steps and time need to know the data:
    --count reads it with the model's tokenizer, or say what `mft-tui validate --tokenizer` counted.

    \b
    Examples:
      mft-tui estimate train.json --count
      mft-tui estimate train.json --gpus 8 --gpu-memory 80GB --gpu-name H100
      mft-tui estimate train.json --set peft_type=qlora --samples 20000 --tokens 9000000 --json
    """
    from runners.config import TrainConfig
    from runners.config.resolve import resolve, settings_from_text
    from runners.hardware.estimate import estimate as estimate_run

    resolved = resolve("train", file=config, flags=settings_from_text(settings or []))
    assert isinstance(resolved.config, TrainConfig)
    if count and (samples, tokens, trained_tokens) != (None, None, None):
        raise UsageError(
            "the data is either counted or told",
            where="--count",
            fix="Leave out --count, or --samples, --tokens and --trained-tokens.",
        )
    answer = estimate_run(
        resolved.config,
        read_model(resolved.config.pretrained_model_path, model_config),
        _hardware(gpus, gpu_memory, gpu_name),
        _count(resolved.config) if count else _counts(samples, tokens, trained_tokens),
    )
    if as_json:
        print_json(answer.to_json())
    else:
        show(answer)


def read_model(name: str, given: Path | None) -> dict[str, Any]:
    """The model's config.json: the file given, the model's folder, the hub's cache, or the hub.

    Raises ``MissingInputError`` when none of them has it.
    """
    from runners.models.families import read_model_config

    if given is not None:
        return read_model_config(given if given.is_dir() else _folder_of(given))
    path = Path(name).expanduser()
    if path.is_dir() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return read_model_config(path)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = hf_hub_download(name, "config.json")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingInputError(
            f"the hub does not give {name}'s config.json ({type(error).__name__})",
            where="pretrained_model_path",
            fix="Check the name and the network, or pass --model-config FILE.",
        ) from error
    return read_model_config(Path(found).parent)


def _folder_of(file: Path) -> Path:
    if file.name != "config.json":
        raise UsageError(
            "a model's config is called config.json", where=str(file), fix="Pass that file."
        )
    return file.parent


def _hardware(gpus: int | None, memory: str | None, name: str | None) -> "Hardware":
    from runners.hardware.peaks import find_model
    from runners.hardware.probe import detect, with_gpus

    here = detect()
    if gpus is None and memory is None and name is None:
        return here
    known = find_model(name) if name else None
    if memory is None and known is None and here.gpu_memory is None and gpus != 0:
        raise UsageError(
            "there is no GPU here to take the memory of",
            where="--gpu-memory",
            fix="Say how much each has, as in --gpu-memory 24GB, or name a model: --gpu-name H100.",
        )
    size = parse_size(memory) if memory else (known.memory if known else here.gpu_memory or 0)
    shown = name or (here.usable[0].name if here.usable else "planned GPU")
    return with_gpus(here, gpus if gpus is not None else len(here.usable) or 1, size, name=shown)


def parse_size(text: str) -> int:
    """Bytes of "24GB", "80 GiB" or "512MB". GB is read as GPU makers print it: 2^30 bytes.

    Raises ``UsageError`` for anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([GMT])(?:i?B)?\s*", text, re.IGNORECASE)
    if not found:
        raise UsageError(f"{text!r} is not a size", where="--gpu-memory", fix="Write it as 24GB.")
    return int(float(found[1]) * {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[found[2].upper()])


def _count(config: "TrainConfig") -> "DataCounts":
    from runners.data.counting import count_training_data

    folder = Path(config.pretrained_model_path).expanduser()
    if not folder.is_dir():
        raise MissingInputError(
            "counting tokens needs the model's tokenizer here",
            where=f"pretrained_model_path: {config.pretrained_model_path}",
            fix="Fetch the model first, or pass --samples and --tokens.",
        )
    with display_for(console, "counting") as display:

        def tell(stage: str, done: int, total: int | None, unit: str) -> None:
            display.event(
                Progress(at=time.time(), seq=0, stage=stage, done=done, total=total, unit=unit)
            )
            display.tick()

        return count_training_data(config, folder, on_progress=tell)


def _counts(samples: int | None, tokens: int | None, trained: int | None) -> "DataCounts | None":
    from runners.hardware.speed import DataCounts

    if samples is None and tokens is None and trained is None:
        return None
    if samples is None or tokens is None:
        raise UsageError(
            "steps follow from samples and tokens together",
            where="--samples, --tokens",
            fix="Pass both; `mft-tui validate DIR --tokenizer PATH` counts them.",
        )
    return DataCounts(samples, tokens, trained if trained is not None else tokens)


def show(answer: "Estimate") -> None:
    """Print an estimate for a person."""
    from rich.table import Table

    from runners.hardware.estimate import gib

    shape, rank = answer.shape, answer.rank
    colour = COLOURS[answer.verdict]
    data.print(f"[bold {colour}]{answer.verdict}[/]: {answer.reason}")
    data.print(
        f"{shape.family}, {shape.parameters / 1e9:.2f}B parameters, "
        f"{rank.trainable / 1e6:.1f}M trained; "
        f"{answer.recipe.ranks} × {answer.recipe.device}, ZeRO {answer.recipe.zero_stage}"
    )
    table = Table(title=None, box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, size in answer.to_json()["parts"].items():
        if size:
            table.add_row(name, gib(size))
    table.add_row("[bold]peak of a rank[/]", f"[bold]{gib(answer.bytes_per_rank)}[/]")
    if rank.host:
        table.add_row("in main memory, all ranks here", gib(rank.host))
    data.print(table)
    data.print(f"The peak comes at the {rank.moment}.")
    for notice in answer.notices:
        data.print(f"[yellow]{notice}[/]", soft_wrap=True)
    _show_speed(answer)
    for title, changes in (
        ("Any one of these makes it fit:", answer.suggestions),
        ("No single change is enough; these together are:", answer.together),
    ):
        if changes:
            data.print(f"\n{title}")
        for change in changes:
            data.print(
                f"  • {change.text} → {gib(change.bytes_per_rank)} ({change.verdict}); "
                f"cost: {change.cost}",
                soft_wrap=True,
            )
    if answer.verdict == "does not fit" and not (answer.suggestions or answer.together):
        data.print("\nNothing this config can change makes it fit: take more or larger GPUs.")


def _show_speed(answer: "Estimate") -> None:
    speed = answer.speed
    if speed.steps is not None and speed.tokens is not None:
        data.print(
            f"{speed.steps:,} optimizer steps of {speed.tokens_per_step:,} tokens: "
            f"{speed.tokens:,} tokens"
        )
    else:
        data.print(
            f"{speed.tokens_per_step:,} tokens an optimizer step; --count tells steps and time"
        )
    if speed.seconds is not None and speed.tokens_per_second is not None:
        data.print(f"about {_duration(speed.seconds)} at {speed.tokens_per_second:,.0f} tokens/s")
    data.print(f"[dim]{speed.basis}[/]")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"
