"""Measures networks of BasicSR option files side by side: `python -m esc_arch.compare FILE ...`."""
