"""Files that are whole or not there: temporary names, full disks, places that take nothing, remains of killed runs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import DiskError, cannot_write, replacing, sweep, temporary_name, try_folder
from esc_arch.weights import write_weights


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(
    "name", ["a.png", "x" * 251 + ".png", " - b\n.c", "\U0001f426.png", os.fsdecode(b"\xff\xfe.png")]
)
def test_any_name_of_the_file_system(tmp_path: Path, name: str) -> None:
    for content in (b"first", b"second"):
        with replacing(os.path.join(tmp_path, name)) as stream:
            stream.write(content)
            assert name not in names(tmp_path) or content == b"second"
        assert (tmp_path / name).read_bytes() == content
    with temporary_name(os.path.join(tmp_path, name)) as partial:
        Path(partial).write_bytes(b"third")
        assert os.path.splitext(partial)[1] == os.path.splitext(name)[1]
    assert (tmp_path / name).read_bytes() == b"third"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("x"), OSError(errno.EIO, "broken")])
def test_failure_leaves_what_was_there(tmp_path: Path, failure: BaseException) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"old")
    for writer in (replacing, temporary_name):
        with pytest.raises(UserError if isinstance(failure, OSError) else type(failure)), writer(file):
            raise failure
    assert names(tmp_path) == ["a"]
    assert file.read_bytes() == b"old"


def test_links_are_replaced_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    os.symlink("a", tmp_path / "link")
    os.link(tmp_path / "a", tmp_path / "hard")
    for name in ("link", "hard"):
        with replacing(tmp_path / name) as stream:
            stream.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert not (tmp_path / "link").is_symlink()


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with replacing(tmp_path / "a"):
        pass
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_full_disk_is_told_by_every_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def full(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if not flags & os.O_CREAT:
            return really(path, flags, *rest, **more)
        os.close(really(path, flags, *rest, **more))
        return really("/dev/full", os.O_RDWR)

    monkeypatch.setattr(os, "open", full)
    monkeypatch.setattr("esc_arch.common.whole_files._lock", lambda descriptor: True)
    image = Image.fromarray(np.zeros((64, 64, 3), np.uint8))

    def write(kind: str, file: str) -> None:
        if kind in (".pth", ".safetensors"):
            return write_weights(file, {"a": torch.zeros(99)})
        with replacing(file) as stream:
            image.save(stream, kind)

    for kind in (".pth", ".safetensors", "PNG", "JPEG", "TIFF", "WEBP", "BMP"):
        with pytest.raises(DiskError, match=r"the disk at /.* is full"):
            write(kind, str(tmp_path / f"a{kind}"))
    with pytest.raises(DiskError):
        try_folder(str(tmp_path / "new" / "er"))
    assert names(tmp_path) == []


def test_whatever_is_wrong_with_a_disk_is_told() -> None:
    for number, words in ((errno.ENOSPC, "is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "can only be read")):
        error = cannot_write("/a/b.png", OSError(number, os.strerror(number)))
        assert isinstance(error, DiskError)
        assert words in str(error)
        assert "/a/b.png" in str(error)
    assert not isinstance(cannot_write("a", OSError(errno.EFBIG, "File too large")), DiskError)


def test_a_part_that_a_disk_takes_is_no_success(tmp_path: Path) -> None:
    """A write that is cut short, as on a disk that is nearly full, is no whole file: here by a limit of the process."""
    code = f"""
import resource, numpy as np
from PIL import Image
from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import replacing
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
    with replacing({str(tmp_path)!r} + "/whole." + kind) as stream:
        image.save(stream, kind)
        size = stream.tell()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        with replacing({str(tmp_path)!r} + "/half." + kind) as stream:
            image.save(stream, kind)
    except UserError as error:
        print(kind, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.count("File too large") == 5, done.stdout + done.stderr
    assert names(tmp_path) == ["whole.BMP", "whole.JPEG", "whole.PNG", "whole.TIFF", "whole.WEBP"]


def test_places_are_tried(tmp_path: Path) -> None:
    try_folder(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    assert names(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    for place in ("file", "file/sub", "c/" + "x" * 300):
        with pytest.raises(UserError, match="cannot be written"):
            try_folder(str(tmp_path / place))
    assert names(tmp_path) == ["a", "file"]


def test_remains_of_a_killed_run_are_swept_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    code = "import os, signal\nfrom esc_arch.common.whole_files import replacing\n"
    code += f"with replacing({str(tmp_path / 'a')!r}) as stream:\n    stream.write(b'x')\n    os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    (remains,) = names(tmp_path)
    with replacing(tmp_path / "b") as stream:
        stream.write(b"x")
        assert len(names(tmp_path)) == 2
        sweep(tmp_path)
        assert len(names(tmp_path)) == 1
        assert remains not in names(tmp_path)
    assert names(tmp_path) == ["b"]
    sweep(tmp_path / "nowhere")
