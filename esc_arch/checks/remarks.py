"""What is odd about the images of a data set, but no mistake for certain."""

from __future__ import annotations

import os
from typing import Any

from esc_arch.checks.decoding import one_thread
from esc_arch.checks.meanings import bits_used
from esc_arch.checks.partners import ROOTS
from esc_arch.common.errors import some
from esc_arch.pictures.formats import format_of

Options = dict[str, Any]
Image = tuple[tuple[Any, ...], str]  # what is equal where all files are the same, of a pair or one, and a name
SAMPLE = 4  # images of a data set that are looked at for bits that are not used


def left_below(dataset: Options, paths: list[Any], where: str) -> list[str]:
    """Name folders below a root whose images are not taken, as most data sets look into the root alone."""
    if listed_by(dataset):
        return []
    taken = {os.path.dirname(file) for path in paths for file in files_of(path)}
    notes = []
    for root in ROOTS:
        folder = dataset.get(root)
        if folder is None:
            continue
        left = [path for path in folders_in(folder) if holds_images(path) and not _is_above(path, taken)]
        if left:
            notes.append(
                f"{where}:{root}: the images in {some(left, 3)} are not taken, as {dataset['type']} reads those of "
                f"{folder} alone; give {root} a list of folders if they are meant."
            )
    return notes


def listed_twice(dataset: Options, paths: list[Any], where: str) -> list[str]:
    """Tell that a list names images more than once."""
    names = {files_of(path) for path in paths}
    if len(names) == len(paths):
        return []
    count = f"{len(paths)} lines name {len(names)} images"
    return [f"{where}: {listed_by(dataset)} lists images more than once: {count}."]


def given_twice(images: list[Image], where: str) -> list[str]:
    """Tell that images are given more than once, by roots or links that lead to the same files."""
    seen, again = set[Any](), list[str]()
    for identity, name in images:
        if identity in seen:
            again.append(name)
        seen.add(identity)
    if not again:
        return []
    are = "an image is" if len(again) == 1 else f"{len(again)} images are"
    return [f"{where}: {are} given more than once, and so seen more often than others: {some(again, 3)}."]


def images_of(dataset: Options, paths: list[Any] | None) -> list[Image]:
    """Tell images of one root apart by their files, to which several names may lead.

    Args:
        dataset: the section of one root.
        paths: of the images, or keys of an LMDB, as the data set has them; None where it has none.
    """
    roots = tuple(os.path.realpath(dataset[root]) for root in ROOTS if dataset.get(root) is not None)
    if paths is None:
        return [((*roots, listed_by(dataset)), ", ".join(roots))] if roots else []
    names = dict.fromkeys(files_of(path) for path in paths)
    if (dataset.get("io_backend") or {}).get("type") == "lmdb":
        return [((*roots, *keys), f"{keys[0]} in {roots[0]}") for keys in names]
    return [(tuple(map(_file, files)), files[0]) for files in names]


def dark(paths: list[Any], where: str) -> list[str]:
    """Tell that 16 bits hold values of fewer, as of a camera, which are all near black then; a sample is read."""
    files = sorted({file for path in paths for file in files_of(path)})
    sample = files[:: -(-len(files) // SAMPLE)]
    with one_thread():
        bits = [bits_used(file) for file in sample]
    used = max((count for count in bits if count is not None), default=16)
    if None in bits or used > 14:
        return []
    return [
        f"{where}: images hold 16 bits of which they use {used}, such as {sample[0]}, so that all are nearly black; "
        f"multiply their values by {2 ** (16 - used)} if they are of {used} bits."
    ]


def listed_by(dataset: Options) -> Any:
    """Return the list of images of a section, or nothing."""
    return dataset.get("meta_info_file") or dataset.get("meta_info")


def files_of(path: Any) -> tuple[str, ...]:
    """Return the files or keys of an entry of a data set's `paths`: of an image, or of a pair."""
    return tuple(path.values()) if isinstance(path, dict) else (path,)


def folders_in(folder: str) -> list[str]:
    """Return the folders in a folder, but for hidden ones."""
    return sorted(entry.path for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def holds_images(folder: str) -> bool:
    """Tell whether there is an image in a folder or below it."""
    return any(format_of(name) is not None for _, _, names in os.walk(folder) for name in names)


def _file(path: str) -> Any:
    try:
        state = os.stat(path)
    except OSError:  # nobody has looked whether it is there
        return path
    return state.st_dev, state.st_ino


def _is_above(folder: str, others: set[str]) -> bool:
    inside = os.path.join(os.path.abspath(folder), "")
    return any(os.path.join(os.path.abspath(other), "").startswith(inside) for other in others)
