"""From a config to everything the loop works with, in the order in which it can go wrong.

Cheap things first: a missing model is told before the data is read, bad data before the model is
loaded.
"""

import hashlib
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin
from accelerate.utils import InitProcessGroupKwargs
from peft import PeftModel
from transformers import PreTrainedModel

from runners.config import TrainConfig
from runners.config.launch_line import accumulation, bucket_entries, deepspeed_settings
from runners.config.preflight import dimensions
from runners.data.cache import build_cache
from runners.data.split import split_samples
from runners.data.token_cache import TokenCache
from runners.errors import UsageError
from runners.hardware.peaks import peak_flops
from runners.lifecycle.job import Job
from runners.lifecycle.resumption import resumed_notice
from runners.models.alibi import WidenedHeads, hold_positions
from runners.models.families import has_alibi, read_model_config, require_alibi_trainable
from runners.models.load import (
    Precision,
    add_adapters,
    attention_way,
    fetch_base,
    load_base,
)
from runners.models.prepare import Base, prepare_base
from runners.train.batching import Batcher
from runners.train.checkpoint import Checkpoint, CheckpointFolder
from runners.train.coba import CoBa
from runners.train.engine import DeepSpeedEngine, Engine, PlainEngine
from runners.train.loop import Training
from runners.train.memory import Cut, MemoryMeter
from runners.train.model import WeightedLoss
from runners.train.module import checkpoint_activations, share_out, upcast_trained
from runners.train.optimizer import make_optimizer
from runners.train.order import DataOrder, Position, Spread, Stretch
from runners.train.rejoin import rejoin
from runners.train.schedule import Schedule
from runners.train.sinks import ConsoleSink, EventSink, Sink, TensorBoardSink
from runners.train.speed import step_flops
from runners.train.tally import Interval
from runners.train.validation import EarlyStopping, first_of_each
from runners.train.weights import fixed_weights

_COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Rank 0 may tokenize or convert for long while the others wait."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}


def make_accelerator(config: TrainConfig, environ: Mapping[str, str] = os.environ) -> Accelerator:
    """The accelerator as the launch line said: its choices arrive in the environment."""
    ranks = int(environ.get("WORLD_SIZE", "1"))
    precision = environ.get("ACCELERATE_MIXED_PRECISION", "no")
    cpu = environ.get("ACCELERATE_USE_CPU", "false").lower() == "true" or (
        not torch.cuda.is_available()
    )
    handlers = []
    if ranks > 1:
        # Without the explicit backend accelerate counts one process under DeepSpeed on CPU.
        backend = "gloo" if cpu else None
        handlers.append(InitProcessGroupKwargs(backend=backend, timeout=_COLLECTIVE_TIMEOUT))
        rejoin(backend or "nccl", _COLLECTIVE_TIMEOUT, environ)
    plugin = None
    if environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        plugin = DeepSpeedPlugin(hf_ds_config=deepspeed_settings(config, precision, ranks))
    return Accelerator(
        cpu=cpu, mixed_precision=precision, deepspeed_plugin=plugin, kwargs_handlers=handlers
    )


