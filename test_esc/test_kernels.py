"""Networks use the compiled kernels, and nothing is lost where these cannot be used."""

from __future__ import annotations

import ctypes
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Watch, needs_kernels, randomise, relative_difference
from torch import nn

from esc_arch.archs import ESC, ESCFP
from esc_arch.fast import kernels, speedups, strips
from esc_arch.fast.kernels import loading
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.conv_attn import averaged_kernel


@needs_kernels
@pytest.mark.parametrize("network", [ESC, ESCFP])
@pytest.mark.parametrize("shape", [(1, 3, 50, 70), (2, 3, 33, 20)])
def test_networks(monkeypatch: pytest.MonkeyPatch, network: type[nn.Module], shape: tuple[int, ...]) -> None:
    """With windows of the published size, images that do not fit them, and many strips."""
    monkeypatch.setitem(strips.BUDGET, "cpu", 2**17)
    net, x = randomise(network(n_blocks=2, conv_blocks=2)).eval(), torch.rand(shape)
    with torch.no_grad():
        with speedups.use(Speedups.none()):
            expected = net(x)
        with Watch() as watch:
            actual = net(x)
    names = watch.names
    windows = names.count("esc_arch::attend")
    assert windows > 2
    expected_products = 2 * windows + (0 if network is ESC else 4)  # around the attention, and of the decomposed kernel
    assert names.count("esc_arch::products") == expected_products
    assert names.count("esc_arch::large_kernel" if network is ESC else "esc_arch::depthwise") == 4
    assert names.count("esc_arch::conv_ffn") == 6
    assert relative_difference(actual, expected) <= 1e-5


@needs_kernels
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("origin", ["channels first", "rows of pixels", "a part of rows of pixels"])
def test_however_images_lie_in_memory(batch: int, channels: int, origin: str) -> None:
    """As decoded pictures do, too, whose stride from one image to the next is as it happens to be."""
    if origin == "channels first":
        x = torch.rand(batch, channels, 40, 30)
    else:
        pixels = torch.rand(batch, 40, 90, channels)[:, :, : 30 if origin.startswith("a part") else 90]
        x = torch.stack([*pixels.permute(0, 3, 1, 2)]) if batch > 1 else pixels[0].permute(2, 0, 1)[None]
    net = randomise(ESC(n_blocks=1, conv_blocks=2)).eval()
    net.proj = randomise(nn.Conv2d(channels, 64, 3, padding=1))
    net.channels = channels
    with torch.no_grad(), Watch() as watch:
        features = net.extract(x, averaged_kernel(net.plk_filter))
    with torch.no_grad(), speedups.use(Speedups.none()):
        assert relative_difference(features, net.extract(x, averaged_kernel(net.plk_filter))) <= 1e-5
    assert watch.names.count("esc_arch::conv_ffn") == 3
    assert watch.names.count("esc_arch::large_kernel") == 2


def test_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = randomise(ESC(**TINY)).eval(), torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        expected = net(x)
        monkeypatch.setattr(loading, "library", lambda: None)
        with Watch() as watch:
            assert relative_difference(net(x), expected) <= 1e-5
    assert not any(name.startswith("esc_arch::") for name in watch.names)
    assert kernels.instructions() is None
    qkv = kernels.images(1, 12, 16, 16).zero_()
    with pytest.raises(RuntimeError, match="compile"):
        torch.ops.esc_arch.attend(qkv, torch.zeros(1, 31 * 31), 16, 1, False)


@needs_kernels
def test_the_library_is_found_where_it_was_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a clone, from which the package was installed elsewhere."""
    here = loading.library()
    assert here is not None
    folder = tmp_path / "site" / "esc_arch" / "fast" / "kernels"
    folder.mkdir(parents=True)
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "clone" / "__init__.py"))
    monkeypatch.setattr("sys.path", [str(tmp_path), str(tmp_path / "site")])
    assert loading.library.__wrapped__() is None
    copied = Path(shutil.copy(here._name, folder))
    found = loading.library.__wrapped__()
    assert found is not None
    assert found._name == str(copied)


@pytest.mark.parametrize("fault", ["another version", "no library", "a library of something else"])
def test_libraries_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str) -> None:
    def library(path: str) -> Any:
        return type("Library", (), {"esc_interface": lambda: -1} if fault == "another version" else {})

    if fault != "no library":
        monkeypatch.setattr(ctypes, "CDLL", library)
    path = tmp_path / ("_kernels" + sysconfig.get_config_var("EXT_SUFFIX"))
    path.write_text("nothing to run")
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr("sys.path", [])
    assert loading.library.__wrapped__() is None
