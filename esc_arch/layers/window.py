"""Windows: padding to a multiple of the window, cutting into windows, and putting together again."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad an image by reflection on the right and the bottom, so that both sides are multiples of `multiple`.

    Where the padding is not smaller than the side, the reflection is reflected again, and so on (numpy's "reflect");
    a single row or column is repeated. Below that it is `torch.nn.functional.pad`'s "reflect".

    Args:
        x: (B, C, H, W).
        multiple: at least 1.

    Returns:
        (B, C, H', W'), `x` itself where nothing is to be done.
    """
    height, width = x.shape[-2:]
    padded_height, padded_width = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    if not torch.compiler.is_compiling():  # a traced graph serves many sizes: no branch may depend on them
        if (height, width) == (padded_height, padded_width):
            return x
        if padded_height < 2 * height and padded_width < 2 * width:
            return F.pad(x, (0, padded_width - width, 0, padded_height - height), mode="reflect")
    return _reflect(_reflect(x, 2, padded_height), 3, padded_width)


def _reflect(x: torch.Tensor, dim: int, target: int) -> torch.Tensor:
    """Extend dimension `dim` to `target` entries, reflecting as often as necessary."""
    period = max(2 * x.shape[dim] - 2, 1)
    position = torch.arange(target, device=x.device) % period
    return x.index_select(dim, torch.minimum(position, period - position))


def window_partition(qkv: torch.Tensor, window: int, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut queries, keys and values into tokens of non-overlapping windows.

    Args:
        qkv: (B, 3 * C, H, W), channels in the order (qkv, heads, head channels); H, W multiples of the window.
        window: side w.
        heads: number of heads h; C = h * d.

    Returns:
        three tensors (B * H/w * W/w, h, w * w, d).
    """
    batch, channels, height, width = qkv.shape
    rows, columns, depth = height // window, width // window, channels // (3 * heads)
    qkv = qkv.reshape(batch, 3, heads, depth, rows, window, columns, window)
    qkv = qkv.permute(1, 0, 4, 6, 2, 5, 7, 3)  # (3, B, H/w, W/w, h, w, w, d)
    q, k, v = qkv.reshape(3, batch * rows * columns, heads, window * window, depth).unbind(0)
    return q, k, v


def window_merge(tokens: torch.Tensor, window: int, height: int, width: int) -> torch.Tensor:
    """Put the tokens of windows back into an image; undoes `window_partition` for one of its results.

    Args:
        tokens: (B * H/w * W/w, h, w * w, d).
        window: side w.
        height: H, a multiple of w.
        width: W, a multiple of w.

    Returns:
        (B, h * d, H, W).
    """
    heads, depth = tokens.shape[1], tokens.shape[3]
    rows, columns = height // window, width // window
    x = tokens.reshape(-1, rows, columns, heads, window, window, depth)
    x = x.permute(0, 3, 6, 1, 4, 2, 5)  # (B, h, d, H/w, w, W/w, w)
    return x.reshape(-1, heads * depth, height, width)


def expand_relative_position_bias(table: torch.Tensor, window: int) -> torch.Tensor:
    """Spread a table of relative position biases over all pairs of tokens of a window.

    Entry (key_y - query_y + w - 1, key_x - query_x + w - 1) of the table belongs to a pair. For a fixed query these
    entries form a w x w patch of the table, so the result is all patches of the table in reverse order: no index of
    w^4 entries is built or stored, and the gradient is a deterministic sum of patches.

    Args:
        table: (h, (2w - 1)^2), row-major.
        window: side w.

    Returns:
        (h, w * w, w * w), query before key.
    """
    side = 2 * window - 1
    patches = table.reshape(-1, side, side).unfold(1, window, 1).unfold(2, window, 1)  # (h, w, w, w, w)
    return patches.flip(1, 2).reshape(-1, window * window, window * window)
