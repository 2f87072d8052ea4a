"""Windows: padding to a multiple of the window, cutting into windows, and putting together again."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esc_arch.layers.reflect import next_multiple, reflect_axis


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
    padded_height, padded_width = next_multiple(height, multiple), next_multiple(width, multiple)
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if not traced:  # a traced graph serves many sizes: no branch may depend on them
        if (height, width) == (padded_height, padded_width):
            return x
        if padded_height < 2 * height and padded_width < 2 * width:
            return F.pad(x, (0, padded_width - width, 0, padded_height - height), mode="reflect")
    return reflect_axis(reflect_axis(x, 2, 0, padded_height), 3, 0, padded_width)


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
    tokens = qkv.permute(0, 2, 3, 1).reshape(batch, rows, window, columns, window, channels).transpose(2, 3)
    tokens = tokens.contiguous().view(-1, window * window, channels)  # (B * H/w * W/w, w * w, 3 * C)
    q, k, v = (t.view(-1, window * window, heads, depth) for t in tokens.split(channels // 3, dim=2))
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


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
    x = tokens.reshape(-1, height // window, width // window, heads, window, window, depth)
    return x.permute(0, 3, 6, 1, 4, 2, 5).reshape(-1, heads * depth, height, width)


def reversed_bias(table: torch.Tensor, window: int) -> torch.Tensor:
    """Show a table of relative position biases as the bias of all pairs of tokens of a window, keys in reverse order.

    Entry (key_y - query_y + w - 1, key_x - query_x + w - 1) of the table belongs to a pair. With the keys in reverse
    order, and the table too, it is entry (query_y + key_y, query_x + key_x): then the bias is simply all w x w patches
    of the table, no index of w^4 entries is needed, and the gradient is a deterministic sum of patches.

    Args:
        table: (h, (2w - 1)^2), row-major.
        window: side w.

    Returns:
        (h, w, w, w, w), a view of a small tensor: rows and columns of the query, rows and columns of the reversed key.
    """
    side = 2 * window - 1
    return table.flip(-1).reshape(-1, side, side).unfold(1, window, 1).unfold(2, window, 1)


class RelativePositionBias:
    """The bias of one attention layer in one forward pass.

    Args:
        table: (h, (2w - 1)^2), see `reversed_bias`.
        window: side w.
    """

    def __init__(self, table: torch.Tensor, window: int) -> None:
        self.table = table
        self.window = window

    def expanded(self, dtype: torch.dtype) -> torch.Tensor:
        """Return (h, w * w, w * w), query before key."""
        bias = reversed_bias(self.table.to(dtype), self.window)
        return bias.reshape(-1, self.window**2, self.window**2).flip(-1)
