"""Figures of what networks do with a picture, one command for each: `python -m esc_arch.analyze WHAT`."""
