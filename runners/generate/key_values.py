"""A key-value cache whose rows can leave and join while a batch is being decoded.

transformers' dynamic cache concatenates at every token, which copies the whole cache each time;
this one writes into room that it keeps ahead. Models see an ordinary ``DynamicCache``.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

_ROOM = 128
"""Positions kept free ahead, so that a buffer is copied once in so many tokens."""


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, ``[rows, heads, length, head size]``, as views of buffers."""

    keys: Tensor
    values: Tensor

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Called by transformers with the first states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = (_roomy(key_states[:, :, :0]), _roomy(value_states[:, :, :0]))
        self._view(0)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the states of new positions; returns all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held, total = self._length, self._length + key_states.shape[-2]
        if total > self._buffers[0].shape[-2]:
            self._buffers = (_roomy(self.keys, total), _roomy(self.values, total))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, held:total] = states
        self._view(total)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Positions held."""
        return self._length if self.is_initialized else 0

    def select(self, rows: Tensor, skip: int) -> None:
        """Keep only these rows, without their first ``skip`` positions."""
        keys, values = (buffer[:, :, skip:].index_select(0, rows) for buffer in self._buffers)
        self._buffers = (keys, values)
        self._view(self._length - skip)

    def join(self, other: "RoomyLayer") -> None:
        """Add the other layer's rows below; the shorter of the two is padded on the left."""
        length = max(self._length, other._length)
        parts = ((self.keys, other.keys), (self.values, other.values))
        keys, values = (_stacked(mine, theirs, length) for mine, theirs in parts)
        self._buffers = (keys, values)
        self._view(length)

    def _view(self, length: int) -> None:
        self._length = length
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


def _roomy(states: Tensor, length: int = 0) -> Tensor:
    rows, heads, held, size = states.shape
    buffer = states.new_zeros(rows, heads, max(length, held) + _ROOM, size)
    buffer[:, :, :held] = states
    return buffer


def _stacked(above: Tensor, below: Tensor, length: int) -> Tensor:
    rows = above.shape[0] + below.shape[0]
    # Zeros, not whatever memory held: a masked NaN would still be one after times nought.
    buffer = above.new_zeros(rows, above.shape[1], length + _ROOM, above.shape[3])
    buffer[: above.shape[0], :, length - above.shape[2] : length] = above
    buffer[above.shape[0] :, :, length - below.shape[2] : length] = below
    return buffer


class KeyValues:
    """The cache of a batch. Models with sliding windows keep transformers' own layers.

    ``cache`` goes to the model; ``joinable`` says whether rows can be added.
    """

    def __init__(self, config: Any) -> None:
        self.cache: Any = DynamicCache(config=config)
        layers = self.cache.layers
        self.joinable = all(type(layer) is DynamicLayer for layer in layers) and bool(layers)
        if self.joinable:
            self.cache.layers = [RoomyLayer() for _ in layers]  # type: ignore[no-untyped-call]

    def select(self, rows: Tensor, skip: int = 0) -> None:
        """Keep only these rows. ``skip`` positions on the left go too, where they can."""
        if self.joinable:
            for layer in self.cache.layers:
                layer.select(rows, skip)
        else:
            self.cache.batch_select_indices(rows)

    def join(self, other: "KeyValues") -> None:
        """Add the rows of another batch below these."""
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.join(theirs)


def padded_left(tensor: Tensor, length: int) -> Tensor:
    """A ``[rows, held]`` tensor with zeros on the left up to ``length``."""
    return torch.nn.functional.pad(tensor, (length - tensor.shape[1], 0))
