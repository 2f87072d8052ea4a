"""Where callers of the package find the exception to catch, whichever room raises it."""

from esc_arch.common.errors import UserError, one_sentence

__all__ = ["UserError", "one_sentence"]
