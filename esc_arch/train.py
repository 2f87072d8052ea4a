"""Train a network: `python -m esc_arch.train -opt FILE [--auto_resume] [--launcher pytorch] [--force_yml ...]`.

This is BasicSR's training pipeline with the networks of this package registered and the options checked first.
`experiments/` and `tb_logger/` are written below the current directory, once everything was checked and built.

    --dry_run          checks everything, makes one step, validates one picture, and prints what training will need
    --reset_schedule   a resumed training takes learning rate and schedule from the options, not from its state
"""

from __future__ import annotations

import torch

from esc_arch.bridge.pipeline import run_training
from esc_arch.common.errors import one_sentence


@one_sentence
def main() -> None:
    """Run the command."""
    run_training()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
