"""What the reference does: one question at a time through ``generate``, whole text checked."""

from typing import Any

from runners.benchmarks.stopping import holds
from runners.generate.decoding import Decoding
from runners.generate.engine import Request


def generate_one(model: Any, tokenizer: Any, decoding: Decoding, request: Request) -> list[int]:
    """The tokens that plain ``generate`` makes for a request."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    rule = decoding.rule(request.task)

    class Rule(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            new = input_ids[0, len(request.ids) :]
            over = rule is not None and holds(
                rule, tokenizer.decode(new, clean_up_tokenization_spaces=False)
            )
            return torch.tensor([over], device=input_ids.device)

    ids = torch.tensor([request.ids], device=model.device)
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=1,
            max_length=decoding.max_length,
            eos_token_id=decoding.eos_id,
            pad_token_id=decoding.eos_id,
            repetition_penalty=decoding.repetition_penalty,
            stopping_criteria=StoppingCriteriaList([Rule()]),
        )
    return [int(token) for token in output[0, len(request.ids) :]]
