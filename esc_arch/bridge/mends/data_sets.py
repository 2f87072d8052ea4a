"""Lists of images that BasicSR's data sets ignore, and folders without one."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from esc_arch.common.image_lists import lines_of, listed_keys

Options = dict[str, Any]


def honour_lists_of_images() -> None:
    """Let every data set of images read the list that its section names, and no other image.

    `meta_info_file` (or `meta_info`, as the Real-ESRGAN sets call it) names a text file, the first word of whose lines
    is an image. With an LMDB, BasicSR's data sets ignore it, `RealESRGANDataset` reads `meta_info` only, and an empty
    value stops `SingleImageDataset`; on the disk, an empty line is the folder itself to it, the mark that Windows
    begins a text with is part of a name, and a clip without further columns has a line break in its name. Without a
    list, `RealESRGANDataset` takes all images of the folder, as it does in the repositories of HAT and ESC.
    """
    from basicsr.data import (
        paired_image_dataset,
        realesrgan_dataset,
        realesrgan_paired_dataset,
        reds_dataset,
        single_image_dataset,
        video_test_dataset,
        vimeo90k_dataset,
    )

    for data_set, *keys in (
        (paired_image_dataset.PairedImageDataset, "meta_info_file"),
        (single_image_dataset.SingleImageDataset, "meta_info_file"),
        (realesrgan_paired_dataset.RealESRGANPairedDataset, "meta_info"),  # a list of pairs
        (realesrgan_dataset.RealESRGANDataset, "meta_info", "meta_info_file"),
    ):
        is_of_pairs = data_set is realesrgan_paired_dataset.RealESRGANPairedDataset
        data_set.__init__ = _with_list(data_set.__init__, keys, _pair if is_of_pairs else str)
    realesrgan_dataset.RealESRGANDataset.__init__ = _with_folder(realesrgan_dataset.RealESRGANDataset.__init__)
    for data_set in (
        reds_dataset.REDSDataset,
        reds_dataset.REDSRecurrentDataset,
        vimeo90k_dataset.Vimeo90KDataset,
        video_test_dataset.VideoTestDataset,
        video_test_dataset.VideoTestVimeo90KDataset,
    ):
        data_set.__init__ = _with_plain_list(data_set.__init__)


def _with_list(
    initialise: Callable[[Any, Options], None], keys: list[str], write: Callable[[str], str]
) -> Callable[[Any, Options], None]:
    """Give the list to a data set under the first of its names, and apply it where the data set would not."""

    @functools.wraps(initialise)
    def wrapper(self: Any, opt: Options) -> None:
        listed = next((opt[key] for key in keys if opt.get(key)), None)
        others = {name: value for name, value in opt.items() if name not in keys}
        if not listed:
            initialise(self, others)
            return
        with _as_meant(listed, write) as file:
            initialise(self, {**others, keys[0]: file})
        self.opt[keys[0]] = listed
        if opt["io_backend"]["type"] == "lmdb":
            self.paths = _chosen(self.paths, listed)

    return wrapper


@contextlib.contextmanager
def _as_meant(file: str, write: Callable[[str], str]) -> Iterator[str]:
    """Yield the list, or a temporary copy that BasicSR reads as it is meant.

    Args:
        file: the list.
        write: makes a line that BasicSR reads of one that is stripped and not empty.
    """
    kept = "".join(f"{write(line)}\n" for line in lines_of(file)).encode()
    with open(file, "rb") as stream:
        content = stream.read()
    if content in (kept, kept.removesuffix(b"\n")):
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(file))
        with open(copy, "wb") as stream:
            stream.write(kept)
        yield copy


def _pair(line: str) -> str:
    """Write a line as `RealESRGANPairedDataset` takes it apart."""
    names = [name.strip() for name in line.split(",")]
    if len(names) != 2 or not all(names):
        raise ValueError(f"meta_info: {line!r} is no pair; write GT and LQ in each line, as in 'a.png, b.png'")
    return ", ".join(names)


def _columns(line: str) -> str:
    """Write a line as the data sets of clips take it apart, whose first column would end in a line break."""
    return line if line.count(" ") > 1 else f"{line} "


def _with_plain_list(initialise: Callable[[Any, Options], None]) -> Callable[[Any, Options], None]:
    @functools.wraps(initialise)
    def wrapper(self: Any, opt: Options) -> None:
        if not opt.get("meta_info_file"):
            initialise(self, {name: value for name, value in opt.items() if name != "meta_info_file"})
            return
        with _as_meant(opt["meta_info_file"], _columns) as file:
            initialise(self, {**opt, "meta_info_file": file})
        self.opt["meta_info_file"] = opt["meta_info_file"]

    return wrapper


def _with_folder(initialise: Callable[[Any, Options], None]) -> Callable[[Any, Options], None]:
    """Give a data set that asks for a list the images of its folder instead."""

    @functools.wraps(initialise)
    def wrapper(self: Any, opt: Options) -> None:
        if opt["io_backend"]["type"] == "lmdb" or opt.get("meta_info_file") or opt.get("meta_info"):
            initialise(self, opt)
            return
        from basicsr.utils import scandir

        initialise(self, {**opt, "meta_info": os.devnull})
        self.opt = opt
        self.paths = sorted(scandir(opt["dataroot_gt"], full_path=True))

    return wrapper


def _chosen(paths: list[Any], listed: str) -> list[Any]:
    """Keep the keys of an LMDB, or the pairs of them, that a list names."""
    by_key = {path if isinstance(path, str) else next(iter(path.values())): path for path in paths}
    return [by_key[key] for key in listed_keys(listed, by_key)]
