"""Enlarging pictures in a browser: `python -m esc_arch.web`."""
