"""Words by which training programs name what they save."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What a network is called, as an entry of a checkpoint or before the names of its weights
# fmt: off
NETWORK = {
    "params", "state_dict", "model_state_dict", "state", "model", "net", "network", "weights", "sd", "module",
    "generator", "netg", "net_g", "g", "gen", "g_model", "model_g", "sr_model", "student", "online", "online_model",
    "backbone", "inner", "inner_model", "checkpoint", "ckpt", "model_state", "net_state_dict",
    "generator_state_dict", "network_g", "network_state_dict", "current_model_state",
}
# fmt: on
# What wrappers put before the names, or amid them, which no network has as a name of its own
WRAPPERS = {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
AMID = WRAPPERS - {"module"}
EMA = re.compile(r"(^|[^a-z])(ema|swa)([^a-z]|$)|shadow|averaged?_model|ema_?model|model_?ema|net_?g_?ema|^g_?ema$")
# Classes of callbacks that average: EMACallback, StochasticWeightAveraging, ModelEMA, PolyakAverage, ...
AVERAGING = re.compile(r"EMA|SWA|Ema(?![a-z])|Swa(?![a-z])|[Aa]verag|[Pp]olyak|(^|_)(ema|swa)(_|$)")
# What lies within an average, but is the weights that it takes the place of for a while
SET_ASIDE = re.compile(r"backup|original|collected|stashed|(^|_)(raw|current)(_|$)")
# What is neither a network that enlarges nor its average
OTHERS = re.compile(
    r"(^|[^a-z])(d|disc|dis|critic)([^a-z]|$)|net_?d([^a-z]|$)|discriminator|teacher|perceptual|vgg|lpips|loss|criterion|"
    r"cri_|metric|psnr|ssim"
)
CALLBACKS = "callbacks"  # of Lightning; some of them keep averages
# What holds tensors that are no weights
BOOKKEEPING = re.compile(r"optim|sched|scaler|rng|random_state|callbacks|loops|hyper_param|^opt_")


def is_ema(words: Iterable[str]) -> bool:
    """Tell whether a path names averaged weights."""
    words = list(words)
    kept = len(words) > 1 and words[0] == CALLBACKS and averages(words[1])
    averaged = kept or any(EMA.search(word.lower()) for word in words)
    return averaged and not any(SET_ASIDE.search(word.lower()) for word in words)


def class_name(key: str) -> str:
    """Return the class out of the key of a callback, which has its module before and its arguments in braces behind."""
    return key.partition("{")[0].rpartition(".")[2]


def averages(callback: str) -> bool:
    """Tell whether callbacks of a class average weights."""
    return bool(AVERAGING.search(callback))


def is_network(words: Iterable[str]) -> bool:
    """Tell whether all words are names of networks, wrappers or averages."""
    return all(_names_network(word.lower()) for word in words)


def is_other(words: Iterable[str]) -> bool:
    """Tell whether a path names a discriminator, a loss or the like."""
    return any(OTHERS.search(word.lower()) for word in words)


def is_bookkeeping(word: str) -> bool:
    """Tell whether an entry holds the state of an optimizer or the like."""
    return bool(BOOKKEEPING.search(word.lower()))


def _names_network(word: str) -> bool:
    return word in NETWORK or word in WRAPPERS or bool(EMA.search(word))
