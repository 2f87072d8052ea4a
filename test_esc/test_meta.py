"""Networks on the device `meta`, which holds no numbers: every tensor is made where the network is."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from conftest import TINY, randomise
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from esc_arch.archs import ESC, ESCLTE, NETWORKS, CATANet, ESCReal, ESCRealM
from esc_arch.layers import ConvAttn, DecomposedConvAttn
from esc_arch.layers.backend import ATTN_TYPES

FAMILY: dict[str, Any] = TINY | {"hidden_dim": 16, "hidden_list": [16]}
OTHERS: dict[str, Any] = {"dim": 16, "m_elan": 2, "c_elan": 12, "num_feat": 16, "d_state": 2}
OTHERS |= {"embed_dim": 32, "depths": [2], "num_heads": [2]}
CATANET: dict[str, Any] = {"block_num": 1, "n_iters": [2], "num_tokens": [4], "group_size": [16], "patch_size": [8]}
FURTHER: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (ESC, TINY | {"use_ln": True, "upscaling_factor": 3, "pdim": 16}),
    (ESC, TINY | {"window_size": 16}),  # for which there is a compiled kernel
    (ESCReal, TINY | {"use_dysample": True}),
    (ESCRealM, TINY | {"upscaling_factor": 2, "upsampler": "pixelshuffledirect"}),
    (ESCRealM, TINY | {"upscaling_factor": 1, "upsampler": "conv", "unshuffle_mod": False}),
    (ESCRealM, TINY | {"upscaling_factor": 3, "upsampler": "pixelshuffle"}),
    (ESCRealM, TINY | {"upscaling_factor": 4, "upsampler": "dysample"}),
    (ESCRealM, TINY | {"upscaling_factor": 3, "upsampler": "lda"}),
    (ESC, TINY | {"attn_type": "FlashBias", "flashbias_rank": 5}),
    (ESCLTE, FAMILY | {"upscaling_factor": 2.5}),
]


def cases() -> list[Any]:
    """Every network that is registered, small, and ESC with every way of attention."""
    found: list[tuple[type[nn.Module], dict[str, Any]]] = [(ESC, TINY | {"attn_type": kind}) for kind in ATTN_TYPES]
    for network in NETWORKS:
        known = inspect.signature(network).parameters
        few = FAMILY if "attn_type" in known else CATANET if network is CATANet else OTHERS
        found.append((network, {name: value for name, value in few.items() if name in known}))
    return [
        pytest.param(network, arguments, id="-".join([network.__name__, *map(str, arguments.values())]))
        for network, arguments in found + FURTHER
    ]


class OnMeta(TorchDispatchMode):
    """Refuses tensors that are made elsewhere."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            assert not isinstance(tensor, torch.Tensor) or tensor.is_meta, f"{func} gives {tensor.device}"
        return result


def on_meta(network: type[nn.Module], arguments: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        net = network(**arguments)
    assert all(tensor.is_meta for tensor in [*net.parameters(), *net.buffers()])
    return net


def images(network: type[nn.Module], **options: Any) -> torch.Tensor:
    """Images whose sides fit no window, or features for the layers among the networks."""
    channels = OTHERS["dim"] if network in (ConvAttn, DecomposedConvAttn) else 3
    return torch.rand(2, channels, 9, 13, **options)


@pytest.mark.parametrize(("network", "arguments"), cases())
def test_forward_and_backward(network: type[nn.Module], arguments: dict[str, Any]) -> None:
    expected = network(**arguments).eval()(images(network)).shape
    net = on_meta(network, arguments)
    for training in (False, True):
        net.train(training)
        x = images(network, device="meta", requires_grad=True)
        with OnMeta():
            with torch.no_grad():
                assert net(x).shape == expected
            net(x).sum().backward()
        assert x.grad is not None
        assert any(parameter.grad is not None for parameter in net.parameters()) == any(True for _ in net.parameters())
        net.zero_grad()


@pytest.mark.parametrize(("network", "arguments"), cases())
def test_weights_are_assigned(network: type[nn.Module], arguments: dict[str, Any]) -> None:
    """To a network that was built without memory; what no checkpoint holds is there, too."""
    source = randomise(network(**arguments)).eval()
    net = on_meta(network, arguments).eval()
    net.load_state_dict(source.state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in [*net.parameters(), *net.buffers()])
    x = images(network)
    with torch.no_grad():
        torch.testing.assert_close(net(x), source(x))
