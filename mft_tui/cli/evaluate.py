"""``mft-tui evaluate``: score a folder of generations."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mft_tui.cli.output import console, data, print_json


def evaluate(
    generations: Annotated[
        Path, typer.Argument(help="The folder generations_{model}.", show_default=False)
    ],
    tasks: Annotated[
        str | None, typer.Option(help="Tasks to score, comma separated; all there by default.")
    ] = None,
    benchmarks: Annotated[
        Path | None, typer.Option(help="Benchmark folder; the imported one by default.")
    ] = None,
    sandbox: Annotated[
        str | None, typer.Option(help="bwrap, docker or none (none needs --i-understand too).")
    ] = None,
    i_understand: Annotated[
        bool, typer.Option("--i-understand", help="Programs may run as you, without a sandbox.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Programs at once; one a core by default.")
    ] = None,
    way: Annotated[
        str | None, typer.Option(help="fast, or plain: as the reference does, slower.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="An early exit 0 does not pass, as it does by the rules."),
    ] = False,
    pass_k: Annotated[
        str | None, typer.Option(help="The k of each pass@k, comma separated.")
    ] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Memory limit of a program, MiB.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder that gets metrics_{model}.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for the run.")] = None,
    parent: Annotated[
        str | None, typer.Option(help="Run that made the generations, for the lineage.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and come back.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The scores as JSON on stdout.")] = False,
) -> None:
    """Run the generations of a model in a sandbox and report pass@1 of each task.

    Beside each score stand its 95% confidence interval and the ceiling: what the benchmark's own
    solutions score. Verdicts are written as they come; a stopped evaluation goes on where it was.

    \b
    Examples:
      mft-tui evaluate out/generations_my-model
      mft-tui evaluate out/generations_my-model --tasks mbpp,humanevalsynthesize-rust --json
    """
    from mft_tui.cli.launching import launch_and_follow
    from runners.config.resolve import resolve

    flags: dict[str, object] = {
        "generations": generations.absolute(),
        "tasks": tasks,
        "benchmarks": benchmarks.absolute() if benchmarks else None,
        "sandbox": sandbox,
        "i_understand": i_understand or None,
        "jobs": jobs,
        "way": way,
        "strict": strict or None,
        "pass_k": pass_k.split(",") if pass_k else None,
        "memory_mb": memory_mb,
        "output_dir": output.absolute() if output else None,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    _refuse_unless_asked_twice(given)
    resolved = resolve("evaluate", flags=given)
    for notice in resolved.notices:
        console.print(f"note: {notice}", markup=False)
    outcome = launch_and_follow(
        resolved.config,
        name=name,
        parent=parent,
        detach=detach,
        origins={key: str(origin) for key, origin in resolved.origins.items()},
    )
    if json:
        print_json(outcome.to_json())
    elif outcome.detached:
        print(outcome.run_id)
    elif outcome.summary:
        show(outcome.summary)
    raise typer.Exit(outcome.exit_code)


def _refuse_unless_asked_twice(flags: dict[str, object]) -> None:
    """Raise ``RefusedError`` for ``sandbox=none`` without the second consent, wherever it is set.

    The config itself objects as well, but as to any value that does not fit.
    """
    from runners.config.evaluate import EvaluateConfig
    from runners.config.resolve import resolve
    from runners.evaluate.sandbox.direct import unconfirmed

    def resolved(**certain: object) -> EvaluateConfig:
        config = resolve("evaluate", flags={**flags, **certain}).config
        assert isinstance(config, EvaluateConfig)
        return config

    unsafe = resolved(i_understand=True).sandbox == "none"
    if unsafe and not resolved(sandbox="bwrap").i_understand:
        raise unconfirmed()


def show(summary: dict[str, Any]) -> None:
    """The scores for people, on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("task")
    for column in ("passed", "pass@1", "95% interval", "ceiling"):
        table.add_column(column, justify="right")
    for task, score in summary["tasks"].items():
        low, high = score["confidence_95"]
        most = score["ceiling"]
        table.add_row(
            task,
            f"{score['passed']}/{score['total']}",
            f"{score['pass@1']:.3f}",
            f"{low:.3f}–{high:.3f}",
            "–" if most is None else f"{most:.3f}",
        )
    if summary["average"] is not None:
        table.add_section()
        table.add_row("average", "", f"{summary['average']:.3f}", "", "")
    data.print(table)
