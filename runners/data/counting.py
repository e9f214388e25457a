"""What a config's training data comes to, for the estimate: counted, not guessed."""

from pathlib import Path

from runners.config import TrainConfig
from runners.data.building import OnProgress
from runners.data.cache import build_cache
from runners.data.sampling import Sampling, epoch_samples
from runners.data.split import split_samples
from runners.hardware.speed import DataCounts


def count_training_data(
    config: TrainConfig, tokenizer_path: Path, *, on_progress: OnProgress = lambda *_: None
) -> DataCounts:
    """Samples and tokens of the first epoch: mixed, capped and cut to length as the config says.

    Tokenizes what is not tokenized yet; training finds that done. Raises as ``build_cache`` does.
    """
    cache = build_cache(config, tokenizer_path, on_progress=on_progress)
    train = split_samples(cache, config.data_split, config.seed, config.shuffle_before_split).train
    taken = epoch_samples(cache, train, Sampling.of(config), config.seed, epoch=0)
    return DataCounts(
        samples=len(taken),
        tokens=int(cache.lengths[taken].sum()),
        trained_tokens=int(cache.trained_counts[taken].sum()),
    )
