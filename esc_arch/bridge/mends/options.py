"""What BasicSR's option files cannot say."""

from __future__ import annotations

import functools
import os
from types import SimpleNamespace
from typing import Any


def take_several_roots() -> None:
    """Let one data set of an option file have a list of roots, which are joined.

    `parse_options` expands ~ in a single path only, and `build_dataset` hands all roots to a data set that knows one.
    Variables such as $SCRATCH are expanded with it.
    """
    import basicsr.data
    import basicsr.test
    import basicsr.train
    from basicsr.utils import options

    from esc_arch.common.paths import expand
    from esc_arch.data.several_roots import build

    options.osp = SimpleNamespace(**{**vars(os.path), "expanduser": expand})
    one = basicsr.data.build_dataset

    @functools.wraps(one)
    def build_dataset(dataset_opt: dict[str, Any]) -> Any:
        return build(dataset_opt, one)

    for module in (basicsr.data, basicsr.train, basicsr.test):
        module.build_dataset = build_dataset
