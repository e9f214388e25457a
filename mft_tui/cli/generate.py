"""``mft-tui generate``: answer the benchmark tasks with a model."""

from pathlib import Path
from typing import Annotated

import typer


def generate(
    model: Annotated[
        str | None, typer.Option(help="Checkpoint or adapter folder, or a model of the hub.")
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="Name in the file names of the submission.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Config file (JSON, YAML, TOML); flags go before it.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks or families, comma separated; all 13 by default.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="transformers, openai (a server), or completions (a file).")
    ] = None,
    completions: Annotated[
        Path | None,
        typer.Option(help="With --engine completions: JSONL of {task, index, completion}."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="reference, or chatml: the template of training."),
    ] = None,
    system_prompt: Annotated[
        str | None, typer.Option(help="System message of the chat formats.")
    ] = None,
    code_prefix: Annotated[
        str | None, typer.Option(help="With chatml: code to complete in the user turn or answer.")
    ] = None,
    benchmarks: Annotated[
        Path | None, typer.Option(help="Benchmark folder; the imported one by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder that gets generations_{model}.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N questions of each task.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Adapter to load on the model.")] = None,
    quantization: Annotated[str | None, typer.Option(help="4bit or 8bit.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, bf16, fp16 or fp32.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Questions at once.")] = None,
    num_processes: Annotated[int | None, typer.Option(help="Ranks; one a GPU by default.")] = None,
    use_cpu: Annotated[bool, typer.Option("--use-cpu", help="Leave the GPUs alone.")] = False,
    max_length: Annotated[
        int | None, typer.Option(help="Most tokens in all, prompt included.")
    ] = None,
    eos_token: Annotated[str | None, typer.Option(help="The end token.")] = None,
    stop_early: Annotated[
        bool | None,
        typer.Option("--stop-early/--no-stop-early", help="End a row where its stop rule holds."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="With --engine openai: the server, up to /v1.")
    ] = None,
    served_model: Annotated[
        str | None, typer.Option(help="With --engine openai: the model's name there.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="With --engine openai: requests at once.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for the run.")] = None,
    parent: Annotated[
        str | None, typer.Option(help="Run that made the model, for the lineage.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and come back.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The summary as JSON on stdout.")] = False,
) -> None:
    """Answer the 13 tasks, greedily by default, and write the files of a submission.

    Every completion is kept as it is made. Started again with the same --output, or resumed, it
    goes on where it was.

    \b
    Examples:
      mft-tui generate --model out/merged --model-name my-model --format chatml --output out
      mft-tui generate --engine openai --base-url http://gpu:8000/v1 --model-name my-model
      mft-tui generate --engine completions --completions made.jsonl --model-name other
    """
    from mft_tui.cli.launching import run_job_command
    from mft_tui.cli.output import console
    from runners.config.resolve import resolve, settings_from_text

    flags: dict[str, object] = {
        "model": _absolute(model),
        "model_name": model_name,
        "tasks": tasks,
        "engine": engine,
        "completions": completions.absolute() if completions else None,
        "format": format_,
        "system_prompt": system_prompt,
        "code_prefix": code_prefix,
        "benchmarks": benchmarks.absolute() if benchmarks else None,
        "output_dir": output.absolute() if output else None,
        "limit": limit,
        "adapter": _absolute(adapter),
        "quantization": quantization,
        "dtype": dtype,
        "batch_size": batch_size,
        "num_processes": num_processes,
        "use_cpu": use_cpu or None,
        "max_length": max_length,
        "eos_token": eos_token,
        "stop_early": stop_early,
        "base_url": base_url,
        "served_model": served_model,
        "concurrency": concurrency,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    resolved = resolve("generate", file=config, flags={**settings_from_text(set_ or []), **given})
    for notice in resolved.notices:
        console.print(f"note: {notice}", markup=False)
    code = run_job_command(
        resolved.config,
        name=name,
        parent=parent,
        detach=detach,
        json=json,
        origins=resolved.origins,
    )
    raise typer.Exit(code)


def _absolute(place: str | None) -> str | None:
    """A local folder by its whole path, because the job runs elsewhere; a hub name as it is."""
    if place is None:
        return None
    path = Path(place).expanduser()
    return str(path.absolute()) if path.exists() or place.startswith((".", "/", "~")) else place
