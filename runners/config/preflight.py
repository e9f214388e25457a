"""What can be known to be wrong with a training run before anything is launched.

Reads folders and JSON only, so the command line, the app and the launcher can all afford it. What
needs the model itself is refused at the start of the job.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.config.launch_line import Machine, layout
from runners.config.tokenizer_check import MARKERS, read_vocabulary, require_tokenizer
from runners.config.train import TrainConfig
from runners.errors import MftError, MissingInputError, UsageError
from runners.models.families import (
    detect_family,
    module_names,
    read_model_config,
    require_alibi_trainable,
    weight_files,
)
from runners.models.weight_sample import same_weights

if TYPE_CHECKING:
    from runners.hardware.probe import Hardware


def check_train(config: TrainConfig, hardware: Machine) -> list[MftError]:
    """Every reason why this run cannot begin here; empty when there is none.

    A hub name is not looked up: that would need the network.
    """
    found: list[MftError] = []
    checks: tuple[Callable[[], None], ...] = (
        lambda: _check_model(config),
        lambda: _check_data(config),
        lambda: _check_ranks(config, hardware),
        lambda: _check_positions(config, hardware),
        lambda: _check_adapter(config),
        lambda: _check_quantization(config, hardware),
        lambda: _check_liger(config, hardware),
        lambda: _check_resume(config),
    )
    for check in checks:
        try:
            check()
        except MftError as error:
            # Several checks need the layout, and would each tell that it cannot be.
            if str(error) not in map(str, found):
                found.append(error)
    return found


def require_trainable(config: TrainConfig, hardware: Machine) -> None:
    """Raise the first of ``check_train``'s findings, if there are any."""
    for error in check_train(config, hardware):
        raise error


def trained_parameters(config: TrainConfig, hardware: "Hardware") -> int | None:
    """How many parameters the run would train; None for a model that is not here."""
    folder = _model_folder(config)
    if folder is None:
        return None
    from runners.hardware.memory import trainable_parameters
    from runners.hardware.recipe import make_recipe
    from runners.hardware.shape import read_shape

    shape = read_shape(read_model_config(folder))
    return trainable_parameters(shape, make_recipe(config, shape, hardware))


def _model_folder(config: TrainConfig) -> Path | None:
    """The folder of the base model; None when it is a hub name."""
    name = config.pretrained_model_path
    folder = Path(name).expanduser()
    if not folder.exists() and not name.startswith((".", "/", "~")) and name.count("/") == 1:
        return None
    return folder


def _check_model(config: TrainConfig) -> None:
    folder = _model_folder(config)
    if folder is None:
        return
    model = read_model_config(folder)
    family = detect_family(model, asked=config.model_type)
    weight_files(folder)
    require_tokenizer(folder, family, model)


def preparations(config: TrainConfig) -> list[str]:
    """What the run will do to the model before it trains, as sentences.

    A first-generation checkpoint is converted, and a tokenizer without the ChatML markers gets
    them. Nothing for a hub name, nor for a model that ``check_train`` has something against.
    """
    folder = _model_folder(config)
    if folder is None:
        return []
    found = []
    family = detect_family(read_model_config(folder))
    if family.first_generation:
        found.append(f"the {family.name} checkpoint will be converted to {family.native}")
    vocabulary = read_vocabulary(folder)
    # A SentencePiece file that is still to be converted has no markers of ours either.
    lacks = vocabulary.lacks if vocabulary is not None else ()
    if vocabulary is None and (folder / "tokenizer.model").is_file():
        lacks = MARKERS
    if lacks:
        grown = f"the tokenizer lacks {' and '.join(lacks)}: added, and the embeddings grow"
        if config.peft_type != "full":
            grown += "; embeddings and head are trained in full beside the adapter"
        found.append(grown)
    return found


def _check_data(config: TrainConfig) -> None:
    for folder in config.data_paths:
        if not folder.exists():
            raise MissingInputError(
                "there is no such data folder",
                where=f"data_paths: {folder}",
                fix="Each entry is a task folder with JSONL files.",
            )


def _check_ranks(config: TrainConfig, hardware: Machine) -> None:
    spread = layout(config, hardware)
    there = len(hardware.usable)
    if spread.on_gpu:
        chosen = len(config.gpu_ids) or there
        if spread.ranks > chosen:
            raise UsageError(
                f"{spread.ranks} ranks were asked for, and there are {chosen} GPUs to use",
                where="num_processes",
                fix=f"Set num_processes to {chosen} or less, or use_cpu=true.",
            )
    elif config.gpu_ids:
        raise UsageError(
            f"gpu_ids names {', '.join(config.gpu_ids)}, but no GPU can be used here",
            where="gpu_ids",
            fix="Leave gpu_ids out to train on CPU; `mft-tui doctor` says what it sees.",
        )
    if config.machine_rank >= config.num_machines:
        raise UsageError(
            f"machine_rank {config.machine_rank} is not below num_machines {config.num_machines}",
            where="machine_rank",
            fix="Machines are numbered from 0.",
        )
    if config.num_machines > 1 and not config.main_process_ip:
        raise UsageError(
            "several machines need the address of machine 0",
            where="main_process_ip",
            fix="Set main_process_ip and main_process_port.",
        )
    if spread.deepspeed and importlib.util.find_spec("deepspeed") is None:
        raise UsageError(
            "DeepSpeed is asked for and not installed",
            where="deepspeed",
            fix="Install it with `pip install deepspeed`, or set deepspeed=off.",
        )


def _check_positions(config: TrainConfig, hardware: Machine) -> None:
    if (folder := _model_folder(config)) is not None:
        precision = layout(config, hardware).precision
        require_alibi_trainable(
            read_model_config(folder), precision=precision, dora=config.use_dora
        )


