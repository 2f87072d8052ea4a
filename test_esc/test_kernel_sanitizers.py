"""The compiled kernels keep to their memory and to what C++ defines, for all shapes that the other tests have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import needs_kernels

from esc_arch.fast import kernels

COMPILER = shutil.which("g++")
FLAGS = ["-std=c++17", "-O1", "-g", "-fopenmp", "-fno-exceptions", "-fno-rtti", "-fno-omit-frame-pointer", "-shared"]
SANITIZERS = ["-fPIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
PLUGIN = """
import functools
from pathlib import Path
from esc_arch.fast.kernels import loading
library = loading._load(Path({path!r}))
assert library is not None, "the sanitized kernels cannot be loaded"
loading.library = lambda: library
"""


def runtime(name: str) -> str:
    """Path of a library of the compiler, which comes before everything else in a process."""
    assert COMPILER
    found = subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which pytest's plugin `sanitized` puts kernels with sanitizers in the place of the others."""
    if not COMPILER or not os.path.isabs(runtime("libasan.so")):
        pytest.skip("needs g++ with its sanitizers")
    folder = tmp_path_factory.mktemp("sanitized")
    library = folder / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = Path(kernels.__file__).parent / "kernels.cpp"
    subprocess.run([COMPILER, *FLAGS, *SANITIZERS, str(source), "-o", str(library)], check=True)
    (folder / "sanitized.py").write_text(PLUGIN.format(path=str(library)))
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:abort_on_error=1",  # Python itself never frees everything
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def python(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize(
    "test",
    [
        "test_kernel_attention.py",
        "test_kernel_conv_ffn.py",
        "test_kernel_depthwise.py",
        "test_kernel_gelu.py",
        "test_kernel_large.py",
        "test_kernel_products.py",
        "test_reduced.py",
        "test_kernels.py::test_networks",
        "test_speedups.py::test_outputs",  # shapes at random
    ],
)
def test_sanitized_kernels(environment: dict[str, str], test: str) -> None:
    tests = str(Path(__file__).with_name(test))
    done = python(environment, "-m", "pytest", "-q", "-x", "-p", "sanitized", "-p", "no:cacheprovider", "-s", tests)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " passed" in done.stdout


@pytest.mark.slow
@needs_kernels
def test_sanitizers_see_what_is_wrong(environment: dict[str, str]) -> None:
    """One pixel more than there are is found."""
    code = """
import sanitized, torch
from esc_arch.fast.kernels import loading, images
library = loading.required()
x, weight, out = images(1, 4, 9, 9).zero_(), torch.zeros(8, 4), images(1, 8, 9, 9).zero_()
memory = torch.empty(library.esc_products_workspace(4, 8, 1))
pointers = (None, None, weight.data_ptr(), None, x.data_ptr(), memory.data_ptr(), out.data_ptr())
library.esc_products(82, 4, 8, 1, 0.0, *pointers, 0, 0, 1, 0)
"""
    done = python(environment, "-c", code)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
