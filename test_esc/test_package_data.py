"""Files that are no modules go along where the package is installed."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OWN = {".py", ".pyc", ".so", ".pyd"}  # what Python's own tools install


def test_every_file_is_package_data() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["esc_arch"]
    package = ROOT / "esc_arch"
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix not in OWN]
    left = [path for path in files if not any(fnmatch(str(path.relative_to(package)), pattern) for pattern in patterns)]
    assert not left, "name them in pyproject.toml: tool.setuptools.package-data"
    assert package / "compare" / "template" / "page.js" in files