def _check_adapter(config: TrainConfig) -> None:
    """LoRA targets and modules_to_save against the modules that the checkpoint has."""
    folder = _model_folder(config)
    if folder is None or config.peft_type == "full":
        return
    from runners.hardware.recipe import require_lora_targets
    from runners.hardware.shape import read_shape

    shape = read_shape(read_model_config(folder))
    require_lora_targets(config, shape)
    modules = set() if shape.family != shape.source else module_names(folder)
    for name in config.modules_to_save if modules else ():
        if name.rpartition(".")[2] not in modules | {"lm_head", "embed_out"}:
            raise UsageError(
                f"no module of this model is called {name!r}",
                where="modules_to_save",
                fix=f"It has {', '.join(sorted(modules))}.",
            )


_QUANTIZED_CAPABILITY = {"4bit": (6, 0), "8bit": (7, 5)}
"""The oldest GPUs whose kernels bitsandbytes has: Pascal for nf4, Turing for LLM.int8."""


def _check_quantization(config: TrainConfig, hardware: Machine) -> None:
    if config.quantization not in {"4bit", "8bit"}:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            f"quantization={config.quantization} needs bitsandbytes, which is not installed",
            where="quantization",
            fix="Install it with `pip install bitsandbytes`, or set peft_type=lora and "
            "quantization=null.",
        )
    spread = layout(config, hardware)
    oldest = min(
        (
            capability
            for device in (hardware.usable if spread.on_gpu else ())
            if (capability := getattr(device, "compute_capability", None)) is not None
        ),
        default=None,
    )
    needed = _QUANTIZED_CAPABILITY[config.quantization]
    if oldest is not None and oldest < needed:
        raise UsageError(
            f"{config.quantization} weights need compute capability {needed[0]}.{needed[1]}, and "
            f"a GPU here has {oldest[0]}.{oldest[1]}",
            where="quantization",
            fix="Choose newer GPUs with gpu_ids, or set peft_type=lora and quantization=null.",
        )
    if config.zero_stage == 3 and spread.deepspeed:
        raise UsageError(
            "ZeRO-3 cannot shard weights that bitsandbytes has quantized",
            where="zero_stage",
            fix="Use zero_stage=2 with qlora, or zero_stage=3 with lora.",
        )


def _check_liger(config: TrainConfig, hardware: Machine) -> None:
    if not config.use_liger:
        return
    if importlib.util.find_spec("liger_kernel") is None:
        raise UsageError(
            "use_liger needs liger-kernel, which is not installed",
            where="use_liger",
            fix="Install it with `pip install 'mft-tui[liger]'`, or set use_liger=false.",
        )
    if not layout(config, hardware).on_gpu:
        raise UsageError(
            "Liger kernels run on GPUs only", where="use_liger", fix="Set use_liger=false."
        )


def _check_resume(config: TrainConfig) -> None:
    asked = config.resume_from_checkpoint
    if asked is None:
        return
    state = _saved_state(asked)
    folder = _model_folder(config)
    if state is None:
        raise MissingInputError(
            "there is no whole checkpoint here",
            where=f"resume_from_checkpoint: {asked}",
            fix="Name a folder such as …/checkpoints/step-00000500, or the run's output folder.",
        )
    for key, saved, here in (
        ("peft_type", state.get("method"), config.peft_type),
        ("lora_rank", state.get("lora_rank"), config.lora_rank),
        ("weighted_loss_mode", state.get("loss"), config.weighted_loss_mode),
    ):
        if saved is not None and saved != here:
            raise UsageError(
                f"this checkpoint was made with {key}={saved}, and {here} is asked for",
                where=f"resume_from_checkpoint: {asked}",
                fix="Resume with the config of the run that wrote it, or start afresh.",
            )
    named = state.get("base_dimensions")
    if folder is not None and named is not None and named != dimensions(read_model_config(folder)):
        raise UsageError(
            "this checkpoint belongs to another model",
            where=f"resume_from_checkpoint: {asked}",
            fix=f"It was trained on {state.get('base', 'a model of other dimensions')}.",
        )
    was = state.get("base")
    if folder is not None and isinstance(was, str) and was != config.pretrained_model_path:
        _require_same_weights(Path(was).expanduser(), folder, asked)


def _require_same_weights(before: Path, now: Path, asked: Path) -> None:
    """Refuse a checkpoint of the base ``before`` that ``now`` only looks like."""
    try:
        same = same_weights(before, now)
    except MissingInputError:
        # The base of then is no longer there: this may be the one, moved.
        return
    if not same:
        raise UsageError(
            "this checkpoint belongs to other weights of a model of the same shape",
            where=f"resume_from_checkpoint: {asked}",
            fix=f"It was trained on {before}.",
        )


def _saved_state(asked: Path) -> dict[str, Any] | None:
    candidates = [asked, *sorted(asked.glob("step-*"), reverse=True)]
    candidates += sorted((asked / "checkpoints").glob("step-*"), reverse=True)
    for folder in candidates:
        try:
            state = json.loads((folder / "state.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(state, dict):
            return state
    return None


def dimensions(model: dict[str, Any]) -> dict[str, Any]:
    """What of a config.json tells one model from another of the same family."""
    kept = (
        "model_type",
        "vocab_size",
        "padded_vocab_size",
        "hidden_size",
        "n_embd",
        "num_hidden_layers",
        "num_layers",
        "n_layer",
        "num_attention_heads",
        "n_head",
        "intermediate_size",
        "ffn_hidden_size",
    )
    return {key: model[key] for key in kept if key in model}
