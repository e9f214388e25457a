"""What a generation job has to answer: questions, prompts, and what the manifest will say of it.

Worked out before anything heavy is loaded, so that bad input costs seconds, not a model's loading.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runners.benchmarks.fingerprints import compare, warnings
from runners.benchmarks.postprocess import postprocess
from runners.benchmarks.prompts import PromptStyle, prompt
from runners.benchmarks.rows import Question, load_questions, resolve_benchmarks
from runners.benchmarks.tasks import TASKS, chosen_tasks
from runners.config import GenerateConfig
from runners.errors import RefusedError
from runners.generate.engine import Completion, Request
from runners.generate.ledger import Key, write_atomically
from runners.generate.recorded import read_completions
from runners.submission.manifest import (
    BenchmarkFile,
    Manifest,
    TaskCount,
    manifest_path,
    read_manifest,
)

_TEXT_SETTINGS = (
    "engine",
    "model",
    "adapter",
    "adapter_mode",
    "quantization",
    "served_model",
    "format",
    "system_prompt",
    "code_prefix",
    "max_length",
    "eos_token",
    "do_sample",
    "num_samples",
    "stop_early",
)
_SAMPLING_SETTINGS = ("temperature", "top_p", "seed")


@dataclass(frozen=True)
class Plan:
    """The questions of each task in order, how they are put, and how the set is described."""

    questions: dict[str, list[Question]]
    style: PromptStyle
    samples: int
    manifest: Manifest
    notices: tuple[str, ...]

    def requests(self) -> list[Request]:
        """Every completion that is wanted, without tokens."""
        return [
            Request(task, question.index, sample, prompt(question, self.style).text)
            for task, questions in self.questions.items()
            for question in questions
            for sample in range(self.samples)
        ]

    def keys(self, task: str) -> list[Key]:
        """The completions that make up a task's file, in the file's order."""
        return [
            (task, question.index, sample)
            for question in self.questions[task]
            for sample in range(self.samples)
        ]

    def generations(self, task: str, done: dict[Key, Completion], eos: str) -> bytes:
        """The bytes of a task's file: for each question the list of its generations."""
        stored = [
            [
                postprocess(
                    question,
                    done[task, question.index, sample].completion,
                    self.style,
                    eos=(eos,),
                )
                for sample in range(self.samples)
            ]
            for question in self.questions[task]
        ]
        return json_like_the_reference(stored)


def json_like_the_reference(value: object) -> bytes:
    """JSON as ``json.dump`` writes it: ASCII, a blank after separators, no indent."""
    import json

    return json.dumps(value).encode("ascii")


def make_plan(config: GenerateConfig) -> Plan:
    """Read and check everything that the job needs of the benchmark.

    Raises ``MissingInputError`` or ``UsageError`` for a benchmark that is not there or is broken.
    """
    folder = resolve_benchmarks(config.benchmarks)
    tasks = _tasks(config)
    available = {task: load_questions(folder, task) for task in tasks}
    questions = {task: found[: config.limit] for task, found in available.items()}
    reports = compare(folder, tasks)
    keys = _TEXT_SETTINGS + (_SAMPLING_SETTINGS if config.do_sample else ())
    settings = config.model_dump(mode="json", include=set(keys))
    if config.engine == "completions":
        settings["completions"] = str(config.completions)
    manifest = Manifest(
        model_name=config.model_name,
        settings=settings,
        benchmark={r.name: BenchmarkFile(sha256=r.sha256, verdict=r.verdict) for r in reports},
        tasks={
            task: TaskCount(asked=len(questions[task]), total=len(available[task]))
            for task in tasks
        },
        breaks_rules=_broken_rules(config),
    )
    return Plan(
        questions=questions,
        style=PromptStyle(config.format, config.system_prompt, config.code_prefix),
        samples=config.num_samples,
        manifest=manifest,
        notices=(*warnings(reports), *_format_notices(config, tasks)),
    )


def settle_manifest(folder: Path, plan: Plan, made_with: Mapping[str, str]) -> None:
    """Write the manifest; or, where completions are there already, check that they are of a kind.

    ``made_with`` as in the manifest. Raises ``RefusedError`` when the folder holds completions made
    with other settings, or with other content behind the same names.
    """
    name = plan.manifest.model_name
    before = read_manifest(folder, name)
    manifest = msgspec.structs.replace(plan.manifest, made_with=dict(made_with))
    if before is not None and any(folder.glob("completions_*.jsonl")):
        if changed := _changed(before, manifest):
            raise RefusedError(
                f"completions made with other settings are here already ({', '.join(changed)})",
                where=str(folder),
                fix="Choose another output folder or model name, or remove this folder.",
            )
        # A set may be made task by task: what was said of the other tasks stays.
        manifest = msgspec.structs.replace(
            manifest,
            made_with={**before.made_with, **manifest.made_with},
            benchmark={**before.benchmark, **manifest.benchmark},
            tasks={**before.tasks, **manifest.tasks},
        )
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    write_atomically(manifest_path(folder, name), encoded)


def _changed(before: Manifest, now: Manifest) -> list[str]:
    """What of two manifests differs, so that their completions are of two kinds."""
    changed = [
        key
        for key in sorted({*before.settings, *now.settings})
        if _setting(before, key) != _setting(now, key)
    ]
    for key, was in before.made_with.items():
        if now.made_with.get(key, was) != was and key not in changed:
            # The dtype that was asked for may be the same, "auto", and have come to another.
            changed.append(key if key == "dtype" else f"the content of the {key}")
    for file, seen in before.benchmark.items():
        there = now.benchmark.get(file)
        if there is not None and there.sha256 != seen.sha256:
            changed.append(f"benchmark {file}")
    return changed


def _setting(manifest: Manifest, key: str) -> object:
    """A setting; one that the manifest is too old to know had the value that is the default."""
    field = GenerateConfig.model_fields.get(key)
    return manifest.settings.get(key, field.default if field is not None else None)


def _tasks(config: GenerateConfig) -> tuple[str, ...]:
    if config.engine == "completions" and not config.tasks:
        assert config.completions is not None
        named = {task for task, _, _ in read_completions(config.completions)}
        return tuple(task for task in TASKS if task in named) or chosen_tasks(sorted(named))
    return chosen_tasks(config.tasks)


def _broken_rules(config: GenerateConfig) -> list[str]:
    said = []
    if config.do_sample:
        said.append("it was sampled (do_sample=true); a submission must be greedy")
    if config.num_samples > 1:
        said.append(f"it has {config.num_samples} samples a question; a submission has one")
    return said


def _format_notices(config: GenerateConfig, tasks: tuple[str, ...]) -> list[str]:
    if config.system_prompt and config.format == "reference" and tasks != ("mbpp",):
        return [
            "format=reference has no system message in the HumanEvalPack tasks: "
            "system_prompt reaches mbpp only"
        ]
    return []
