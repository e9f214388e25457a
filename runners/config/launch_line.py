"""The command that starts a training job, and the DeepSpeed settings that go with it.

Both come from the config alone, so there is one source of truth: what ``--dry-run`` prints is what
the launcher runs and what the job configures itself with. Light on purpose: the command line, the
app and the launcher read it without torch.
"""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runners.config.train import TrainConfig
from runners.errors import UsageError

LARGEST_BUCKET = 200_000_000
"""Gradients that DeepSpeed sends at a time; it allocates the bucket whether they fill it or not."""

NO_DEFAULTS = Path(__file__).with_name("accelerate.json")
"""A launcher config that decides nothing, read in place of the person's own (`accelerate config`):
that one may name another launcher, or DeepSpeed settings that contradict ours."""

LIVE_PARAMETERS = 200_000_000
"""Parameters that ZeRO-3 holds gathered, fetched ahead ones included: about a block of an 8B model.
DeepSpeed's own thousand million would hold most of a 1.5B model on every rank."""


class Machine(Protocol):
    """What of the hardware matters here: the devices that a job started now would see."""

    @property
    def usable(self) -> tuple[Any, ...]:
        """One entry a GPU or MIG slice."""

    @property
    def bf16(self) -> bool:
        """True when every usable device computes in bfloat16."""


@dataclass(frozen=True)
class Layout:
    """How a training run is spread over this machine, with every “auto” decided.

    ``ranks`` are those of this machine, ``accumulation`` the micro-batches of an optimizer step.
    ``precision`` is accelerate's name for it: "no", "bf16" or "fp16".
    """

    on_gpu: bool
    ranks: int
    accumulation: int
    deepspeed: bool
    precision: str


def layout(config: TrainConfig, hardware: Machine) -> Layout:
    """Decide device, ranks, DeepSpeed and precision for this machine.

    ZeRO stage 0 is plain data parallelism, which accelerate does without DeepSpeed. Raises
    ``UsageError`` when ``global_batch_size`` does not divide.
    """
    on_gpu = bool(hardware.usable) and not config.use_cpu
    ranks = config.num_processes
    if ranks is None:
        ranks = (len(config.gpu_ids) or len(hardware.usable)) if on_gpu else 1
    wanted = config.deepspeed == "on" or (config.deepspeed == "auto" and on_gpu)
    precision = config.mixed_precision
    if precision == "auto":
        precision = ("bf16" if hardware.bf16 else "fp16") if on_gpu else "no"
    steps = accumulation(config, ranks * config.num_machines)
    return Layout(on_gpu, ranks, steps, wanted and config.zero_stage > 0, precision)


def accumulation(config: TrainConfig, ranks: int) -> int:
    """Micro-batches of an optimizer step with ``ranks`` ranks in all.

    Raises ``UsageError`` when ``global_batch_size`` is no whole number of them.
    """
    whole, rows = config.global_batch_size, config.per_device_train_batch_size
    if whole is None:
        return config.gradient_accumulation_steps
    if whole % (rows * ranks):
        raise UsageError(
            f"global_batch_size {whole} does not divide by {ranks} "
            f"{'rank' if ranks == 1 else 'ranks'} of {rows} rows a micro-batch",
            where="global_batch_size",
            fix=f"Use a multiple of {rows * ranks}, or another per_device_train_batch_size.",
        )
    return whole // (rows * ranks)


