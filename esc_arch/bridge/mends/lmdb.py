"""Reading LMDB."""

from __future__ import annotations

from typing import Any


def share_lmdb_environments() -> None:
    """Let two datasets of one process read the same LMDB.

    lmdb 3 refuses to open an environment that is already open in the process, which BasicSR does when training and
    validation use the same LMDB.
    """
    from basicsr.utils.file_client import FileClient, LmdbBackend

    from esc_arch.bridge import shared_lmdb

    class SharedLmdbBackend(LmdbBackend):
        """BasicSR's LMDB reader on environments that all readers of a process share."""

        def __init__(self, db_paths: str | list[str], client_keys: str | list[str] = "default", **options: Any) -> None:
            paths = db_paths if isinstance(db_paths, list) else [db_paths]
            clients = client_keys if isinstance(client_keys, list) else [client_keys]
            self.db_paths = [str(path) for path in paths]
            self._client = {
                client: shared_lmdb.environment(path, **options)
                for path, client in zip(self.db_paths, clients, strict=True)
            }

    FileClient._backends["lmdb"] = SharedLmdbBackend
