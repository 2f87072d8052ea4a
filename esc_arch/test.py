"""Test a network: `python -m esc_arch.test -opt FILE [--force_yml ...]`.

This is BasicSR's test pipeline with the networks of this package registered and the options checked first. `results/`
is written below the current directory, once everything was checked and built.
"""

from __future__ import annotations

from esc_arch.bridge.pipeline import run_test
from esc_arch.common.errors import one_sentence


@one_sentence
def main() -> None:
    """Run the command."""
    run_test()


if __name__ == "__main__":
    main()
