"""ConvAttn: a large kernel shared by the whole network plus a small kernel computed from each image.

Both modules here work alone in any network and, as in ESC, with a large kernel that the network owns and hands to each
of them: `ConvAttn(dim, pdim, owns_kernel=False)` is called as `module(x, kernel)`.

Source: "Emulating Self-attention with Convolution for Efficient Image Super-Resolution" (ICCV 2025), Sec. 3.3; the
decomposed form is that of ESC-FP in its supplement.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.fast import speedups
from esc_arch.fast.large_kernel import LargeKernel
from esc_arch.layers.arguments import require, require_image

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
        """Convolve `x` (B, P, H, W) with `kernel` plus each image's own kernel, to the same shape.

        conv(x, kernel) + depthwise(x, dynamic) is one convolution with the sum of both kernels, the dynamic one on the
        diagonal of the channels and in the centre of the window. There is one such sum per image, and it is not
        symmetric, so this serves a single image whose large kernel cannot be transformed.
        """
        dynamic = self.dynamic_kernel(x)
        border = kernel.weight.shape[-1] // 2 - DYNAMIC_SIZE // 2
        if x.shape[0] > 1 or border < 0 or kernel.transforms(x) or not speedups.active().merged:
            return dynamic_depthwise(x, dynamic) + kernel.convolve(x)
        diagonal = torch.diag_embed(dynamic[0].permute(1, 2, 0)).permute(2, 3, 0, 1)  # (P, P, 3, 3)
        return LargeKernel(kernel.weight + F.pad(diagonal, (border, border, border, border))).convolve(x)

    def dynamic_kernel(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the dynamic kernel (B, P, 3, 3) of `x` (B, P, H, W)."""
        return self.dwc_proj(x).reshape(*x.shape[:2], DYNAMIC_SIZE, DYNAMIC_SIZE)


class DecomposedLargeKernel(nn.Module):
    """The decomposed convolution on P channels: a 1x1 convolution, then one depthwise large-plus-dynamic kernel.

    Args:
        pdim: number of channels P, at least 4.
    """

    def __init__(self, pdim: int) -> None:
        super().__init__()
        require(pdim >= 4, f"pdim must be at least 4, got {pdim}")
        self.proj = kernel_predictor(pdim, pdim // 4)

    def forward(self, x: torch.Tensor, kernel: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Convolve `x` (B, P, H, W) with the two parts of `kernel`, the second plus each image's own kernel.

        The parts are (P, P, 1, 1) and (P, 1, K, K). The dynamic kernel is computed from `x` as it comes in. The result
        has the shape of `x`.
        """
        channel, spatial = kernel
        batch, pdim = x.shape[:2]
        dynamic = self.proj(x).reshape(batch, pdim, DYNAMIC_SIZE, DYNAMIC_SIZE)
        border = spatial.shape[-1] // 2 - DYNAMIC_SIZE // 2
        x = F.conv2d(x, channel)
        weight = spatial.squeeze(1) + F.pad(dynamic, (border, border, border, border))  # (B, P, K, K)
        return dynamic_depthwise(x, weight.to(x.dtype))


def _check_arguments(dim: int, pdim: int, kernel_size: int, smallest: int) -> None:
    require(dim >= 1, f"dim must be positive, got {dim}")
    require(pdim <= dim, f"pdim must not exceed dim, got pdim {pdim} and dim {dim}")
    require(
        kernel_size % 2 == 1 and kernel_size >= smallest,
        f"kernel_size must be odd and at least {smallest}, got {kernel_size}",
    )


class PartialConvAttn(nn.Module):
    """What both forms of ConvAttn share: some channels are convolved, then all are mixed by a 1x1 convolution.

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
        _check_arguments(dim, pdim, kernel_size, smallest=1)
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


class DecomposedConvAttn(PartialConvAttn):
    """ConvAttn with its large kernel decomposed into a 1x1 and a depthwise convolution, as in ESC-FP.

    Args:
        dim: number of channels C.
        pdim: number of channels P that are convolved, 4 <= P <= C; the others pass through.
        kernel_size: side K of the depthwise kernel, odd, at least 3.
        owns_kernel: keep kernels of its own (`lk_channel`, `lk_spatial`). If not, they are arguments of `forward`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, pdim: int = 16, kernel_size: int = 13, owns_kernel: bool = True) -> None:
        _check_arguments(dim, pdim, kernel_size, smallest=DYNAMIC_SIZE)
        super().__init__(dim, DecomposedLargeKernel(pdim), pdim)
        self.lk_channel: nn.Parameter | None = None
        self.lk_spatial: nn.Parameter | None = None
        if owns_kernel:
            self.lk_channel, self.lk_spatial = new_decomposed_kernel(pdim, kernel_size)

    def forward(self, x: torch.Tensor, kernel: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """Apply the decomposed ConvAttn to `x` (B, C, H, W); the result has the same shape.

        Args:
            x: features.
            kernel: `channel` (P, P, 1, 1) and `spatial` (P, 1, K, K); None takes the module's own.

        Raises:
            ValueError: the channels of `x` do not fit, or no kernel was given to a module without one.
        """
        if kernel is None:
            if self.lk_channel is None or self.lk_spatial is None:
                raise ValueError("kernel is missing: this DecomposedConvAttn was built with owns_kernel=False")
            kernel = self.lk_channel, self.lk_spatial
        return self.mix(x, kernel)


def new_decomposed_kernel(pdim: int, kernel_size: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Create the two shared kernels of the decomposed ConvAttn.

    Args:
        pdim: channels P.
        kernel_size: side K, odd.

    Returns:
        `lk_channel` (P, P, 1, 1), as a plain 1x1 convolution starts, and `lk_spatial` (P, 1, K, K), orthogonal.
    """
    channel = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(pdim, pdim, 1, 1), a=5**0.5))
    spatial = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, 1, kernel_size, kernel_size)))
    return channel, spatial
