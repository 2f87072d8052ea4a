"""Windows: padding, partition and the relative position bias."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from esc_arch.fast.compiled_attention import merge_channels_last
from esc_arch.fast.lean_attention import bias_of_head
from esc_arch.layers.window import (
    RelativePositionBias,
    pad_to_multiple,
    window_merge,
    window_partition,
)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), multiple=st.integers(1, 12))
def test_padding_is_numpys_reflection(height: int, width: int, multiple: int) -> None:
    x = torch.randn(2, 3, height, width)
    bottom, right = -height % multiple, -width % multiple
    padded = pad_to_multiple(x, multiple)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode="reflect")
    assert torch.equal(padded, torch.from_numpy(expected))
    if bottom < height and right < width:  # where torch, and so the published code, can pad
        assert torch.equal(padded, F.pad(x, (0, right, 0, bottom), mode="reflect"))


def test_no_padding_is_no_copy() -> None:
    x = torch.randn(1, 2, 8, 16)
    assert pad_to_multiple(x, 8) is x


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3), heads=st.integers(1, 3), rows=st.integers(1, 3), columns=st.integers(1, 3),
    window=st.integers(1, 4), depth=st.integers(1, 4),
)  # fmt: skip
def test_merge_undoes_partition(batch: int, heads: int, rows: int, columns: int, window: int, depth: int) -> None:
    channels, height, width = heads * depth, rows * window, columns * window
    qkv = torch.randn(batch, 3 * channels, height, width)
    for tokens, image in zip(window_partition(qkv, window, heads), qkv.split(channels, dim=1), strict=True):
        assert tokens.shape == (batch * rows * columns, heads, window * window, depth)
        for merge in (window_merge, merge_channels_last):
            assert torch.equal(merge(tokens, window, height, width), image)


def test_tokens_are_row_major_within_row_major_windows() -> None:
    pixels = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(1, 3, 1, 1)
    q, _, _ = window_partition(pixels, window=2, heads=1)
    assert q[:, 0, :, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_bias_follows_its_definition() -> None:
    window, heads = 4, 2
    side = 2 * window - 1
    table = torch.randn(heads, side * side)
    bias = RelativePositionBias(table, window).expanded(table.dtype)
    for query in range(window * window):
        for key in range(window * window):
            down = key // window - query // window + window - 1
            right = key % window - query % window + window - 1
            assert torch.equal(bias[:, query, key], table[:, down * side + right])
    for head in range(heads):
        alone = bias_of_head(RelativePositionBias(table, window), head, table.dtype)
        assert torch.equal(alone.flip(-1), bias[head])


def test_bias_gradient_counts_the_pairs() -> None:
    window = 3
    table = torch.zeros(1, (2 * window - 1) ** 2, requires_grad=True)
    RelativePositionBias(table, window).expanded(table.dtype).sum().backward()
    distances = torch.arange(-window + 1, window).abs()
    pairs = (window - distances)[:, None] * (window - distances)[None]
    assert torch.equal(table.grad, pairs.reshape(1, -1).float())
