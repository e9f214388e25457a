"""Settings from every source become one config, each value knowing where it came from."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.config import KINDS, GenerateConfig, TrainConfig
from runners.config.resolve import Origin, read_config_file, resolve, settings_from_text
from runners.errors import MissingInputError, UsageError

# Every key that the reference's training files hold, with values as people have them on disk.
REFERENCE_FILE = {
    "load_raw_dataset": True,
    "data_paths": "[data/a,data/b]",
    "output_dir": "out",
    "tb_dir": "tb",
    "pretrained_model_path": "models/Qwen-1_8B",
    "vocab_file": None,
    "low_cpu_mem_usage": True,
    "data_split": "95,5,0",
    "padding_mode": "padding",
    "tokenize_mode": "sft",
    "weighted_loss_mode": "case3",
    "model_type": "qwen",
    "peft_type": "qlora",
    "quantization": "4bit",
    "lora_rank": 96,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "tokenizer_type": "AutoTokenizer",
    "learning_rate": 5e-5,
    "min_lr": 5e-6,
    "weight_decay": 0.1,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "cosine",
    "num_warmup_steps": 300,
    "num_train_epochs": 4,
    "seed": 1234,
    "seq_length": 2048,
    "resume_from_checkpoint": None,
    "log_interval": 10,
    "checkpointing_steps": 500,
    "evalation_steps": 250,
    "max_train_steps": None,
    "epoch_checkpointing": True,
    "shuffle_before_split": True,
    "use_random_sampler": True,
    "early_stopping": True,
    "early_stopping_stall_num": 5,
    "weight_by_num_documents": True,
    "make_vocab_size_divisible_by": 128,
    "model_parallel_size": 1,
    "use_slow_tokenizer": True,
    "use_xformers": True,
    "trust_remote_code": True,
    "use_dynamic_padding": True,
    "world_size": 8,
    "checkpoint_activations": True,
    "num_workers": 2,
    "preprocessing_num_workers": 4,
}

REQUIRED = {"data_paths": ["a"], "pretrained_model_path": "m"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train.json"


def train(file: Path | None = None, **more: object) -> TrainConfig:
    config = resolve("train", file=file, environ={}, **more).config  # type: ignore[arg-type]
    assert isinstance(config, TrainConfig)
    return config


def test_the_reference_training_file_loads_unchanged(file: Path) -> None:
    file.write_text(json.dumps(REFERENCE_FILE))
    resolved = resolve("train", file=file, environ={})
    config = resolved.config
    assert isinstance(config, TrainConfig)
    assert config.data_paths == [Path("data/a"), Path("data/b")]
    assert config.evaluation_steps == 250
    assert config.gradient_checkpointing == "full"
    assert config.lora_rank == 96
    obsolete = {key for key in REFERENCE_FILE if any(f" {key} " in n for n in resolved.notices)}
    assert obsolete == set(TrainConfig.obsolete)


def test_an_unknown_key_is_an_error_that_names_the_nearest_known_one(file: Path) -> None:
    file.write_text(json.dumps({**REQUIRED, "lerning_rate": 1e-4}))
    with pytest.raises(UsageError) as caught:
        resolve("train", file=file, environ={})
    assert str(file) in str(caught.value)
    assert "Did you mean learning_rate?" in str(caught.value)


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_user_defaults(
    file: Path, tmp_path: Path
) -> None:
    defaults = tmp_path / "config" / "mft-tui" / "defaults.toml"
    defaults.parent.mkdir(parents=True)
    defaults.write_text("[train]\nseed = 1\nlora_rank = 1\nlog_interval = 1\nseq_length = 100\n")
    file.write_text(json.dumps({**REQUIRED, "seed": 2, "lora_rank": 2, "log_interval": 2}))
    environ = {"MFT_SEED": "3", "MFT_LORA_RANK": "3"}
    resolved = resolve("train", file=file, environ=environ, flags={"seed": 4})
    config = resolved.config
    assert isinstance(config, TrainConfig)
    values = (config.seed, config.lora_rank, config.log_interval, config.seq_length)
    assert values == (4, 3, 2, 100)
    assert resolved.origins["seed"] is Origin.FLAG
    assert resolved.origins["lora_rank"] is Origin.ENVIRONMENT
    assert resolved.origins["log_interval"] is Origin.FILE
    assert resolved.origins["seq_length"] is Origin.USER_DEFAULT
    assert resolved.origins["lora_alpha"] is Origin.DEFAULT


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"pretrained_model_path": "m", "data_paths": ["a"], "seed": 7}'),
        (".yaml", "pretrained_model_path: m\ndata_paths: [a]\nseed: 7\n"),
        (".toml", 'pretrained_model_path = "m"\ndata_paths = ["a"]\nseed = 7\n'),
    ],
)
def test_json_yaml_and_toml_mean_the_same(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"train{suffix}"
    path.write_text(text)
    assert train(path) == TrainConfig(pretrained_model_path="m", data_paths=[Path("a")], seed=7)


@pytest.mark.parametrize(
    ("suffix", "text", "where"),
    [
        (".json", '{\n"seed": 1,\n}', ":3"),
        (".yaml", "a: 1\nb: [\n", ":3"),
        (".toml", "a = \n", ""),
        (".json", "[1]", ""),
    ],
)
def test_a_config_file_that_cannot_be_parsed_says_where(
    tmp_path: Path, suffix: str, text: str, where: str
) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_config_file(path)
    assert f"{path}{where}" in str(caught.value)


def test_a_missing_config_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="config new train"):
        resolve("train", file=tmp_path / "none.json", environ={})


def test_a_value_that_does_not_fit_names_its_key_and_source(file: Path) -> None:
    file.write_text(json.dumps({**REQUIRED, "seq_length": "long", "lora_dropout": 2}))
    with pytest.raises(UsageError) as caught:
        resolve("train", file=file, environ={})
    message = str(caught.value)
    assert str(file) in message
    assert "seq_length" in message
    assert "lora_dropout" in message


def test_a_required_value_that_is_missing_is_explained() -> None:
    with pytest.raises(UsageError, match="data_paths must be given: Task folders"):
        resolve("train", environ={}, flags={"pretrained_model_path": "m"})


def test_two_spellings_of_one_setting_may_not_disagree(file: Path) -> None:
    file.write_text(json.dumps({**REQUIRED, "evalation_steps": 5, "evaluation_steps": 6}))
    with pytest.raises(UsageError, match="same setting"):
        resolve("train", file=file, environ={})


def test_lora_on_quantized_weights_is_named_as_qlora(file: Path) -> None:
    file.write_text(json.dumps({**REQUIRED, "peft_type": "lora", "quantization": "4bit"}))
    resolved = resolve("train", file=file, environ={})
    assert isinstance(resolved.config, TrainConfig)
    assert resolved.config.peft_type == "qlora"
    assert any("peft_type is 'qlora'" in notice for notice in resolved.notices)


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "full", "quantization": "4bit"},
        {"min_lr": 1.0},
        {"offload_param": "cpu"},
        {"early_stopping": True, "evaluation_steps": 0},
        {"weighted_loss_mode": "fixed"},
        {"sampling": "weights"},
        {"data_split": "95,5"},
        {"data_split": "0,5,0"},
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        resolve("train", environ={}, flags={**REQUIRED, **changes})


def test_values_given_as_text_are_read_by_their_type() -> None:
    flags = {
        **REQUIRED,
        **settings_from_text(
            [
                "data_paths=[x,y]",
                "seed=7",
                "lora_targets=q_proj,v_proj",
                "quantization=null",
                "early_stopping=true",
                "task_weights=a=2,b=1",
                "data_split=90,10,0",
            ]
        ),
    }
    config = train(flags=flags)
    assert config.data_paths == [Path("x"), Path("y")]
    assert config.seed == 7
    assert config.lora_targets == ["q_proj", "v_proj"]
    assert config.quantization is None
    assert config.early_stopping is True
    assert config.task_weights == {"a": 2.0, "b": 1.0}
    assert config.data_split == "90,10,0"


@pytest.mark.parametrize("name", ["a/b", "a b", "", "..", "a\tb", "a:b", "ü", "x" * 121, "a\\b"])
def test_a_model_name_that_files_or_the_zip_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="model"):
        resolve("generate", environ={}, flags={"model": "m", "model_name": name})


@pytest.mark.parametrize("name", ["qwen_1_8B_codefuse", "Qwen2.5-7B", "a"])
def test_an_ordinary_model_name_is_taken_as_it_is(name: str) -> None:
    config = resolve("generate", environ={}, flags={"model": "m", "model_name": name}).config
    assert isinstance(config, GenerateConfig)
    assert config.model_name == name


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_a_group_and_an_explanation(kind: str) -> None:
    for key, field in KINDS[kind].model_fields.items():
        assert field.description, key
        assert isinstance(field.json_schema_extra, dict), key
        assert field.json_schema_extra["group"], key


@given(seed=st.integers(), rank=st.integers(1, 512), rate=st.floats(1e-8, 1.0))
def test_a_config_written_and_read_again_is_the_same(seed: int, rank: int, rate: float) -> None:
    config = TrainConfig(
        data_paths=[Path("a")],
        pretrained_model_path="m",
        seed=seed,
        lora_rank=rank,
        learning_rate=rate,
    )
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
