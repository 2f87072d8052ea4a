"""Files that operating systems leave in folders of pictures."""

from __future__ import annotations

import os

NAMES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", ".ds_store", ".localized", "icon\r"}


def is_leftover(path: str) -> bool:
    """Tell whether a file was left by Windows or macOS, and is nothing that the user put there."""
    name = os.path.basename(path).lower()
    return name in NAMES or name.startswith("._")
