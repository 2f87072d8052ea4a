"""ConvAttn: a large kernel shared by the whole network plus a small kernel computed from each image.

It works alone in any network and, as in ESC, with a large kernel that the network owns and hands to each module:
`ConvAttn(dim, pdim, owns_kernel=False)` is called as `module(x, kernel)`.

Source: "Emulating Self-attention with Convolution for Efficient Image Super-Resolution" (ICCV 2025), Sec. 3.3.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.seam import replaceable

DYNAMIC_SIZE = 3  # side of the kernel computed from the image


def new_large_kernel(pdim: int, kernel_size: int) -> nn.Parameter:
    """Create the shared kernel of ConvAttn.

    Args:
        pdim: channels P that the kernel mixes.
        kernel_size: side K, odd.

    Returns:
        a parameter of shape (P, P, K, K), orthogonal: the paper found early training unstable with other choices.
    """
    return nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, pdim, kernel_size, kernel_size)))


def average_over_square(kernel: torch.Tensor) -> torch.Tensor:
    """Average a kernel over the 8 symmetries of the square (geometric re-parameterisation).

    The symmetries are the two mirrors, which generate the half turn, each with and without transposition.

    Args:
        kernel: (..., K, K).

    Returns:
        the symmetric kernel, of the same shape.
    """
    kernel = kernel + kernel.flip(-1)
    kernel = kernel + kernel.flip(-2)
    return (kernel + kernel.transpose(-1, -2)) / 8


class LargeKernel:
    """The large kernel of a network in one forward pass.

    Args:
        weight: (P, P, K, K), K odd.
        symmetric: whether it is known to equal its mirror images in both directions.
    """

    def __init__(self, weight: torch.Tensor, symmetric: bool = False) -> None:
        self.weight = weight
        self.symmetric = symmetric


def averaged_kernel(parameter: torch.Tensor) -> LargeKernel:
    """Prepare the shared kernel (P, P, K, K) of a network for one forward pass, averaged over the square."""
    return LargeKernel(average_over_square(parameter), symmetric=True)


def dynamic_depthwise(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Convolve every channel of every image with a kernel of its own, padded to the same size.

    Args:
        x: (B, P, H, W).
        weight: (B, P, k, k), k odd.

    Returns:
        (B, P, H, W).
    """
    batch, channels, height, width = x.shape
    size = weight.shape[-1]
    out = F.conv2d(
        x.reshape(1, batch * channels, height, width),  # (1, B * P, H, W)
        weight.reshape(batch * channels, 1, size, size),
        padding=size // 2,
        groups=batch * channels,
    )
    return out.reshape(batch, channels, height, width)


@replaceable
def convolve(x: torch.Tensor, kernel: LargeKernel, dynamic: torch.Tensor) -> torch.Tensor:
    """Convolve with the large kernel plus a depthwise one for each image, padded by zeros to the same size.

    Args:
        x: (B, P, H, W).
        kernel: is the same for all images.
        dynamic: (B, P, 3, 3).

    Returns:
        (B, P, H, W).
    """
    large = F.conv2d(x, kernel.weight.to(x.dtype), padding=kernel.weight.shape[-1] // 2)
    return large + dynamic_depthwise(x, dynamic)


def kernel_predictor(pdim: int, hidden: int) -> nn.Sequential:
    """Create the branch that computes the dynamic kernel: (B, P, H, W) -> (B, P * 9, 1, 1).

    Its last layer starts at zero, so that training starts from the large kernel alone.
    """
    last = nn.Conv2d(hidden, pdim * DYNAMIC_SIZE**2, 1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(pdim, hidden, 1), nn.GELU(), last)


class DynamicLargeKernel(nn.Module):
    """The convolution of ConvAttn on its P channels: shared large kernel plus dynamic 3x3 depthwise kernel.

    Args:
        pdim: number of channels P, at least 2.
    """

    def __init__(self, pdim: int) -> None:
        super().__init__()
        require(pdim >= 2, f"pdim must be at least 2, got {pdim}")
        self.dwc_proj = kernel_predictor(pdim, pdim // 2)

    def forward(self, x: torch.Tensor, kernel: LargeKernel) -> torch.Tensor:
        """Convolve `x` (B, P, H, W) with `kernel` plus each image's own kernel, to the same shape."""
        return convolve(x, kernel, self.dynamic_kernel(x))

    def dynamic_kernel(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the dynamic kernel (B, P, 3, 3) of `x` (B, P, H, W)."""
        return self.dwc_proj(x).reshape(*x.shape[:2], DYNAMIC_SIZE, DYNAMIC_SIZE)


def check_sizes(dim: int, pdim: int, kernel_size: int, smallest: int) -> None:
    """Raise ValueError unless the sizes of a ConvAttn fit each other and the kernel is odd and not too small."""
    require(dim >= 1, f"dim must be positive, got {dim}")
    require(pdim <= dim, f"pdim must not exceed dim, got pdim {pdim} and dim {dim}")
    require(
        kernel_size % 2 == 1 and kernel_size >= smallest,
        f"kernel_size must be odd and at least {smallest}, got {kernel_size}",
    )


class PartialConvAttn(nn.Module):
    """What all forms of ConvAttn share: some channels are convolved, then all are mixed by a 1x1 convolution.

    Args:
        dim: number of channels C.
        convolution: called as `convolution(x, kernel)` with the first P channels.
        pdim: number of channels P.
    """

    def __init__(self, dim: int, convolution: nn.Module, pdim: int) -> None:
        super().__init__()
        self.dim = dim
        self.pdim = pdim
        self.plk = convolution
        self.aggr = nn.Conv2d(dim, dim, 1)

    def mix(self, x: torch.Tensor, kernel: Any) -> torch.Tensor:
        """Convolve the first channels of `x` (B, C, H, W) and mix all, to the same shape."""
        require_image(x, self.dim, "x")
        convolved, rest = x[:, : self.pdim], x[:, self.pdim :]
        return self.aggr(torch.cat([self.plk(convolved, kernel), rest], dim=1))


class ConvAttn(PartialConvAttn):
    """Convolutional attention: the first P channels are convolved, then all are mixed by a 1x1 convolution.

    Args:
        dim: number of channels C.
        pdim: number of channels P that are convolved, 2 <= P <= C; the others pass through.
        kernel_size: side K of the large kernel, odd.
        owns_kernel: keep a large kernel of its own (`plk_filter`). If not, the kernel is an argument of `forward`, so
            that many modules can share one.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, pdim: int = 16, kernel_size: int = 13, owns_kernel: bool = True) -> None:
        check_sizes(dim, pdim, kernel_size, smallest=1)
        super().__init__(dim, DynamicLargeKernel(pdim), pdim)
        self.plk_filter = new_large_kernel(pdim, kernel_size) if owns_kernel else None

    def forward(self, x: torch.Tensor, kernel: torch.Tensor | LargeKernel | None = None) -> torch.Tensor:
        """Apply ConvAttn to `x` (B, C, H, W); the result has the same shape.

        Args:
            x: features.
            kernel: (P, P, K, K), used as it is; None takes the module's own kernel, averaged over the symmetries of
                the square.

        Raises:
            ValueError: the channels of `x` do not fit, or no kernel was given to a module without one.
        """
        if kernel is None:
            if self.plk_filter is None:
                raise ValueError("kernel is missing: this ConvAttn was built with owns_kernel=False")
            kernel = averaged_kernel(self.plk_filter)
        elif isinstance(kernel, torch.Tensor):
            kernel = LargeKernel(kernel)
        return self.mix(x, kernel)
