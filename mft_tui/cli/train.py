"""``mft-tui train``, ``merge`` and ``convert``: the commands that make or change weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from runners.config import TrainConfig

Name = Annotated[str | None, typer.Option(help="A name for the run.")]
Detach = Annotated[bool, typer.Option("--detach", help="Start it and come back.")]
Json = Annotated[bool, typer.Option("--json", help="The outcome as JSON on stdout.")]


def train(
    config: Annotated[
        Path, typer.Argument(help="Config file: JSON, YAML or TOML.", show_default=False)
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a config key; may be repeated."),
    ] = None,
    resume_from: Annotated[
        Path | None, typer.Option(help="Checkpoint, or output folder of a run, to go on from.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, print the launch line, and start nothing.")
    ] = False,
    name: Name = None,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Fine-tune a model: LoRA, QLoRA or full, on one machine or several.

    The reference's training files load as they are. Ctrl-C stops the run after a checkpoint;
    mft-tui resume RUN_ID goes on with it.

    \b
    Examples:
      mft-tui train qwen.json
      mft-tui train qwen.json --set learning_rate=1e-4 --set num_processes=2 --detach
      mft-tui train qwen.json --dry-run
    """
    from mft_tui.cli.output import console
    from runners.config import TrainConfig
    from runners.config.preflight import preparations, require_trainable
    from runners.config.resolve import resolve, settings_from_text
    from runners.hardware.probe import detect

    flags: dict[str, object] = settings_from_text(settings or [])
    if resume_from is not None:
        flags["resume_from_checkpoint"] = resume_from.absolute()
    resolved = resolve("train", file=config, flags=flags)
    for notice in resolved.notices:
        console.print(f"note: {notice}", markup=False, soft_wrap=True)
    assert isinstance(resolved.config, TrainConfig)
    hardware = detect()
    require_trainable(resolved.config, hardware)
    for preparation in preparations(resolved.config):
        console.print(f"note: {preparation}", markup=False, soft_wrap=True)
    if dry_run:
        _show_launch(resolved.config, hardware, json=json)
        return
    from mft_tui.cli.launching import run_job_command

    raise typer.Exit(
        run_job_command(
            resolved.config, name=name, detach=detach, json=json, origins=resolved.origins
        )
    )


def _show_launch(config: "TrainConfig", hardware: Any, *, json: bool) -> None:
    """The command that would run, and the settings that DeepSpeed would get."""
    from mft_tui.cli.output import console, print_json
    from runners.config.launch_line import accelerate_argv, deepspeed_settings, layout, shown
    from runners.config.preflight import trained_parameters

    argv, environment = accelerate_argv(config, Path("RUN_FOLDER"), hardware)
    spread = layout(config, hardware)
    ranks = spread.ranks * config.num_machines
    deepspeed = None
    if spread.deepspeed:
        trained = trained_parameters(config, hardware)
        deepspeed = deepspeed_settings(config, spread.precision, ranks, trained)
    if json:
        print_json({"argv": argv, "environment": environment, "deepspeed": deepspeed})
        return
    print(shown(argv, environment))
    if deepspeed is not None:
        console.print("DeepSpeed settings:")
        console.print_json(data=deepspeed)


def merge(
    adapter: Annotated[
        str,
        typer.Argument(
            help="A training run (id or prefix), or an adapter's folder.", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Folder for the merged checkpoint.", show_default=False)
    ],
    base: Annotated[
        str | None, typer.Option(help="Base model, if not the one the adapter names.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, bf16, fp16 or fp32; the base's own by default.")
    ] = None,
    name: Name = None,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Fold an adapter into its base: one plain transformers checkpoint.

    \b
    Examples:
      mft-tui merge 24k7 --output merged
      mft-tui merge runs/24k7/artifacts/final --output merged --dtype bf16
    """
    from mft_tui.cli.launching import run_job_command
    from runners.config.resolve import resolve

    folder, parent = _adapter_of(adapter)
    flags: dict[str, object] = {"adapter": folder, "output_dir": output.absolute()}
    flags |= {key: value for key, value in (("base", base), ("dtype", dtype)) if value is not None}
    resolved = resolve("merge", flags=flags)
    raise typer.Exit(
        run_job_command(
            resolved.config,
            name=name,
            parent=parent,
            detach=detach,
            json=json,
            origins=resolved.origins,
        )
    )


def _adapter_of(named: str) -> tuple[Path, str | None]:
    """The adapter's folder, and the run that made it where one was named."""
    from mft_tui.cli.store import opened_store
    from runners.errors import MissingInputError

    folder = Path(named)
    if (folder / "adapter_config.json").is_file():
        return folder.absolute(), None
    if len(folder.parts) > 1:
        # A path, so no run id.
        raise MissingInputError(
            "there is no adapter here (no adapter_config.json)",
            where=str(folder),
            fix="Name the run by its id, or its folder “final”, or any adapter in peft's format.",
        )
    with opened_store(read_only=True) as store:
        run = store.get_run(named)
        adapters = [a for a in store.artifacts(run.id) if a.kind == "adapter"]
        if not adapters:
            raise MissingInputError(
                "this run has made no adapter",
                where=run.id,
                fix="Name a training run that finished with peft_type lora or qlora.",
            )
        return Path(run.folder, adapters[-1].path).absolute(), run.id


def convert(
    model: Annotated[
        Path,
        typer.Argument(help="The checkpoint: Qwen v1, ChatGLM2 or Baichuan.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option(help="Folder for the converted checkpoint.", show_default=False)
    ],
    name: Name = None,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Write a first-generation checkpoint in the native transformers format.

    Training converts by itself; this is for using such a model elsewhere.

    \b
    Examples:
      mft-tui convert Qwen-1_8B --output qwen-1.8b-native
    """
    from mft_tui.cli.launching import run_job_command
    from runners.config.resolve import resolve
    from runners.models.families import (
        detect_family,
        read_model_config,
        require_first_generation,
        weight_files,
    )

    require_first_generation(detect_family(read_model_config(model)), model)
    weight_files(model)
    resolved = resolve(
        "convert", flags={"model": model.absolute(), "output_dir": output.absolute()}
    )
    raise typer.Exit(
        run_job_command(
            resolved.config, name=name, detach=detach, json=json, origins=resolved.origins
        )
    )
