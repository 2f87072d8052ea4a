"""Convolutions that are trained as branches, merged for evaluation."""

from __future__ import annotations

import torch
from torch import nn

SLOPE = 0.05  # of SPAN's leaky ReLUs


def merge_branches(network: nn.Module) -> nn.Module:
    """Put one convolution where a network trains several branches that amount to one.

    SPAN (Wan et al., CVPR Workshops 2024, Sec. 3.3) is trained with a branch of three convolutions beside a skip, and
    deployed with the 3 x 3 convolution that they make together. spandrel's class holds both, and computes the kernel
    anew in every pass of evaluation. Here it is computed once, of the weights that the network has now, and the
    branches are dropped, so that parameters and times are those of the network that is deployed.

    Args:
        network: changed in place, and no longer for training; one without branches stays as it is.

    Returns:
        the network, which computes what it did in evaluation.
    """
    for module in network.modules():
        for name, child in module.named_children():
            if _is_branched(child):
                setattr(module, name, _merged(child))
    return network


def _is_branched(module: nn.Module) -> bool:
    return isinstance(getattr(module, "eval_conv", None), nn.Conv2d) and callable(
        getattr(module, "update_params", None)
    )


def _merged(branched: nn.Module) -> nn.Module:
    with torch.no_grad():
        branched.update_params()  # type: ignore[operator]
    convolution = branched.eval_conv
    assert isinstance(convolution, nn.Conv2d)
    convolution.requires_grad_(False)
    has_relu = bool(getattr(branched, "has_relu", False))
    merged = nn.Sequential(convolution, nn.LeakyReLU(SLOPE)) if has_relu else convolution
    return merged.train(branched.training)
