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
        self._noise = None
        if noise is not None:
            self._noise = EmbeddingNoise(noise)
            base.get_input_embeddings().register_forward_hook(self._noise)

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
        if self._noise is not None:
            self._noise.lengths = inputs.lengths
        hidden = backbone(**inputs.model, use_cache=False).last_hidden_state
        picked = hidden.flatten(0, 1)[inputs.predicts]
        # Also with nothing to learn from: every rank's backward pass must touch every parameter.
        losses = token_losses(
            picked, inputs.targets, base.get_output_embeddings(), self._vocabulary, inputs.most
        )
        sums = torch.zeros(self._tasks, dtype=torch.float64, device=losses.device)
        sums.index_add_(0, inputs.tasks, losses.detach().double())
        return (losses * inputs.weights).sum(), sums


class EmbeddingNoise:
    """NEFTune's hook on the embeddings: uniform noise of ±alpha / √(L d) while training.

    L is the length of the sample that a token is in, not that of what happens to be packed beside
    it; ``lengths`` [as input_ids] are those of the tokens about to be embedded.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self.lengths: Tensor | None = None

    def __call__(self, module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
        """The embeddings with their noise."""
        if not module.training:
            return embedded
        assert self.lengths is not None, "set before each forward pass"
        scale = self._alpha / (self.lengths.unsqueeze(-1) * embedded.shape[-1]).sqrt()
        noise = torch.empty_like(embedded).uniform_(-1, 1)
        return embedded + noise * scale.to(embedded.dtype)
