"""ESC+LTE: super-resolution at any scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.conv_attn import ConvAttn, averaged_kernel, new_large_kernel
from esc_arch.layers.lte import LocalTextureEstimator, pixel_centres, sample_bilinear
from esc_arch.layers.trunk import ESCTrunk

LARGEST_TRAINED_SCALE = 4
QUERIES_AT_ONCE = 2**15  # of all images of a batch; about 0.3 GiB at the default sizes


class ESCEncoder(ESCTrunk):
    """ESC without its upsampler: (B, 3, H, W) -> (B, C, H, W), the long skip included.

    Args:
        dim: this and all that is not listed as in `esc_arch.layers.trunk.ESCTrunk`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int,
        pdim: int,
        kernel_size: int,
        n_blocks: int,
        conv_blocks: int,
        window_size: int,
        num_heads: int,
        exp_ratio: float,
        attn_type: str,
        use_ln: bool,
    ) -> None:
        super().__init__(
            dim,
            lambda: ConvAttn(dim, pdim, kernel_size, owns_kernel=False),
            n_blocks=n_blocks,
            conv_blocks=conv_blocks,
            window_size=window_size,
            num_heads=num_heads,
            proj_ratio=2,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
            use_ln=use_ln,
        )
        self.plk_filter = new_large_kernel(pdim, kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the features of `x` (B, 3, H, W)."""
        return self.extract(x, averaged_kernel(self.plk_filter))


class ESCLTE(LocalTextureEstimator, OnHub):
    """Super-resolution at any scale: ESC as the encoder of the Local Texture Estimator (ESC, Sec. 4.2).

    Parameter names and shapes are those of the published checkpoints. Scales are numbers of at least 1, whole or not,
    and may differ between the axes. Training ends at scale 4: beyond, an output pixel is told to be as large as at
    scale 4, as in the authors' test, so that the network need not extrapolate; `query` takes what it is given.
    Colours are computed for a bounded number of output pixels at a time.

    Args:
        dim: this and all that is not listed as in `esc_arch.layers.trunk.ESCTrunk`.
        hidden_dim: coefficients D of the waves, even.
        hidden_list: features of the hidden layers that turn waves into a colour.
        upscaling_factor: scale of `forward` where no size is given, at least 1.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int = 64,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 5,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 4,
        exp_ratio: float = 1.25,
        attn_type: str = "auto",
        use_ln: bool = False,
        hidden_dim: int = 256,
        hidden_list: Sequence[int] = (256, 256, 256),
        upscaling_factor: float = 4,
    ) -> None:
        require(upscaling_factor >= 1, f"upscaling_factor must be at least 1, got {upscaling_factor}")
        super().__init__(dim, hidden_dim, hidden_list)
        self.encoder = ESCEncoder(
            dim,
            pdim,
            kernel_size,
            n_blocks,
            conv_blocks,
            window_size,
            num_heads,
            exp_ratio,
            attn_type,
            use_ln,
        )
        # a whole number keeps sizes whole numbers in a traced graph too
        self.upscaling_factor = int(upscaling_factor) if upscaling_factor == int(upscaling_factor) else upscaling_factor

    def query(self, x: torch.Tensor, coord: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        """Predict colours at given places; the function of the published network.

        Args:
            x: LQ images (B, 3, H, W), RGB in [-1, 1]; any H, W >= 1.
            coord: (B, Q, 2), rows and columns in [-1, 1]: pixel i of n has its centre at -1 + (2i + 1) / n.
            cell: (B, Q, 2), height and width of the output pixels in these units: 2 / n.

        Returns:
            (B, Q, 3), about in [-1, 1], not clamped.

        Raises:
            ValueError: an argument has another shape.
        """
        require_image(x, 3)
        for name, places in (("coord", coord), ("cell", cell)):
            fits = places.dim() == 3 and places.shape[0] == x.shape[0] and places.shape[2] == 2
            require(fits, f"{name} must have shape (B, Q, 2) with B = {x.shape[0]}, got {tuple(places.shape)}")
        require(coord.shape == cell.shape, f"cell must have the shape of coord, got {tuple(cell.shape)}")
        exact = torch.promote_types(x.dtype, torch.float32)  # half a coordinate's digits miss whole pixels
        coord, cell = coord.to(exact), cell.to(exact)
        waves, size, image = self.waves(self.encoder(x)), (x.shape[2], x.shape[3]), x.to(exact)

        def decode(coord: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
            return self.decode(waves, size, coord, cell) + sample_bilinear(image, coord)

        if torch.compiler.is_compiling():  # the number of parts would be fixed in the graph
            return decode(coord, cell).to(x.dtype)
        most = max(QUERIES_AT_ONCE // max(x.shape[0], 1), 1)
        parts = [decode(*part) for part in zip(coord.split(most, dim=1), cell.split(most, dim=1), strict=True)]
        return torch.cat(parts, dim=1).to(x.dtype)

    def forward(
        self,
        x: torch.Tensor,
        size: tuple[int, int] | None = None,
        coord: torch.Tensor | None = None,
        cell: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Enlarge images, or predict the colours that a training step needs.

        Args:
            x: LQ images (B, 3, H, W), RGB in [0, 1]; any H, W >= 1.
            size: height H' >= H and width W' >= W of the result; None for `upscaling_factor` times the input. Each axis
                has its own scale then, H' / H and W' / W, also for what happens beyond scale 4.
            coord: instead of a size, the places of `query`; needs `cell`.
            cell: the sizes of output pixels of `query`.

        Returns:
            (B, 3, H', W'), or (B, Q, 3) for `coord`; not clamped, in the range of `x`.

        Raises:
            ValueError: an argument has another shape, or the size is smaller than the image.
        """
        require_image(x, 3)
        require((coord is None) == (cell is None), "coord and cell must be given together")
        if coord is not None and cell is not None:
            require(size is None, "size cannot be given together with coord")
            return (self.query(2 * x - 1, coord, cell) + 1) / 2
        if size is None:
            size = self._scaled(x.shape[2]), self._scaled(x.shape[3])
        height, width = size
        require(
            height >= x.shape[2] and width >= x.shape[3],
            f"size must not be smaller than the image, got {height} x {width} for {x.shape[2]} x {x.shape[3]}",
        )
        like = x.new_empty(0, dtype=torch.promote_types(x.dtype, torch.float32))
        rows = pixel_centres(height, like).unsqueeze(1).expand(height, width)
        columns = pixel_centres(width, like).unsqueeze(0).expand(height, width)
        coord = torch.stack([rows, columns], dim=-1).reshape(1, height * width, 2).expand(x.shape[0], -1, -1)
        sizes = [
            torch.full_like(rows, 2 / larger).maximum(torch.full_like(rows, 2 / (LARGEST_TRAINED_SCALE * side)))
            for larger, side in ((height, x.shape[2]), (width, x.shape[3]))
        ]
        steps = torch.stack(sizes, dim=-1)
        cell = steps.reshape(1, height * width, 2).expand(x.shape[0], -1, -1)
        colours = (self.query(2 * x - 1, coord, cell) + 1) / 2  # (B, H' * W', 3)
        return colours.transpose(1, 2).reshape(x.shape[0], 3, height, width)

    def _scaled(self, side: int) -> int:
        factor = self.upscaling_factor
        return side * factor if isinstance(factor, int) else round(side * factor)