def accelerate_argv(
    config: TrainConfig,
    run_folder: Path,
    hardware: Machine,
    *,
    python: str = sys.executable,
    defaults: Path = NO_DEFAULTS,
) -> tuple[list[str], dict[str, str]]:
    """The argv that starts the training job of ``run_folder``, and the environment it adds.

    ``defaults`` is the config file that the launcher reads what is not on its line from.
    """
    spread = layout(config, hardware)
    several = spread.ranks * config.num_machines > 1
    argv = [python, "-m", "accelerate.commands.launch"]
    if spread.on_gpu or spread.deepspeed or several:
        # With --cpu the launcher looks for no such file, and takes all cores.
        argv += ["--config_file", str(defaults)]
    argv += ["--num_processes", str(spread.ranks * config.num_machines)]
    argv += ["--num_machines", str(config.num_machines)]
    argv += ["--mixed_precision", spread.precision, "--dynamo_backend", "no"]
    if config.num_machines > 1:
        argv += ["--machine_rank", str(config.machine_rank)]
        argv += ["--main_process_ip", config.main_process_ip or "127.0.0.1"]
    if config.main_process_port is not None or spread.ranks > 1:
        # 0 lets the launcher find a free port, so that two runs on one machine do not meet.
        argv += ["--main_process_port", str(config.main_process_port or 0)]
    if not spread.on_gpu:
        # accelerate starts one process for --cpu, whatever --num_processes says. Several ranks
        # come with --multi_gpu or --use_deepspeed, and the environment says CPU to them.
        argv += [] if spread.deepspeed or several else ["--cpu"]
    elif config.gpu_ids:
        argv += ["--gpu_ids", ",".join(config.gpu_ids)]
    if spread.deepspeed:
        argv += ["--use_deepspeed", "--zero_stage", str(config.zero_stage)]
        argv += ["--gradient_accumulation_steps", str(spread.accumulation)]
        argv += ["--gradient_clipping", str(config.gradient_clipping)]
        argv += ["--offload_optimizer_device", config.offload_optimizer]
        argv += ["--offload_param_device", config.offload_param]
        argv += ["--zero3_init_flag", "false"]
        if config.num_machines > 1:
            argv += ["--deepspeed_multinode_launcher", "standard"]
    elif several:
        argv += ["--multi_gpu"]
    if config.auto_batch_size and (several or spread.deepspeed):
        argv += ["--max_restarts", str(_cuts(config.per_device_train_batch_size))]
    if several or spread.deepspeed:
        argv += launcher_logs(run_folder)
    argv += ["-m", "runners.train", str(run_folder)]
    return argv, _environment(config, spread)


def launcher_logs(run_folder: Path) -> list[str]:
    """Options for where the launcher keeps what its ranks ended with.

    By default that is a new folder in /tmp for each start, which nobody removes.
    """
    return ["--log_dir", str(run_folder / "launcher")]


def _environment(config: TrainConfig, spread: Layout) -> dict[str, str]:
    added = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not spread.on_gpu:
        added["ACCELERATE_USE_CPU"] = "true"
        if spread.deepspeed:
            added["DS_ACCELERATOR"] = "cpu"
    if config.gpu_ids and spread.on_gpu:
        added["CUDA_VISIBLE_DEVICES"] = ",".join(config.gpu_ids)
    if config.deterministic:
        added["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return added


def _cuts(rows: int) -> int:
    """How often a micro-batch can be cut smaller: its prime factors.

    A rank that runs out of memory cannot tell the others, who wait for it inside a collective. So
    it ends, and the launcher starts all of them again, on what it wrote down.
    """
    count, factor = 0, 2
    while rows > 1:
        if rows % factor:
            factor += 1
        else:
            rows, count = rows // factor, count + 1
    return count


def bucket_entries(trained: int | None) -> int:
    """Entries of a gradient bucket: no more than there are ``trained`` ones, where that is known.

    A LoRA adapter of some millions would otherwise cost a bucket of hundreds of megabytes.
    """
    return LARGEST_BUCKET if trained is None else max(1, min(LARGEST_BUCKET, trained))


def deepspeed_settings(
    config: TrainConfig, precision: str, ranks: int, trained: int | None = None
) -> dict[str, Any]:
    """DeepSpeed's JSON settings for ``ranks`` ranks in all and accelerate's ``precision``.

    ``trained`` counts the trained parameters, which the buckets are sized by.
    """
    bucket, steps = bucket_entries(trained), accumulation(config, ranks)
    zero: dict[str, Any] = {
        "stage": config.zero_stage,
        "contiguous_gradients": True,
        # On CPU the overlap only reorders sums; without it reruns are bit-identical.
        "overlap_comm": precision != "no",
        "reduce_bucket_size": bucket,
    }
    if config.zero_stage < 3:
        zero["allgather_bucket_size"] = bucket
    else:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        zero["stage3_max_live_parameters"] = LIVE_PARAMETERS
        # A block's weights go once it is through; the backward pass gathers them again.
        zero["stage3_max_reuse_distance"] = 0
    if config.offload_optimizer == "cpu":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": precision != "no"}
    if config.offload_param == "cpu":
        zero["offload_param"] = {"device": "cpu", "pin_memory": precision != "no"}
    batch = config.per_device_train_batch_size * steps * ranks
    settings: dict[str, Any] = {
        "train_batch_size": batch,
        "train_micro_batch_size_per_gpu": config.per_device_train_batch_size,
        "gradient_accumulation_steps": steps,
        "gradient_clipping": config.gradient_clipping,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }
    if precision == "bf16":
        settings["bf16"] = {"enabled": True}
    elif precision == "fp16":
        settings["fp16"] = {"enabled": True, "initial_scale_power": 16, "loss_scale_window": 500}
    return settings


def shown(argv: list[str], environment: Mapping[str, str]) -> str:
    """The command as a person would type it, with the variables it adds in front."""
    variables = [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
    return " ".join([*variables, shlex.join(argv)])
