"""Says in one sentence why an option file cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from esc_arch.common.errors import UserError


@contextmanager
def reading(file: str, where: str = "") -> Iterator[None]:
    """Turn what opening and parsing an option file raise into a sentence.

    Args:
        file: path of the option file, for messages.
        where: what stands before the path in messages, such as the argument that named it.

    Raises:
        UserError: the file is missing, no text, or not YAML.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{where}{file} cannot be read ({error.strerror}); give the path of an option file.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}{file} is not a text file; give the path of an option file.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where}{file} is not valid YAML: {' '.join(str(error).split())}.") from error
