"""What basicsr 1.4.2 (August 2022) needs to import and to run on today's torch, torchvision and lmdb: one file a theme.

Every mend is one function: it first looks whether the thing is broken in the environment at hand, and leaves it alone
if not. `BEFORE_IMPORT` must run before `import basicsr`, `AFTER_IMPORT` patches named functions of it. BasicSR's
repository has seen no release since 1.4.2; remove a mend when a release makes it unnecessary.
"""

from __future__ import annotations

from collections.abc import Callable

from esc_arch.bridge.mends.data_sets import honour_lists_of_images
from esc_arch.bridge.mends.degradation import degrade_on_the_device_of_the_model
from esc_arch.bridge.mends.distributed import distribute_on_cpu, initialise_process_group_without_cuda
from esc_arch.bridge.mends.folders import rename_to_a_name_that_is_free
from esc_arch.bridge.mends.imports import restore_functional_tensor
from esc_arch.bridge.mends.learning_rate import reach_the_stated_rate
from esc_arch.bridge.mends.leftovers import pass_over_leftovers
from esc_arch.bridge.mends.lmdb import share_lmdb_environments
from esc_arch.bridge.mends.loading import load_any_checkpoint
from esc_arch.bridge.mends.optimizers import know_more_optimizers
from esc_arch.bridge.mends.options import take_several_roots
from esc_arch.bridge.mends.prefetching import tell_errors_of_the_prefetch_thread
from esc_arch.bridge.mends.results import keep_results_apart, save_results_whole
from esc_arch.bridge.mends.resuming import resume_from_newest_whole_checkpoint
from esc_arch.bridge.mends.sampling import draw_by_place
from esc_arch.bridge.mends.saving import save_atomically
from esc_arch.bridge.mends.warnings import (
    drop_multiple_validation_warning,
    drop_stride_warning,
    drop_vgg_warnings,
    find_own_parts_without_a_word,
)
from esc_arch.common.torchvision_operators import define_torchvision_operators

BEFORE_IMPORT: list[Callable[[], None]] = [define_torchvision_operators, restore_functional_tensor]
AFTER_IMPORT: list[Callable[[], None]] = [
    initialise_process_group_without_cuda,
    distribute_on_cpu,
    load_any_checkpoint,
    resume_from_newest_whole_checkpoint,
    save_atomically,
    save_results_whole,
    keep_results_apart,
    rename_to_a_name_that_is_free,
    draw_by_place,
    tell_errors_of_the_prefetch_thread,
    reach_the_stated_rate,
    share_lmdb_environments,
    pass_over_leftovers,
    degrade_on_the_device_of_the_model,
    know_more_optimizers,
    honour_lists_of_images,
    take_several_roots,
    drop_multiple_validation_warning,
    drop_stride_warning,
    drop_vgg_warnings,
    find_own_parts_without_a_word,
]
