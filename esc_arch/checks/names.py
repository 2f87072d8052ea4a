"""Finds what was meant by a name that is unknown: an option's, an argument's, or that of a class."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from esc_arch.common.errors import UserError

SUFFIX = "_basicsr"  # that BasicSR adds to names which another project may take
SHORT = 6  # letters; of shorter names, two that differ in one letter are two networks: HAT and DAT
# Names of other projects, which are a letter or two from a name here and are something else
ELSEWHERE = {
    *("artmodel", "atdmodel", "catmodel", "datmodel", "mambairmodel", "mambairv2model", "rgtmodel", "swinfirmodel"),
    *("cugan", "esrgan", "mambairv2", "realesrgan", "realesrnet", "srgan", "swin2sr", "swinfir", "swinirv2"),
}

LARGER = "of MambaIRv2, the form of the light option files is here, MambaIRv2Light; larger ones are built otherwise"
# Networks that are called otherwise elsewhere, or are close to one here by name alone: what they are here
ELSEWHERE_CALLED = {
    "esc": "the authors' network is ESC, neosr's is ESCReal with use_dysample: true, n_blocks: 5 and exp_ratio: 1.25",
    "esc_light": "neosr's is ESCReal with use_dysample: true, n_blocks: 3 and exp_ratio: 1.25, the authors' ESC",
    "esc_large": "neosr's is ESCReal with use_dysample: true",
    "escrealm": "traiNNer-redux's is ESCRealM with upsampler: transpose+conv, mid_dim: 64 and unshuffle_mod: false "
    "where its file says nothing else",
    "escrealm_xl": "traiNNer-redux's is ESCRealM with dim: 128, pdim: 32, n_blocks: 16, num_heads: 8, upsampler: "
    "pixelshuffle, mid_dim: 64 and unshuffle_mod: false where its file says nothing else",
    **dict.fromkeys(("mambairv2", "MambaIRv2"), LARGER),
    **dict.fromkeys(("compact", "Compact"), "it is SRVGGNetCompact here, as in BasicSR"),
    "plksr_tiny": "it is PLKSR with the arguments of options/peers/test_PLKSR_tiny_x2.yml",
    "seemore_t": "it is SeemoRe with the arguments of options/peers/test_SeemoRe_T_x2.yml",
}


def meant(name: str, known: Iterable[str], cutoff: float = 0.8) -> str | None:
    """Return the known name of which `name` is a misspelling or the beginning, or None.

    Args:
        name: what was written.
        known: names to choose from.
        cutoff: share of letters in common from which on a name counts as misspelt.
    """
    plain = {_plain(choice): choice for choice in known}
    written = _plain(name)
    close = difflib.get_close_matches(written, plain, n=1, cutoff=cutoff)
    if close and _is_near(written, close[0]):
        return plain[close[0]]
    longer = [choice for key, choice in plain.items() if len(written) >= 6 and key.startswith(f"{written}_")]
    return longer[0] if len(longer) == 1 else None


def _is_near(written: str, choice: str) -> bool:
    """Tell whether names are alike beyond the verb that all metrics begin with."""
    verb = "calculate_"
    return difflib.SequenceMatcher(None, written.removeprefix(verb), choice.removeprefix(verb)).ratio() >= 0.6


def hint(name: str, known: Iterable[str]) -> str:
    """Say which known name was meant, or name all of them, as the end of a sentence."""
    choices = sorted({choice.removesuffix(SUFFIX) for choice in known})
    close = meant(name, choices)
    return f"; did you mean {close!r}" if close else f"; choose one of {', '.join(choices)}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def check_registered(name: Any, registry: Any, where: str) -> None:
    """Check that a registry of BasicSR has a name.

    Args:
        name: what the option file says.
        registry: one of `basicsr.utils.registry`.
        where: name of the option, for messages.

    Raises:
        UserError: it has not; a name that differs in case, punctuation or a letter is proposed, never another network.
    """
    if name in registry or f"{name}{SUFFIX}" in registry:  # as Registry.get looks
        return
    known = sorted({key.removesuffix(SUFFIX) for key, _ in registry})
    if name in ELSEWHERE_CALLED and "ESCRealM" in known:
        raise UserError(f"{where}: {name!r} is unknown; {ELSEWHERE_CALLED[name]}.")
    meant = misspelt(str(name), known)
    hint = f"did you mean {meant!r}" if meant else f"choose one of {', '.join(known)}"
    raise UserError(f"{where}: {name!r} is unknown; {hint}.")


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """Find the name that was misspelt: by case, punctuation, or one or two letters.

    Args:
        name: as written.
        known: names to choose from.

    Returns:
        the one name nearest to it, or None where none is near, several are, or `name` is something else elsewhere.
    """
    written = _letters(name)
    if written in ELSEWHERE:
        return None
    found = {choice: _distance(written, _letters(choice)) for choice in known}
    near = {choice: distance for choice, distance in found.items() if distance is not None}
    nearest = [choice for choice, distance in near.items() if distance == min(near.values())]
    return nearest[0] if len(nearest) == 1 else None


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _distance(written: str, choice: str) -> int | None:
    """Count the letters that differ (Damerau and Levenshtein's distance), or return None where they are too many.

    The ending that many names share does not make two of them more alike; digits and the first letter are right.
    """
    for ending in ("model", "dataset"):
        if written.endswith(ending) and choice.endswith(ending):
            written, choice = written.removesuffix(ending), choice.removesuffix(ending)
    if written[:1] != choice[:1] or re.findall(r"\d+", written) != re.findall(r"\d+", choice):
        return None
    rows = [list(range(len(choice) + 1))]
    for i, letter in enumerate(written, 1):
        row = [i]
        for j, other in enumerate(choice, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == choice[j - 2] and written[i - 2] == other:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    distance = rows[-1][-1]
    swapped = sorted(written) == sorted(choice)
    if len(written) == len(choice) and written[-1:] != choice[-1:] and not swapped:  # HiT_SRF and HiT_SIR, ESCRealM
        return None
    if min(len(written), len(choice)) < SHORT:  # a letter too many, too few or in the wrong place, but no other letter
        repeated = len(written) != len(choice) and set(written) == set(choice)
        allowed = 1 if swapped or repeated else 0
    else:
        allowed = 2
    return distance if distance <= allowed else None
