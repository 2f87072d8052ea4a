"""Turns downloaded images into what the option files name; the scripts in datasets/ are its commands."""
