"""Build script: what depends on the machine, the torchvision requirement and the kernels; all else: pyproject.toml."""

from glob import glob
from importlib.metadata import distributions
from sysconfig import get_path

from setuptools import Extension, setup


def torchvision_requirement() -> str:
    """Return the torchvision requirement that leaves an installed torch alone.

    Until torch 2.13 every torchvision was built for exactly one torch (0.N+15.P for 2.N.P). Left to itself, pip picks
    the newest torchvision and replaces the torch that is there, a CPU build too, by the newest one. pip hides the
    installed packages from a build, so they are looked up by path.
    """
    paths = sorted({get_path("purelib"), get_path("platlib")})
    installed = {dist.metadata["Name"]: dist.version for dist in distributions(path=paths)}
    if "torch" not in installed or "torchvision" in installed:
        return "torchvision"
    major, minor, patch = installed["torch"].split("+")[0].split(".")[:3]
    if not (major == "2" and minor.isdigit() and patch.isdigit()):  # a nightly or vendor build: no rule holds
        return "torchvision"
    paired = int(minor) + 15
    return f"torchvision==0.{paired}.{patch}" if int(minor) <= 13 else f"torchvision<0.{paired + 1}"


KERNELS = Extension(
    "esc_arch.fast.kernels._kernels",
    sources=["esc_arch/fast/kernels/kernels.cpp"],
    depends=glob("esc_arch/fast/kernels/*.h"),
    # OpenMP for the compiler only: the library takes the threads of the torch that is loaded
    extra_compile_args=["-std=c++17", "-O3", "-g0", "-fopenmp", "-fno-exceptions", "-fno-rtti"],
    language="c++",
    optional=True,  # without a compiler PyTorch's operators do the same, slower
)

setup(
    ext_modules=[KERNELS],
    install_requires=[
        "basicsr==1.4.2",
        "lmdb",
        "numpy",
        "opencv-python",
        "pillow",
        "pyyaml",
        "safetensors",
        "scikit-image",
        "setuptools; python_version >= '3.12'",  # basicsr imports distutils, which Python 3.12 removed
        "tifffile",
        "torch>=2.6",
        "tqdm",
        torchvision_requirement(),
    ],
)
