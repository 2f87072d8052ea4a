"""Finds mistakes in option files, checkpoints and data before anything starts."""
