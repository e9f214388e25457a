"""The module that is trained: a language model whose forward pass is its own weighted loss.

The loss belongs inside ``forward`` because data-parallel wrappers and ZeRO only see what goes
through the forward pass of the module they wrap.
"""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from runners.train.cross_entropy import token_losses
from runners.train.inputs import Inputs


class WeightedLoss(nn.Module):
    """A causal language model that returns Σ w_t l_t of a micro-batch.

    ``tasks`` is the number of tasks in the data set. ``noise`` is NEFTune's alpha
    (arXiv 2310.05914), None for none.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, tasks: int, noise: float | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self._tasks = tasks
        base = self.language_model
        self._vocabulary = base.config.get_text_config().vocab_size
        if noise is not None:
            base.get_input_embeddings().register_forward_hook(_neftune(noise))

    @property
    def language_model(self) -> PreTrainedModel:
        """The transformers model inside, adapters and all."""
        model = self.model
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        assert isinstance(inner, PreTrainedModel)
        return inner

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The weighted loss (scalar, float32), and each task's summed token loss [tasks]."""
        base = self.language_model
        backbone = getattr(base, base.base_model_prefix)
        hidden = backbone(**inputs.model, use_cache=False).last_hidden_state
        picked = hidden.flatten(0, 1)[inputs.predicts]
        if not len(picked):
            # Nothing to learn from here, but every rank's backward pass must touch every parameter.
            return hidden.sum().float() * 0.0, hidden.new_zeros(self._tasks, dtype=torch.float64)
        losses = token_losses(
            picked, inputs.targets, base.get_output_embeddings(), self._vocabulary
        )
        sums = torch.zeros(self._tasks, dtype=torch.float64, device=losses.device)
        sums.index_add_(0, inputs.tasks, losses.detach().double())
        return (losses * inputs.weights).sum(), sums


def _neftune(alpha: float) -> Any:
    def add_noise(module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
        if not module.training:
            return embedded
        scale = alpha / (embedded.shape[-2] * embedded.shape[-1]) ** 0.5
        return embedded + torch.empty_like(embedded).uniform_(-scale, scale)

    return add_noise
