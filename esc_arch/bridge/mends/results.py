"""Pictures that validation and testing save."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from esc_arch.common.errors import UserError, some
from esc_arch.common.whole_files import cannot_write, replacing


def keep_results_apart() -> None:
    """Give every result of a validation or test a name of its own.

    BasicSR calls a result by the name of its LQ image without folder and suffix, and in training without the data set
    either: a.png and a.jpg, images of one name in several roots, and those of two validation sets overwrite each other.
    """
    from basicsr.models.sr_model import SRModel

    SRModel.nondist_validation = _with_own_names(SRModel.nondist_validation)


def save_results_whole() -> None:
    """Write a picture whole or not at all, and say why it cannot be written: OpenCV says that it failed, if at all."""
    import basicsr.utils
    from basicsr.models import hifacegan_model, sr_model, stylegan2_model, video_base_model, video_recurrent_model
    from basicsr.utils import img_util

    users = (hifacegan_model, sr_model, stylegan2_model, video_base_model, video_recurrent_model)
    for module in (img_util, basicsr.utils, *users):
        module.imwrite = imwrite


def imwrite(img: Any, file_path: str, params: list[int] | None = None, auto_mkdir: bool = True) -> None:
    """Write a picture; stands in for the function of `basicsr.utils`.

    Args:
        img: as OpenCV takes it.
        file_path: whose suffix names the format.
        params: of OpenCV's encoder.
        auto_mkdir: make its folder.

    Raises:
        UserError: it cannot be written; the sentence names the file and says why.
    """
    import cv2

    try:
        written, content = cv2.imencode(os.path.splitext(file_path)[1], img, params or [])
    except cv2.error as error:
        raise UserError(f"{file_path} cannot be written ({error.err}).") from error
    if not written:
        raise UserError(f"{file_path} cannot be written: OpenCV cannot encode a picture of shape {img.shape}.")
    try:
        if auto_mkdir:
            os.makedirs(os.path.dirname(os.path.abspath(file_path)), exist_ok=True)
    except OSError as error:
        raise cannot_write(file_path, error) from error
    with replacing(file_path) as file:
        file.write(content.tobytes())


def _with_own_names(validate: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(validate)
    def wrapper(self: Any, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        if save_img:
            if not hasattr(self, "names_of_results"):
                self.names_of_results = {}
            dataloader = _Named(dataloader, self.names_of_results, is_train=self.opt["is_train"])
        validate(self, dataloader, current_iter, tb_logger, save_img)

    return wrapper


class _Named:
    """A loader of single images whose names differ.

    Args:
        loader: of a validation or test set.
        taken: whose each name of a folder of results is, filled as images come; the order is that of the first time.
        is_train: the folder is one for all data sets.
    """

    def __init__(self, loader: Any, taken: dict[tuple[str, str], tuple[int, int]], is_train: bool) -> None:
        self._loader = loader
        self._taken = taken
        self._folder = "" if is_train else loader.dataset.opt["name"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        from basicsr.utils import get_root_logger

        renamed = []
        for index, image in enumerate(self._loader):
            path, who = image["lq_path"][0], (id(self._loader.dataset), index)
            plain, suffix = os.path.splitext(os.path.basename(path))
            name, number = plain, 1
            while self._taken.get((self._folder, name), who) != who:
                number += 1
                name = f"{plain}_{number}"
            is_new = (self._folder, name) not in self._taken
            self._taken[self._folder, name] = who
            if is_new and name != plain:
                renamed.append(f"that of {path} {name}")
            yield image if name == plain else {**image, "lq_path": [name + suffix]}
        if renamed:
            get_root_logger().warning(f"Results of images that share their names are numbered: {some(renamed, 3)}.")
