"""Enlarging videos, frame by frame, with PyAV, whose wheels hold FFmpeg's libraries."""
