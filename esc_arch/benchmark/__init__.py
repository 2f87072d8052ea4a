"""What each way of being fast is worth: `python -m esc_arch.benchmark`."""
