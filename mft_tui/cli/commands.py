"""The command line: which commands there are, and what ``mft-tui`` does without one.

Command modules are imported when their command runs, never for ``--help``: the table below is all
that help and completion need.
"""

import importlib
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class Entry:
    """A command: ``module:attribute`` of a function or a Typer group, and its line of help."""

    target: str
    help: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("mft_tui.cli.demo:demo", "The whole way on a tiny built-in model, on any CPU."),
    "doctor": Entry("mft_tui.cli.doctor:doctor", "What works here, and how to get the rest."),
    "validate": Entry("mft_tui.cli.data:validate", "Check task folders of training data."),
    "preview": Entry("mft_tui.cli.data:preview", "A record as the model sees it."),
    "config": Entry("mft_tui.cli.config:app", "Make, check, compare configs; print JSON schema."),
    "estimate": Entry("mft_tui.cli.estimate:estimate", "Memory, steps and time of a training run."),
    "train": Entry("mft_tui.cli.train:train", "Fine-tune: LoRA, QLoRA or full."),
    "merge": Entry("mft_tui.cli.train:merge", "Adapter and base into one plain checkpoint."),
    "convert": Entry("mft_tui.cli.train:convert", "A first-generation checkpoint made native."),
    "generate": Entry("mft_tui.cli.generate:generate", "Answer the 13 benchmark tasks."),
    "evaluate": Entry("mft_tui.cli.evaluate:evaluate", "Score generations in a sandbox."),
    "export": Entry("mft_tui.cli.export:export", "Check and zip a submission."),
    "runs": Entry("mft_tui.cli.runs:app", "List, show, compare, tag and move past runs."),
    "attach": Entry("mft_tui.cli.watch:attach", "Follow a run until it ends."),
    "stop": Entry("mft_tui.cli.watch:stop", "Stop a run cleanly."),
    "resume": Entry("mft_tui.cli.watch:resume", "Go on with a stopped or crashed run."),
    "logs": Entry("mft_tui.cli.watch:logs", "Print a run's console output."),
    "benchmarks": Entry("mft_tui.cli.benchmarks:app", "List, import or fetch the benchmarks."),
    "serve": Entry("mft_tui.cli.serve:serve", "The app in a browser."),
}


class _Deferred(TyperCommand):
    """Stands in the list of commands until the real one is wanted."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name=name, short_help=entry.help, help=entry.help)
        self._entry = entry

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        return self._load().make_context(info_name, args, *rest, **extra)

    def _load(self) -> Any:
        module_name, attribute = self._entry.target.split(":")
        target = getattr(importlib.import_module(module_name), attribute)
        if isinstance(target, typer.Typer):
            return get_command(target)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(self.name)(target)
        return get_command(single)


class _LazyGroup(TyperGroup):
    """A group whose commands are named in ``COMMANDS`` and imported on use."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        return _Deferred(cmd_name, entry) if entry else None


app = typer.Typer(
    cls=_LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    replay: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="Run a past run again and compare.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --replay: print the plan only.")
    ] = False,
    allow_drift: Annotated[
        str, typer.Option(metavar="WHAT,…", help="With --replay: accept changed inputs, by name.")
    ] = "",
    json_output: Annotated[
        bool, typer.Option("--json", help="With --replay: report as JSON on stdout.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Fine-tune code models on several tasks, score them, submit them.

    Without a command, the terminal app opens.

    \b
    Examples:
      mft-tui                          the app
      mft-tui demo                     the whole way, small, on any CPU
      mft-tui train config.json        train, followed live
      mft-tui --replay RUN_ID          run again and compare
    """
    if version:
        from mft_tui import __version__

        print(f"mft-tui {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        if replay is not None:
            raise typer.BadParameter("--replay stands alone, without a command")
        return
    if replay is not None:
        from mft_tui.cli.replay import replay as replay_run

        accepted = [name for name in allow_drift.split(",") if name]
        raise typer.Exit(
            replay_run(replay, dry_run=dry_run, allow_drift=accepted, json=json_output)
        )
    from mft_tui.cli.app import run_app

    raise typer.Exit(run_app())
