"""Files that systems leave among pictures."""

from __future__ import annotations

import os

from esc_arch.common.whole_files import PREFIX

NAMES = {  # of macOS, Windows, the makers of network storage, and Linux; in small letters
    ".ds_store",
    ".localized",
    "__macosx",
    ".appledouble",
    ".apdisk",
    ".fseventsd",
    ".spotlight-v100",
    ".temporaryitems",
    ".trashes",
    "icon\r",
    "thumbs.db",
    "thumbs.db:encryptable",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "@eadir",
    ".@__thumb",
    "#recycle",
    "@recycle",
    "@recently-snapshot",
    ".thumbnails",
    ".directory",
    "lost+found",
}
BEGINNINGS = ("._", ".trash-", ".fuse_hidden", ".nfs", PREFIX)


def is_leftover(path: str) -> bool:
    """Tell whether a file or folder is called like what a system leaves, and is nothing that the user put there."""
    name = os.path.basename(path).lower()
    return name in NAMES or name.startswith(BEGINNINGS)