class Setup:
    """A training job made ready, step by step."""

    def __init__(self, job: Job[TrainConfig], output: Path) -> None:
        self.job, self.config, self.output = job, job.config, output
        self.accelerator = make_accelerator(self.config)
        self.leader = self.accelerator.is_main_process
        self.checkpoints = CheckpointFolder(output / "checkpoints", self.config.save_total_limit)
        self.resumed = self._checkpoint_to_resume()
        with self.accelerator.main_process_first():
            self.base: Base = prepare_base(self.config, output, lambda: self.leader)
        self.meter = MemoryMeter(self.accelerator.device)
        self.model_config = read_model_config(self.base.folder)
        require_alibi_trainable(
            self.model_config,
            precision=self.accelerator.mixed_precision,
            dora=self.config.use_dora,
        )
        for note in self.base.notes:
            job.events.notice("info", note)
        self.saved: dict[str, Any] = self.resumed.state() if self.resumed else {}
        self.cache = self._cache()
        self.identity = self._identity()
        self._refuse_other_runs()
        self.module = self._module()

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """The language model inside the loss module."""
        return self.module.model

    def training(self) -> Training:
        """Everything the loop needs, standing where the run left off."""
        config, saved = self.config, self.saved
        device = self.accelerator.device
        # Dropout must differ between ranks, and not depend on how the model was loaded.
        torch.manual_seed(config.seed + 7919 * self.accelerator.process_index)
        engine = self._engine()
        split = split_samples(
            self.cache, config.data_split, config.seed, config.shuffle_before_split
        )
        asked = Spread(
            engine.ranks, config.per_device_train_batch_size, accumulation(config, engine.ranks)
        )
        # A step that is cut smaller takes the same rows only in an order that began as asked.
        position = Position(0, 0, (Stretch(asked, 0),))
        if saved:
            position = Position.from_json(saved["position"])
        order = DataOrder(self.cache, split.train, config, self._spread(asked), position)
        if not order.total:
            raise UsageError(
                "there is nothing to train: no sample is in the training split",
                where="data_split",
                fix="Give the training split a share, and the tasks at least two records.",
            )
        training = Training(
            config=config,
            engine=engine,
            module=self.module,
            batcher=self._batcher(device),
            order=order,
            schedule=Schedule(
                config.lr_scheduler_type,
                config.learning_rate,
                config.min_lr,
                config.num_warmup_steps,
                order.total,
            ),
            checkpoints=self.checkpoints,
            interval=Interval(self.cache.tasks),
            early=EarlyStopping(
                self.cache.tasks, config.early_stopping_stall_num, config.early_stopping_on
            ),
            sinks=self._sinks(order),
            stopping=lambda: self.job.stopping,
            valid=first_of_each(self.cache, split.valid, config.max_eval_samples),
            identity=self.identity,
            model_config=self.model_config,
            notice=self.job.events.notice,
            measures=self._measures,
        )
        if config.weighted_loss_mode == "fixed":
            training.fixed = self._fixed_weights()
        if config.weighted_loss_mode == "coba":
            own = split.test if config.coba_split == "test" else split.valid
            training.coba_samples = first_of_each(self.cache, own, config.coba_eval_samples)
            self._require_all_tasks(training.coba_samples)
            training.coba = CoBa(len(self.cache.tasks), config.coba_window, config.coba_tau)
        if self.resumed is not None:
            self._restore(training, self.resumed)
        return training

    def _spread(self, asked: Spread) -> Spread:
        """How a step is spread: as asked for, or smaller since a rank ran out of memory."""
        cut = Cut.read(self.checkpoints.root) if self.config.auto_batch_size else None
        if cut is None or (cut.spread.rows, cut.spread.ranks) != (asked.rows, asked.ranks):
            return asked
        self.job.events.notice(
            "warning",
            f"a rank ran out of memory before: going on with {cut.spread.micro_batch} rows a "
            f"micro-batch and {cut.spread.accumulation} micro-batches a step, the same global "
            "batch",
        )
        return cut.spread

    # Resuming

    def _checkpoint_to_resume(self) -> Checkpoint | None:
        """The newest checkpoint of this run, else the one the config names, else none.

        Another run may have had the same output_dir: what it left is not taken for ours.
        """
        run = self.job.folder.run_id
        others = self.checkpoints.all()
        owners = [checkpoint.state().get("run", run) for checkpoint in others]
        ours = [one for one, owner in zip(others, owners, strict=True) if owner == run]
        if ours:
            return ours[-1]
        asked = self.config.resume_from_checkpoint
        if asked is None:
            if others:
                raise UsageError(
                    f"the output folder holds the checkpoints of another run, {owners[-1]}",
                    where=str(self.checkpoints.root),
                    fix="Choose another output_dir, move that folder away, or go on from it with "
                    f"resume_from_checkpoint={others[-1].folder}.",
                )
            return None
        checkpoint = Checkpoint(asked)
        if not (asked / "state.json").is_file():
            # The folder of a run, or of its checkpoints, means the newest one in it.
            for folder in (asked / "checkpoints", asked):
                if (found := CheckpointFolder(folder, None).newest()) is not None:
                    return found
        checkpoint.state()
        return checkpoint

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that goes on from it."""
        config = self.config
        shape = hashlib.sha256((self.base.folder / "config.json").read_bytes()).hexdigest()
        return {
            "run": self.job.folder.run_id,
            "model_config": shape,
            "base": config.pretrained_model_path,
            "base_dimensions": dimensions(
                read_model_config(fetch_base(config.pretrained_model_path))
            ),
            "data": self.cache.fingerprint,
            "method": config.peft_type,
            "lora_rank": None if config.peft_type == "full" else config.lora_rank,
            "loss": config.weighted_loss_mode,
        }

    def _refuse_other_runs(self) -> None:
        told = {
            "model_config": "another model",
            "method": "another method (peft_type)",
            "lora_rank": "another lora_rank",
            "data": "other data, or the same data prepared otherwise",
            "loss": "another weighted_loss_mode",
        }
        for key, what in told.items():
            if self.saved and self.saved[key] != self.identity[key]:
                assert self.resumed is not None
                raise UsageError(
                    f"this checkpoint was made with {what}",
                    where=str(self.resumed.folder),
                    fix="Resume with the config of the run that wrote it, or start afresh.",
                )

    def _restore(self, training: Training, checkpoint: Checkpoint) -> None:
        engine, saved = training.engine, self.saved
        extra = saved["engine"]
        # Checkpoints from before steps taken were counted have the steps done instead.
        engine.restore(checkpoint.tensors(), extra.get("updates", training.done))
        engine.restore_extra(extra)
        training.interval.restore(saved["interval"])
        training.early.restore(saved["early_stopping"])
        training.pending, training.saved = saved.get("pending", False), training.done
        if training.coba is not None and saved["coba"] is not None:
            training.coba.restore(saved["coba"])
        state = checkpoint.random_state(engine.rank)
        same = len(list(checkpoint.folder.glob("rank-*.safetensors"))) == engine.ranks
        if state is not None and same:
            state.set(engine.device)
        how = "exactly where it stopped"
        if len(training.order.position.stretches) > 1 or not same:
            how = (
                "with the rest of the epoch in a new order and new random states, because the "
                "number of ranks or the batch settings changed"
            )
        self.job.events.notice("info", resumed_notice(checkpoint.folder, training.done, how))

    # Parts

    def _cache(self) -> TokenCache:
        cache = build_cache(self.config, self.base.folder, on_progress=self.job.events.progress)
        if self.leader:
            self.job.record_artifact("data-cache", cache.folder)
        return cache

    def _module(self) -> WeightedLoss:
        config, device = self.config, self.accelerator.device
        torch.manual_seed(config.seed)
        if config.deterministic:
            torch.use_deterministic_algorithms(True)
        compute = _DTYPES[self.accelerator.mixed_precision]
        deepspeed = self.accelerator.state.deepspeed_plugin is not None
        whole = config.peft_type == "full" and not deepspeed
        precision = Precision(torch.float32 if whole else compute, compute)
        base = load_base(self.base.folder, config, precision, device)
        if config.gradient_checkpointing != "off":
            checkpoint_activations(base, selective=config.gradient_checkpointing == "selective")
        model: PreTrainedModel | PeftModel = base
        if config.peft_type != "full":
            model = add_adapters(base, config, self.base.folder, train_tokens=self.base.new_tokens)
        if not deepspeed:
            upcast_trained(model)
        if has_alibi(self.model_config):
            heads = base.config.num_attention_heads
            hold_positions(model, WidenedHeads(heads, base.config.hidden_size // heads))
        module = WeightedLoss(model, len(self.cache.tasks), config.neftune_alpha)
        if config.quantization in {"4bit", "8bit"} or self._shares_out:
            return module  # loaded onto the device, or moved there share by share
        return module.to(device)

    @property
    def _shares_out(self) -> bool:
        """Whether ZeRO-3 shares out the parameters, so that no rank ever holds all of them."""
        return self.accelerator.state.deepspeed_plugin is not None and self.config.zero_stage == 3

    def _engine(self) -> Engine:
        optimizer = make_optimizer(self.module, self.config, self.accelerator.device)
        kind: type[DeepSpeedEngine | PlainEngine] = PlainEngine
        if (plugin := self.accelerator.state.deepspeed_plugin) is not None:
            kind = DeepSpeedEngine
            trained = sum(p.numel() for p in self.module.parameters() if p.requires_grad)
            zero = plugin.deepspeed_config["zero_optimization"]
            zero |= {key: bucket_entries(trained) for key in zero if key.endswith("bucket_size")}
            if self._shares_out:
                dtype = _DTYPES[self.accelerator.mixed_precision]
                share_out(self.module, plugin.deepspeed_config, dtype, self.accelerator.device)
        return kind(self.accelerator, self.module, optimizer, self.config.gradient_clipping)

    def _batcher(self, device: torch.device) -> Batcher:
        way = attention_way(self.config)
        return Batcher(
            cache=self.cache,
            config=self.config,
            pad_id=self.base.tokenizer.im_end,
            flat=way == "flat",
            device=device,
            mask_dtype=_DTYPES[self.accelerator.mixed_precision] if way == "eager" else None,
            window=self.model_config.get("sliding_window")
            if self.model_config.get("use_sliding_window", True)
            else None,
        )

    def _sinks(self, order: DataOrder) -> list[Sink]:
        if not self.leader:
            return []
        sinks: list[Sink] = [EventSink(self.job.events), ConsoleSink(lambda: order.total)]
        if self.config.tb_dir is not None:
            sinks.append(TensorBoardSink(self.config.tb_dir, order.position.step))
        return sinks

    def _fixed_weights(self) -> Any:
        asked, tasks = self.config.task_loss_weights, self.cache.tasks
        if set(asked) != set(tasks):
            raise UsageError(
                f"task_loss_weights names {', '.join(sorted(asked))}, the data has "
                f"{', '.join(tasks)}",
                where="task_loss_weights",
                fix="Give each task of the data one weight.",
            )
        return fixed_weights(asked, tasks)

    def _require_all_tasks(self, samples: Any) -> None:
        present = {self.cache.tasks[k] for k in set(self.cache.task_ids[samples].tolist())}
        if missing := [task for task in self.cache.tasks if task not in present]:
            raise UsageError(
                f"CoBa needs validation samples of every task; {', '.join(missing)} has none",
                where="data_split",
                fix='Give the split a share of each task, such as data_split="90,10,0".',
            )

    def _measures(self, interval: Interval) -> Mapping[str, float]:
        """Peak memory, and MFU where the peak is known."""
        values: dict[str, float] = {"peak_memory_bytes": self.meter.peak()}
        device = self.accelerator.device
        if device.type == "cuda":
            peak = self.config.peak_tflops
            rate = peak * 1e12 if peak else peak_flops(torch.cuda.get_device_name(device))
        else:
            rate = self.config.peak_tflops * 1e12 if self.config.peak_tflops else None
        if rate and interval.seconds > 0:
            useful = step_flops(
                self.model_config,
                full=self.config.peft_type == "full",
                tokens=interval.tokens,
                squares=interval.squares,
                trained=interval.trained,
            )
            ranks = self.accelerator.num_processes
            values["mfu"] = useful / (interval.seconds * rate * ranks)
        return values
