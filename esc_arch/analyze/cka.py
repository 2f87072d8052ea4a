"""Linear centred kernel alignment between many sets of features, in any number of parts.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited" (ICML 2019), with the unbiased
estimate of HSIC of Song et al., "Feature Selection via Dependence Maximization" (JMLR 2012), eq. 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esc_arch.analyze.photographs import Array


class LinearCKA:
    """Adds up features of one set of examples after another; what is kept does not grow with their number.

    Examples are pixels: for linear kernels the unbiased HSIC needs only sums over them, so that parts give exactly what
    the whole does.

    Args:
        channels: of each layer.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        self.ends = np.cumsum(channels)
        self.starts = self.ends - np.asarray(channels)
        total, layers = int(self.ends[-1]), len(channels)
        self.count = 0
        self.shift: Array | None = None
        self.sums = np.zeros(total)
        self.products = np.zeros((total, total))  # of the features of all layers with each other
        self.weighted = np.zeros((total, layers))  # features, times the square of the length in a layer
        self.squares = np.zeros((layers, layers))  # products of the squares of the lengths in two layers
        self.lengths = np.zeros(layers)

    def add(self, features: Sequence[Array]) -> None:
        """Add examples.

        Args:
            features: for each layer (n, channels), of the same n examples.
        """
        joined = np.concatenate([part.astype(np.float64) for part in features], axis=1)
        if self.shift is None:
            self.shift = joined.mean(axis=0)  # changes no HSIC, and keeps digits where features are far from zero
        joined -= self.shift
        lengths = np.stack(
            [(joined[:, start:end] ** 2).sum(1) for start, end in zip(self.starts, self.ends, strict=True)], axis=1
        )
        self.count += len(joined)
        self.sums += joined.sum(axis=0)
        self.products += joined.T @ joined
        self.weighted += joined.T @ lengths
        self.squares += lengths.T @ lengths
        self.lengths += lengths.sum(axis=0)

    def result(self) -> Array:
        """Return the similarity of all pairs of layers, 1 for equal ones; NaN where a layer is constant.

        Raises:
            ValueError: there are fewer than 4 examples.
        """
        if self.count < 4:
            raise ValueError(f"CKA needs at least 4 examples, got {self.count}")
        layers = len(self.ends)
        hsic = np.array([[self._hsic(a, b) for b in range(layers)] for a in range(layers)])
        own = np.diag(hsic)
        with np.errstate(invalid="ignore", divide="ignore"):
            similarity = hsic / np.sqrt(np.outer(own, own))
        similarity[~(np.outer(own, own) > 0)] = np.nan
        return similarity

    def _hsic(self, a: int, b: int) -> float:
        """Estimate HSIC without bias, up to a factor that all pairs have in common."""
        first, second = slice(self.starts[a], self.ends[a]), slice(self.starts[b], self.ends[b])
        x, y, product = self.sums[first], self.sums[second], self.products[first, second]
        n = self.count
        # kernels have no diagonal: it is taken off every sum
        trace = (product**2).sum() - self.squares[a, b]
        all_x, all_y = x @ x - self.lengths[a], y @ y - self.lengths[b]
        rows = x @ product @ y - x @ self.weighted[first, b] - y @ self.weighted[second, a] + self.squares[a, b]
        return float(trace + all_x * all_y / ((n - 1) * (n - 2)) - 2 * rows / (n - 2))


def neighbours(similarity: Array) -> float | None:
    """Average the similarity of layers that follow each other; None where no two can be compared."""
    following = np.diagonal(similarity, offset=1)
    known = following[np.isfinite(following)]
    return float(known.mean()) if len(known) else None
