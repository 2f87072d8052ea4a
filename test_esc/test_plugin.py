"""What `import esc_arch` does and does not do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from esc_arch.bridge.mends import imports as imported_by_basicsr
from esc_arch.common import torchvision_operators

# BasicSR imported before this package, by somebody who mended it on their own
MENDED_BY_HAND = (
    "import runpy; "
    f"runpy.run_path({torchvision_operators.__file__!r})['define_torchvision_operators'](); "
    f"runpy.run_path({imported_by_basicsr.__file__!r})['restore_functional_tensor']()"
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_import_is_quick_and_imports_no_basicsr() -> None:
    done = run(
        "import sys, esc_arch\n"
        "heavy = ['basicsr', 'torchvision', 'cv2', 'scipy', 'skimage', 'tensorboard', 'triton', 'torch._inductor']\n"
        "heavy += ['safetensors', 'spandrel', 'PIL', 'onnx']\n"
        "assert not [name for name in heavy if name in sys.modules]\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


@pytest.mark.parametrize(
    "imports",
    [
        "import esc_arch, basicsr",
        "import esc_arch, importlib.util; assert importlib.util.find_spec('basicsr'); import basicsr",
        "import esc_arch; from basicsr.archs import build_network",
        "import esc_arch; import basicsr.train",
        f"{MENDED_BY_HAND}; import basicsr; import esc_arch",
    ],
)
def test_a_users_script_finds_the_networks(imports: str) -> None:
    done = run(
        f"{imports}\n"
        "from basicsr.archs import build_network\n"
        "from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY\n"
        "net = build_network(dict(type='ESC', n_blocks=1, upscaling_factor=3))\n"
        "assert type(net).__module__ == 'esc_arch.archs.esc_arch'\n"
        "for name in ('ConvAttn', 'DecomposedConvAttn', 'ESC', 'ESCFP', 'HiT_SRF', 'ELAN', 'HAT', 'Bicubic'):\n"
        "    assert name in ARCH_REGISTRY\n"
        "assert 'ESCModel' in MODEL_REGISTRY\n"
        "assert 'SwinIR' in ARCH_REGISTRY\n"
        "assert build_network(dict(type='ConvAttn', dim=32)).pdim == 16\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_exception_to_catch_is_at_hand() -> None:
    done = run(
        "import esc_arch\n"
        "try:\n"
        "    esc_arch.load('nowhere.pth')\n"
        "except esc_arch.errors.UserError as error:\n"
        "    assert 'nowhere.pth' in str(error)\n"
        "from esc_arch.errors import one_sentence\n"
    )
    assert done.returncode == 0, done.stderr


def test_a_module_that_imports_basicsr_may_be_the_first() -> None:
    """BasicSR imports it in turn."""
    code = (
        "import esc_arch.archs.deep_discriminator_arch; from basicsr.utils.registry import ARCH_REGISTRY as registry; "
    )
    code += "assert 'DeepUNetDiscriminatorSN' in registry and 'ESC' in registry"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
