"""The launch line and the DeepSpeed settings say what the config says."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runners.config import TrainConfig
from runners.config.launch_line import accelerate_argv, deepspeed_settings, layout, shown

CPU = SimpleNamespace(usable=(), bf16=False)
TWO_GPUS = SimpleNamespace(usable=("a", "b"), bf16=True)
RUN = Path("/runs/1")


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(data_paths=["/d"], pretrained_model_path="/m", **settings)


def test_a_cpu_gets_plain_accelerate_in_float32() -> None:
    argv, environment = accelerate_argv(config(), RUN, CPU, python="python")
    assert argv[:3] == ["python", "-m", "accelerate.commands.launch"]
    assert "--use_deepspeed" not in argv
    assert "--cpu" in argv
    assert argv[-3:] == ["-m", "runners.train", "/runs/1"]
    assert argv[argv.index("--mixed_precision") + 1] == "no"
    assert environment["ACCELERATE_USE_CPU"] == "true"


def test_gpus_get_deepspeed_in_bf16_one_rank_each() -> None:
    argv, environment = accelerate_argv(config(), RUN, TWO_GPUS)
    assert argv[argv.index("--num_processes") + 1] == "2"
    assert argv[argv.index("--zero_stage") + 1] == "2"
    assert argv[argv.index("--mixed_precision") + 1] == "bf16"
    assert "ACCELERATE_USE_CPU" not in environment
    assert argv[argv.index("--log_dir") + 1] == str(RUN / "launcher")


def test_deepspeed_on_a_cpu_when_asked_for() -> None:
    argv, environment = accelerate_argv(config(deepspeed="on", num_processes=2), RUN, CPU)
    assert "--use_deepspeed" in argv
    assert environment["DS_ACCELERATOR"] == "cpu"


def test_zero_stage_0_is_plain_data_parallelism() -> None:
    argv, _ = accelerate_argv(config(zero_stage=0), RUN, TWO_GPUS)
    assert "--use_deepspeed" not in argv
    assert "--multi_gpu" in argv


def test_chosen_gpus_are_the_only_ones_seen() -> None:
    argv, environment = accelerate_argv(config(gpu_ids=["1"]), RUN, TWO_GPUS)
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert argv[argv.index("--num_processes") + 1] == "1"


def test_several_machines_name_their_first() -> None:
    many = config(num_machines=2, machine_rank=1, main_process_ip="10.0.0.1", num_processes=8)
    argv, _ = accelerate_argv(many, RUN, TWO_GPUS)
    assert argv[argv.index("--num_processes") + 1] == "16"
    assert argv[argv.index("--machine_rank") + 1] == "1"
    assert argv[argv.index("--main_process_ip") + 1] == "10.0.0.1"


@pytest.mark.parametrize(
    ("asked", "hardware", "got"),
    [("auto", CPU, "no"), ("auto", TWO_GPUS, "bf16"), ("fp16", TWO_GPUS, "fp16")],
)
def test_auto_precision_is_decided_by_the_hardware(asked: str, hardware: Any, got: str) -> None:
    assert layout(config(mixed_precision=asked), hardware).precision == got


def test_an_old_gpu_gets_fp16() -> None:
    assert layout(config(), SimpleNamespace(usable=("old",), bf16=False)).precision == "fp16"


def test_offload_and_stage_reach_deepspeed() -> None:
    asked = config(zero_stage=3, offload_optimizer="cpu", offload_param="cpu", deepspeed="on")
    settings = deepspeed_settings(asked, "bf16", ranks=4)
    zero = settings["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["offload_optimizer"]["device"] == zero["offload_param"]["device"] == "cpu"
    assert settings["bf16"] == {"enabled": True}
    assert settings["train_batch_size"] == 4


def test_the_global_batch_is_the_same_on_any_number_of_ranks() -> None:
    asked = config(global_batch_size=24, per_device_train_batch_size=2, deepspeed="on")
    for ranks, micro_batches in ((1, 12), (2, 6), (4, 3)):
        settings = deepspeed_settings(asked, "no", ranks)
        assert settings["gradient_accumulation_steps"] == micro_batches
        assert settings["train_batch_size"] == 24
    argv, _ = accelerate_argv(asked, RUN, TWO_GPUS)
    assert argv[argv.index("--gradient_accumulation_steps") + 1] == "6"


@pytest.mark.parametrize(("trained", "entries"), [(5_000, 5_000), (10**9, 200_000_000)])
def test_buckets_are_no_larger_than_what_is_trained(trained: int, entries: int) -> None:
    zero = deepspeed_settings(config(), "bf16", 2, trained)["zero_optimization"]
    assert zero["reduce_bucket_size"] == zero["allgather_bucket_size"] == entries


def test_the_shown_line_can_be_pasted() -> None:
    assert shown(["a b", "c"], {"K": "x y"}) == "K='x y' 'a b' c"


def test_every_rank_asked_for_is_started_on_a_cpu_without_deepspeed(tmp_path: Path) -> None:
    argv, added = accelerate_argv(config(num_processes=2), RUN, CPU)
    job = tmp_path / "job.py"
    job.write_text(
        "from pathlib import Path\n"
        "from accelerate import Accelerator\n"
        "from accelerate.utils import InitProcessGroupKwargs\n"
        "made = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(backend='gloo')])\n"
        "told = f'{made.process_index} of {made.num_processes} on {made.device.type}'\n"
        "Path(__file__).with_name(f'told-{made.process_index}').write_text(told)\n"
    )
    command = [*argv[: argv.index("runners.train") - 1], str(job)]
    done = subprocess.run(
        command, env={**os.environ, **added}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        assert (tmp_path / f"told-{rank}").read_text() == f"{rank} of 2 on cpu"


HOSTILE = """
compute_environment: LOCAL_MACHINE
debug: true
distributed_type: DEEPSPEED
downcast_bf16: 'no'
deepspeed_config: {deepspeed_config_file: /nowhere.json, zero3_save_16bit_model: true}
fsdp_config: {fsdp_offload_params: true}
mixed_precision: fp16
num_machines: 1
num_processes: 4
use_cpu: false
"""


@pytest.mark.parametrize("asked", [{"deepspeed": "on"}, {"num_processes": 2}, {}])
def test_the_launcher_does_not_read_the_persons_own_settings(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    own = tmp_path / "hf" / "accelerate" / "default_config.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(HOSTILE)
    argv, added = accelerate_argv(config(**asked), RUN, CPU)
    job = tmp_path / "job.py"
    job.write_text(
        "import json, os\n"
        "from pathlib import Path\n"
        "path = Path(__file__).with_name('seen-' + os.environ.get('RANK', '0'))\n"
        "path.write_text(json.dumps(dict(os.environ)))\n"
    )
    done = subprocess.run(
        [*argv[: argv.index("runners.train") - 1], str(job)],
        env={**os.environ, **added, "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("seen-*"))) == asked.get("num_processes", 1)
    environment = json.loads((tmp_path / "seen-0").read_text())
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    assert not environment.get("ACCELERATE_CONFIG_DS_FIELDS")
    assert "ACCELERATE_DEEPSPEED_CONFIG_FILE" not in environment
    assert "ACCELERATE_DEBUG_MODE" not in environment


def test_zero_3_keeps_no_more_parameters_around_than_it_must() -> None:
    zero = deepspeed_settings(config(zero_stage=3), "bf16", 2)["zero_optimization"]
    assert zero["stage3_max_live_parameters"] <= 200_000_000
    assert zero["stage3_max_reuse_distance"] == 0
    other = deepspeed_settings(config(zero_stage=2), "bf16", 2)["zero_optimization"]
    assert not [key for key in other if key.startswith("stage3")]
