"""What a training job is asked to do. The reference's keys are our keys."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from runners.config.base import JobConfig, PathList, StrList, required, setting


def _split_shares(value: str) -> str:
    parts = value.split(",")
    try:
        shares = [float(part) for part in parts]
    except ValueError:
        raise ValueError('must be three numbers such as "95,5,0"') from None
    if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0 or shares[0] <= 0:
        raise ValueError('must be three shares, train first and above 0, such as "95,5,0"')
    return value


def _targets(value: object) -> object:
    if isinstance(value, str) and value not in {"family", "all-linear"}:
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return value


def _gradient_checkpointing(value: object) -> object:
    return {True: "full", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _number(value: object) -> object:
    """A literal number compares with a number, not with the text that a flag gives."""
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


def _quantization(value: object) -> object:
    return None if value in ("", "none", "null") else value


def _task_numbers(value: object) -> object:
    """Read "a=2,b=1" as a mapping, for flags and the environment."""
    if isinstance(value, str):
        return dict(part.split("=", 1) for part in value.split(",") if "=" in part)
    return value


TaskNumbers = Annotated[dict[str, float], BeforeValidator(_task_numbers)]


class TrainConfig(JobConfig):
    """One training run."""

    kind: ClassVar[str] = "train"
    aliases: ClassVar[dict[str, str]] = {
        "evalation_steps": "evaluation_steps",
        "checkpoint_activations": "gradient_checkpointing",
    }
    obsolete: ClassVar[dict[str, str]] = {
        "load_raw_dataset": "chose raw JSONL over a pre-tokenized format; JSONL is always read",
        "vocab_file": "named the tokenizer's file; the tokenizer of the model is used",
        "low_cpu_mem_usage": "saved memory while loading; weights are always loaded that way",
        "tokenize_mode": "chose the record format; it is recognized from the data",
        "tokenizer_type": "named the tokenizer class; it is read from the model folder",
        "use_random_sampler": "shuffled each epoch; epochs are always shuffled, by seed",
        "weight_by_num_documents": "weighted tasks by size; use task_weights or sampling",
        "make_vocab_size_divisible_by": "padded the vocabulary; the checkpoint's size is kept",
        "model_parallel_size": "was never used by the training loop",
        "use_slow_tokenizer": "chose the slow tokenizer; the fast one gives the same ids",
        "use_xformers": "chose xformers attention; use attention instead",
        "trust_remote_code": "ran code from the model folder; no model needs it here",
        "world_size": "told the number of ranks; it is num_processes now, or found out",
        "preprocessing_num_workers": "set the processes that tokenize; now set by num_workers",
    }

    # Data
    data_paths: PathList = required(
        "data", 'Task folders, each with JSONL files: a list, or text like "[dir1,dir2]".'
    )
    data_split: Annotated[str, AfterValidator(_split_shares)] = setting(
        "95,5,0", "data", "Shares of train, validation and test samples of each task, in percent."
    )
    padding_mode: Literal["padding", "pack", "concat"] = setting(
        "padding",
        "data",
        "padding: one sample a row; pack: several samples a row, none seeing another; "
        "concat: pretraining text joined and cut to full rows.",
    )
    pack_across_tasks: bool = setting(
        True, "data", "With pack: samples of several tasks share a row, which fills rows better."
    )
    seq_length: int = setting(2048, "data", "Longest row in tokens.", ge=8)
    overlong: Literal["truncate", "drop", "split", "error"] = setting(
        "truncate", "data", "What to do with a sample longer than seq_length."
    )
    use_dynamic_padding: bool = setting(
        True, "data", "Pad to the longest row of a batch, not to seq_length."
    )
    shuffle_before_split: bool = setting(
        True, "data", "Shuffle each task by seed before it is split."
    )
    sampling: Literal["all", "temperature", "weights"] = setting(
        "all",
        "data",
        "all: every sample once an epoch; temperature: task shares size^(1/T); "
        "weights: task shares from task_weights.",
    )
    sampling_temperature: float = setting(1.0, "data", "T of sampling=temperature.", gt=0)
    task_weights: TaskNumbers = setting({}, "data", "Share of each task with sampling=weights.")
    max_samples_per_task: int | None = setting(
        None, "data", "At most this many samples of each task.", ge=1
    )
    system_prompt: str | None = setting(
        None, "data", "System message for records that have none; none by default."
    )
    num_workers: int | None = setting(
        None, "data", "Worker processes that tokenize; all cores by default.", ge=1
    )
    cache_dir: Path | None = setting(
        None, "data", "Where tokenized data is kept; the state folder's cache by default."
    )

    # Model
    pretrained_model_path: str = required("model", "Folder or hub name of the base model.")
    model_type: (
        Literal[
            "qwen",
            "qwen2",
            "qwen3",
            "llama",
            "code_llama",
            "mistral",
            "deepseek_coder",
            "starcoder",
            "starcoder2",
            "gpt_neox",
            "glm",
            "chatglm2",
            "baichuan",
        ]
        | None
    ) = setting(None, "model", "Model family; detected from the checkpoint when left out.")
    attention: Literal["auto", "eager", "sdpa", "flash"] = setting(
        "auto",
        "model",
        "auto and flash: rows end to end without padding, each sample attending to itself; sdpa "
        "and eager: padded rows with a mask.",
    )
    use_liger: bool = setting(False, "model", "Liger kernels, where liger-kernel is installed.")

    # Adapter
    peft_type: Literal["lora", "qlora", "full"] = setting(
        "lora", "adapter", "lora, qlora (on a quantized base), or full fine-tuning."
    )
    quantization: Annotated[
        Literal["4bit", "8bit", "16bit"] | None, BeforeValidator(_quantization)
    ] = setting(None, "adapter", "How the frozen base is held; qlora takes 4bit when left out.")
    lora_rank: int = setting(32, "adapter", "Rank r of the LoRA matrices.", ge=1)
    lora_alpha: float = setting(64, "adapter", "LoRA alpha; updates are scaled alpha/r.", gt=0)
    lora_dropout: float = setting(0.05, "adapter", "Dropout before the adapter.", ge=0, lt=1)
    lora_targets: Annotated[
        Literal["family", "all-linear"] | StrList, BeforeValidator(_targets)
    ] = setting("family", "adapter", "Modules that get adapters: by family, all-linear, or names.")
    modules_to_save: StrList = setting([], "adapter", "Modules trained in full beside LoRA.")
    use_rslora: bool = setting(False, "adapter", "Scale by alpha/sqrt(r) (rsLoRA).")
    use_dora: bool = setting(False, "adapter", "Weight-decomposed LoRA (DoRA).")
    lora_plus_ratio: float | None = setting(
        None, "adapter", "LoRA+: learning rate of B over that of A.", gt=0
    )

    # Loss
    weighted_loss_mode: Literal["case1", "case2", "case3", "case4", "coba", "fixed"] = setting(
        "case3",
        "loss",
        "case1: mean over tokens; case2: over samples; case3: over tasks, by token; case4: over "
        "tasks, by sample; coba: by convergence; fixed: task_loss_weights.",
    )
    task_loss_weights: TaskNumbers = setting({}, "loss", "Weight of each task with mode fixed.")
    coba_window: int = setting(
        20, "loss", "CoBa: validation points N in the slope window (arXiv 2410.06741).", ge=2
    )
    coba_tau: float = setting(5.0, "loss", "CoBa: temperature of the divergence factor.", gt=0)
    coba_warmup_steps: int = setting(
        0, "loss", "CoBa: optimizer steps with even weights before any is adapted.", ge=0
    )
    coba_update_interval: int = setting(
        10, "loss", "CoBa: optimizer steps between validation losses.", ge=1
    )
    coba_split: Literal["valid", "test"] = setting(
        "valid", "loss", "CoBa: the part of data_split that its validation losses come from."
    )
    coba_eval_samples: int = setting(
        16, "loss", "CoBa: validation samples of each task for one point.", ge=1
    )
    neftune_alpha: float | None = setting(
        None, "loss", "NEFTune noise on embeddings; none by default.", gt=0
    )

    # Optimisation
    learning_rate: float = setting(2e-4, "optimisation", "Peak learning rate.", gt=0)
    min_lr: float = setting(0.0, "optimisation", "Learning rate at the end of decay.", ge=0)
    weight_decay: float = setting(0.0, "optimisation", "AdamW weight decay.", ge=0)
    adam_beta1: float = setting(0.9, "optimisation", "AdamW beta 1.", ge=0, lt=1)
    adam_beta2: float = setting(0.95, "optimisation", "AdamW beta 2.", ge=0, lt=1)
    gradient_clipping: float = setting(
        1.0, "optimisation", "Largest gradient norm; 0 turns clipping off.", ge=0
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = setting(
        "cosine", "optimisation", "Shape of the learning rate after warm-up."
    )
    num_warmup_steps: int = setting(0, "optimisation", "Warm-up, in optimizer steps.", ge=0)
    per_device_train_batch_size: int = setting(1, "optimisation", "Rows a micro-batch.", ge=1)
    per_device_eval_batch_size: int = setting(1, "optimisation", "Rows a validation batch.", ge=1)
    gradient_accumulation_steps: int = setting(
        1, "optimisation", "Micro-batches an optimizer step.", ge=1
    )
    global_batch_size: int | None = setting(
        None,
        "optimisation",
        "Rows an optimizer step over all ranks; decides gradient_accumulation_steps, so that the "
        "same config means the same on any number of ranks.",
        ge=1,
    )
    auto_batch_size: bool = setting(
        False,
        "optimisation",
        "On out-of-memory, halve the micro-batch and double accumulation.",
    )
    num_train_epochs: float = setting(1, "optimisation", "Epochs.", gt=0)
    max_train_steps: int | None = setting(
        None, "optimisation", "Stop after this many optimizer steps.", ge=1
    )
    seed: int = setting(42, "optimisation", "Seed of data order, split, dropout and new weights.")
    nonfinite_loss: Literal["skip", "stop"] = setting(
        "stop", "optimisation", "A NaN or infinite loss skips the step, or stops the run."
    )

    # Validation and checkpoints
    evaluation_steps: int = setting(
        500, "checkpoints", "Optimizer steps between validations; 0 for none.", ge=0
    )
    max_eval_samples: int | None = setting(
        None, "checkpoints", "At most this many validation samples of each task.", ge=1
    )
    early_stopping: bool = setting(False, "checkpoints", "Stop when validation stalls.")
    early_stopping_stall_num: int = setting(
        5, "checkpoints", "Validations without improvement that end the run.", ge=1
    )
    early_stopping_on: Literal["total", "each_task"] = setting(
        "total", "checkpoints", "Watch the total validation loss, or wait for every task to stall."
    )
    checkpointing_steps: int | None = setting(
        500, "checkpoints", "Optimizer steps between checkpoints.", ge=1
    )
    epoch_checkpointing: bool = setting(False, "checkpoints", "A checkpoint after each epoch.")
    save_total_limit: int | None = setting(
        3, "checkpoints", "Checkpoints kept besides the best; the oldest go first.", ge=1
    )
    resume_from_checkpoint: Path | None = setting(
        None, "checkpoints", "A checkpoint folder to go on from."
    )
    output_dir: Path | None = setting(
        None, "checkpoints", "Where checkpoints and weights go; the run folder by default."
    )
    tb_dir: Path | None = setting(None, "checkpoints", "TensorBoard folder; none by default.")
    log_interval: int = setting(10, "checkpoints", "Optimizer steps between logged values.", ge=1)

    # Hardware
    num_processes: int | None = setting(
        None, "hardware", "Ranks on this machine; one a GPU, or one on CPU, by default.", ge=1
    )
    num_machines: int = setting(1, "hardware", "Machines.", ge=1)
    machine_rank: int = setting(0, "hardware", "This machine's number among them.", ge=0)
    main_process_ip: str | None = setting(None, "hardware", "Address of machine 0.")
    main_process_port: int | None = setting(None, "hardware", "Port of machine 0.", ge=1)
    gpu_ids: StrList = setting([], "hardware", "GPUs to use, as in CUDA_VISIBLE_DEVICES.")
    use_cpu: bool = setting(False, "hardware", "Train on CPU even where there is a GPU.")
    mixed_precision: Literal["auto", "bf16", "fp16", "no"] = setting(
        "auto", "hardware", "auto: bf16 where the GPU has it, else fp16; float32 on CPU."
    )
    deepspeed: Literal["auto", "on", "off"] = setting(
        "auto", "hardware", "auto uses DeepSpeed when there are GPUs and no other reason not to."
    )
    zero_stage: Annotated[Literal[0, 1, 2, 3], BeforeValidator(_number)] = setting(
        2, "hardware", "DeepSpeed ZeRO stage; 0 is plain data parallelism."
    )
    offload_optimizer: Literal["none", "cpu"] = setting(
        "none", "hardware", "Where ZeRO keeps optimizer states."
    )
    offload_param: Literal["none", "cpu"] = setting(
        "none", "hardware", "Where ZeRO-3 keeps parameters."
    )
    gradient_checkpointing: Annotated[
        Literal["off", "full", "selective"], BeforeValidator(_gradient_checkpointing)
    ] = setting("off", "hardware", "Recompute activations in the backward pass to save memory.")
    peak_tflops: float | None = setting(
        None, "hardware", "Peak TFLOP/s of one device, for MFU; known for usual GPUs.", gt=0
    )
    deterministic: bool = setting(
        False, "hardware", "Deterministic kernels: slower, bit-identical reruns on a GPU."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.peft_type == "qlora" and self.quantization in {None, "16bit"}:
            # Assignment would validate again, and so come back here for ever.
            self.__dict__["quantization"] = "4bit"
        if self.peft_type != "qlora" and self.quantization in {"4bit", "8bit"}:
            if self.peft_type == "full":
                raise ValueError(
                    f"peft_type=full cannot train {self.quantization} weights: "
                    "use peft_type=qlora, or quantization=null"
                )
            # The reference's own configs say lora with 4bit and mean qlora.
            self.__dict__["peft_type"] = "qlora"
        if self.min_lr > self.learning_rate:
            raise ValueError(
                f"min_lr {self.min_lr:g} is above learning_rate {self.learning_rate:g}"
            )
        if self.offload_param == "cpu" and self.zero_stage != 3:
            raise ValueError("offload_param=cpu needs zero_stage=3")
        if self.early_stopping and self.evaluation_steps == 0:
            raise ValueError("early_stopping needs evaluation_steps above 0")
        if self.weighted_loss_mode == "fixed" and not self.task_loss_weights:
            raise ValueError("weighted_loss_mode=fixed needs task_loss_weights")
        if self.sampling == "weights" and not self.task_weights:
            raise ValueError("sampling=weights needs task_weights")
        return self
