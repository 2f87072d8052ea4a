"""Keeps the first result pictures of a data set beside the scores, for the page.

BasicSR's validation asks the model for its pictures once per image (`get_current_visuals`) and turns them into the
8 bits that it scores. They are kept as PNG files named by their content, so that LQ and GT are there once, however many
networks there are; a list per network and data set names them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import replacing

FOLDER = "pictures"
KINDS = ("lq", "gt", "result")
LIST, PICTURE = (re.compile(rf"[0-9a-f]{{20}}\.{suffix}") for suffix in ("json", "png"))  # names, of digests
YOUNG = 24 * 3600  # seconds; another comparison in the folder may yet name a picture that it has just written
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Entry = dict[str, str]  # name of the image, and the files of lq, gt (where there is one) and result


@dataclass(frozen=True)
class Album:
    """The first pictures of a data set, as one network enlarged them.

    Attributes:
        file: the list of the pictures, in the folder that they are in.
        most: how many are wanted.
    """

    file: str
    most: int

    def is_there(self) -> bool:
        """Whether as many were kept as are wanted, or all that the data set has."""
        content = self._content()
        kept = len(content["pictures"])
        enough = kept >= self.most or kept < content["most"]
        return enough and all(os.path.isfile(self.path(file)) for file in self.files())

    def files(self) -> list[str]:
        """Return the names of all files that the list names, wanted or not."""
        return [entry[kind] for entry in self._content()["pictures"] for kind in KINDS if kind in entry]

    def entries(self) -> list[Entry]:
        """Return the pictures that were kept, in the order of the data set."""
        return self._content()["pictures"][: self.most]

    def path(self, name: str) -> str:
        """Return the path of a file of an entry."""
        return os.path.join(os.path.dirname(self.file), name)

    def pixels(self, name: str) -> Pixels:
        """Read a file of an entry: (H, W, 3) in BGR, or (H, W).

        Raises:
            UserError: it is no picture any more.
        """
        import cv2

        pixels = cv2.imread(self.path(name), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise UserError(
                f"{self.path(name)} cannot be read; delete {os.path.dirname(self.file)}, and compare again."
            )
        return pixels

    @contextmanager
    def filled_by(self, model: Any) -> Iterator[None]:
        """Keep what a model of BasicSR shows within the block; the list is written when it ended well."""
        from basicsr.utils import tensor2img

        feed, show = model.feed_data, model.get_current_visuals
        entries: list[Entry] = []
        name = ""

        def feed_data(data: dict[str, Any]) -> None:
            nonlocal name
            path = data.get("gt_path") or data.get("lq_path") or [""]
            name = os.path.splitext(os.path.basename(path[0]))[0]
            feed(data)

        def get_current_visuals() -> Any:
            visuals = show()
            if len(entries) < self.most:
                shown = {kind: visuals[kind] for kind in KINDS if kind in visuals and _is_picture(visuals[kind])}
                files = {kind: self._keep(tensor2img([tensor])) for kind, tensor in shown.items()}
                entries.append({"name": name or str(len(entries) + 1), **files})
            return visuals

        model.feed_data, model.get_current_visuals = feed_data, get_current_visuals
        try:
            os.makedirs(os.path.dirname(self.file), exist_ok=True)
            yield
        finally:
            model.feed_data, model.get_current_visuals = feed, show
        with replacing(self.file) as stream:
            stream.write(json.dumps({"most": self.most, "pictures": entries}, indent=1).encode())

    def _content(self) -> dict[str, Any]:
        try:
            with open(self.file, encoding="utf-8") as stream:
                return json.load(stream)
        except (OSError, ValueError):
            return {"most": 0, "pictures": []}  # not there, or cut off

    def _keep(self, pixels: Pixels) -> str:
        import cv2

        name = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:20] + ".png"
        if os.path.exists(self.path(name)):
            os.utime(self.path(name))  # see `sweep`
        else:
            _, data = cv2.imencode(".png", pixels)
            with replacing(self.path(name)) as stream:
                stream.write(data.tobytes())
        return name


def sweep(folder: str) -> None:
    """Delete the pictures that no list names, as a comparison that was interrupted leaves them; not those of a day.

    Args:
        folder: of the lists and pictures; it need not be there.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    lists = [Album(os.path.join(folder, name), 0) for name in names if LIST.fullmatch(name)]
    named = {file for album in lists for file in album.files()}
    for name in names:
        file = os.path.join(folder, name)
        if PICTURE.fullmatch(name) and name not in named:
            with suppress(OSError):  # deleted by another comparison, or not to be deleted
                if os.path.getmtime(file) < time.time() - YOUNG:
                    os.remove(file)


def _is_picture(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 4 and tensor.shape[1] in (1, 3)
