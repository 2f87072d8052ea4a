"""Degraded images on any device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def degrade_on_the_device_of_the_model() -> None:
    """Let the Real-ESRGAN models train on a CPU.

    `RealESRNetModel` and `RealESRGANModel` move what simulates JPEG and sharpens, and their pool of pairs, to a GPU
    whatever `num_gpu` says. What comes out of the simulated JPEG has strides with which `filter2D` fails there.
    """
    from basicsr.models import realesrgan_model, realesrnet_model
    from basicsr.utils.diffjpeg import DiffJPEG
    from basicsr.utils.img_process_util import USMSharp, filter2D

    for module, name in ((realesrnet_model, "RealESRNetModel"), (realesrgan_model, "RealESRGANModel")):
        for layer in (DiffJPEG, USMSharp):
            setattr(module, layer.__name__, _without_cuda(layer))
        module.filter2D = lambda image, kernel: filter2D(image.contiguous(), kernel)
        model = getattr(module, name)
        model.__init__ = _then_on_device(model.__init__)
        model._dequeue_and_enqueue = _with_pool_on_device(model._dequeue_and_enqueue)


def _without_cuda(layer: type[torch.nn.Module]) -> type[torch.nn.Module]:
    return type(layer.__name__, (layer,), {"cuda": lambda self: self})


def _then_on_device(initialise: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialise)
    def wrapper(self: Any, opt: dict[str, Any]) -> None:
        initialise(self, opt)
        self.jpeger, self.usm_sharpener = self.jpeger.to(self.device), self.usm_sharpener.to(self.device)

    return wrapper


def _with_pool_on_device(exchange: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(exchange)
    def wrapper(self: Any) -> None:
        if not hasattr(self, "queue_lr"):
            self.queue_lr = self.lq.new_zeros(self.queue_size, *self.lq.shape[1:])
            self.queue_gt = self.gt.new_zeros(self.queue_size, *self.gt.shape[1:])
            self.queue_ptr = 0
        exchange(self)

    return wrapper
