"""What is logged before there is a log file."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator


class HeldLog(logging.Handler):
    """Keeps the records of BasicSR's logger, to be logged again when its file is there."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Take what is logged meanwhile; BasicSR opens a file for a new logger only, as it is left."""
        from basicsr.utils.logger import initialized_logger

        logger = logging.getLogger("basicsr")
        handlers, level, propagates = logger.handlers[:], logger.level, logger.propagate
        logger.handlers[:] = [self]
        logger.setLevel(logging.INFO)
        logger.propagate = False
        initialized_logger["basicsr"] = True
        try:
            yield
        finally:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagates
            initialized_logger.pop("basicsr", None)

    def correct(self, numbers: dict[str, int]) -> None:
        """Put true numbers behind words of the records, such as "Total epochs"."""
        for record in self.records:
            for words, number in numbers.items():
                record.msg = re.sub(rf"({re.escape(words)}: )\d+", rf"\g<1>{number}", str(record.msg))

    def replay(self) -> None:
        """Log what was kept."""
        logger = logging.getLogger("basicsr")
        for record in self.records:
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        self.records.clear()
