"""Networks in folders and on the Hugging Face Hub: their arguments in `config.json`, their weights in safetensors."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import json
import os
import posixpath
import re
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar, cast

from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import replacing

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
OTHER_WEIGHTS = "pytorch_model.bin"  # where a repository has no safetensors
_INDEX = ".index.json"
IN_PARTS = (WEIGHTS + _INDEX, OTHER_WEIGHTS + _INDEX)  # the same in several files
NETWORK = "network"  # the entry of the configuration that names the class
PREFIX = "hf:"
CARD_TEMPLATE = """---
{{ card_data }}
---

# {{ network }}

A network for image super-resolution, of the package `esc_arch`; its arguments are in `config.json`.

```python
import esc_arch

network = esc_arch.load("hf:USER/NAME")  # or from the folder that holds this file
larger = esc_arch.upscale_image(image, network)
```
"""
_OF_FILES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".onnx", ".yml", ".yaml")
_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<file>/[^@]+)?(?:@(?P<revision>.+))?")
N = TypeVar("N", bound="OnHub")


class OnHub:
    """A network that is written to folders and to the Hub, and made from them, in the hub's own form.

    All is done by huggingface_hub's `PyTorchModelHubMixin`, which joins a network only while it is used: importing it
    takes longer than building a network. Other than there, weights must fit name by name, and a folder is written
    file by file under temporary names.

    Attributes:
        hub_arguments: of the constructor, as the network was made with them.
    """

    hub_arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__new__(cls)
        with contextlib.suppress(TypeError):  # arguments that are wrong: the constructor says it better
            bound = inspect.signature(cls.__init__).bind_partial(instance, *args, **kwargs)
            bound.apply_defaults()
            taken = dict(zip(bound.signature.parameters, bound.args, strict=False)) | bound.kwargs
            object.__setattr__(instance, "hub_arguments", {name: taken[name] for name in list(taken)[1:]})
        return instance

    @classmethod
    def from_pretrained(
        cls: type[N],
        name_or_folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **known: Any,
    ) -> N:
        """Make the network from a folder that `save_pretrained` wrote, or from the Hub.

        Args:
            name_or_folder: a folder, or a repository as "user/name[@revision]".
            revision: branch, tag or commit of the repository; None is that of the name, or its main branch.
            token: to read private repositories with; None takes the one that is stored on this machine.
            cache_dir: where downloads are kept; None is huggingface_hub's own place.
            force_download: download again what is kept there.
            local_files_only: never ask the network.
            known: arguments of the constructor, which go before those of `config.json`.

        Returns:
            the network in single precision, in evaluation mode, on the CPU.

        Raises:
            UserError: huggingface_hub is missing, nothing is there, or it is not this network's.
        """
        place = os.fspath(name_or_folder)
        if not os.path.isdir(place):
            place, revision = _repository_at(place.removeprefix(PREFIX), revision)
        with _told(place):
            network = _hubbed(cast(Any, cls)).from_pretrained(
                place,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only or _is_unknown_here(),
                **known,
            )
        network.__class__ = cls
        vars(network).pop("_hub_mixin_config", None)
        return network

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json`, `model.safetensors`, and a model card (`README.md`) unless there is one.

        Args:
            folder: is made where it is missing.

        Raises:
            UserError: huggingface_hub is missing, or the folder cannot be written.
        """
        with tempfile.TemporaryDirectory() as whole:
            self._hubbed().save_pretrained(whole, model_card_kwargs=self._words_of_card())
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                raise UserError(f"{os.fspath(folder)} cannot be made: {error.strerror}.") from error
            for name in (WEIGHTS, CONFIG, CARD):
                target = os.path.join(folder, name)
                if name == CARD and os.path.exists(target):
                    continue
                with open(os.path.join(whole, name), "rb") as source, replacing(target) as stream:
                    stream.write(source.read())

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Upload to the Hub what `save_pretrained` writes.

        Args:
            repository: as "user/name"; it is made where it is missing.
            options: of `huggingface_hub.PyTorchModelHubMixin.push_to_hub`: `private`, `token`, `commit_message`, ...

        Returns:
            the address of the commit.

        Raises:
            UserError: huggingface_hub is missing, or the Hub does not take it.
        """
        repository_of(repository)
        hubbed = self._hubbed()
        with _told(repository):
            return str(hubbed.push_to_hub(repository, model_card_kwargs=self._words_of_card(), **options))

    def _words_of_card(self) -> dict[str, str]:
        return {"network": type(self).__name__}

    def _hubbed(self) -> Any:
        """Return this network, with its weights, as huggingface_hub wants it."""
        hubbed: Any = copy.copy(self)
        hubbed.__class__ = _hubbed(cast(Any, type(self)))
        config = {NETWORK: type(self).__name__, **self.hub_arguments}
        hubbed._hub_mixin_config = config
        try:
            json.dumps(config)
        except TypeError as error:
            raise UserError(f"{type(self).__name__} has arguments that are no plain values ({error}).") from error
        return hubbed


def repository_of(name: str) -> tuple[str, str | None, str | None]:
    """Read the name of a repository, "user/name[/file][@revision]".

    Returns:
        the repository, the file, and the revision.

    Raises:
        UserError: it is no such name.
    """
    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise UserError(f"{name} is neither a folder nor a repository as in user/name[/file][@revision].")
    file = match["file"]
    return match["repo"], file and file[1:], match["revision"]


def _repository_at(name: str, revision: str | None) -> tuple[str, str | None]:
    """Read the name of a whole repository, whose revision may be given beside it.

    Returns:
        the repository and the revision.

    Raises:
        UserError: a file is named, or two revisions are.
    """
    repo, file, named = repository_of(name)
    if file is not None:
        raise UserError(f"{name} is a file of a repository; esc_arch.load reads it, or leave out /{file}.")
    if named and revision and named != revision:
        raise UserError(f"{name}: the revision is given as {revision}, too; leave one of them out.")
    return repo, named or revision


def may_be_repository(name: str) -> bool:
    """Whether a name that is no path on this machine can be meant as a repository, "user/name"."""
    user, _, _ = name.partition("/")
    return _REPOSITORY.fullmatch(name) is not None and not os.path.isdir(user) and not name.endswith(_OF_FILES)


def download(name: str) -> str:
    """Download weights from the Hub, and their configuration where there is one.

    Args:
        name: "user/name[/file][@revision]"; without a file the repository's `model.safetensors`, or else its
            `pytorch_model.bin`, or the index of several files instead of one of these, with the files that it names.

    Returns:
        the path of the weights, with the configuration beside it.

    Raises:
        UserError: huggingface_hub is missing, or nothing can be had.
    """
    hub = _huggingface_hub()
    repo, file, revision = repository_of(name)
    fetch = functools.partial(hub.hf_hub_download, repo, revision=revision, local_files_only=_is_unknown_here())
    with _told(repo):
        if file is not None:
            weights = str(fetch(file))
            if file.endswith(_INDEX):
                _fetch_parts(weights, file, fetch)
            return weights
        for name in (WEIGHTS, OTHER_WEIGHTS, *IN_PARTS):
            try:
                weights = str(fetch(name))
                break
            except hub.errors.LocalEntryNotFoundError:
                raise
            except hub.errors.EntryNotFoundError:
                if name == IN_PARTS[-1]:
                    raise
        if name in IN_PARTS:
            _fetch_parts(weights, name, fetch)
        with contextlib.suppress(hub.errors.EntryNotFoundError):
            fetch(CONFIG)
        return weights


def _fetch_parts(index: str, name: str, fetch: Callable[[str], str]) -> None:
    """Download the files beside an index that it names; those are looked over when they are read."""
    with open(index, encoding="utf-8") as stream:
        content = json.load(stream)
    where = content.get("weight_map") if isinstance(content, dict) else None
    parts = dict.fromkeys(where.values()) if isinstance(where, dict) else {}
    for part in parts:
        if isinstance(part, str) and os.path.basename(part) == part:
            fetch(posixpath.join(posixpath.dirname(name), part))


def configuration_beside(file: str) -> dict[str, Any]:
    """Read the configuration of weights that `save_pretrained` wrote.

    Args:
        file: of weights.

    Returns:
        arguments of the constructor, and under NETWORK the name of the class; {} where there is none of this package.

    Raises:
        UserError: the configuration is damaged.
    """
    config = os.path.join(os.path.dirname(file), CONFIG)
    if os.path.basename(file) not in (WEIGHTS, OTHER_WEIGHTS, *IN_PARTS) or not os.path.isfile(config):
        return {}
    try:
        with open(config, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError) as error:
        raise UserError(f"{config} cannot be read ({error}); get the folder once more.") from error
    return content if isinstance(content, dict) and NETWORK in content else {}


@functools.cache
def _hubbed(network: type[Any]) -> type[Any]:
    """Derive the class that huggingface_hub can work with."""
    mixin = _huggingface_hub().PyTorchModelHubMixin

    about = {
        "library_name": "esc_arch",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution"],
        "model_card_template": CARD_TEMPLATE,
    }

    class Hubbed(mixin, network, **about):  # type: ignore[misc, valid-type, call-arg]
        """The network, as long as huggingface_hub has to do with it."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return network.__new__(cls, *args, **kwargs)

        @classmethod
        def _from_pretrained(cls, *, config: dict[str, Any] | None = None, **options: Any) -> Any:
            if config is None:
                raise UserError(
                    f"{options['model_id']} holds no {CONFIG}; call esc_arch.load, which needs none, on its weights."
                )
            named = config.get(NETWORK, network.__name__)
            if named != network.__name__:
                raise UserError(f"{options['model_id']} holds {named}, not {network.__name__}; call {named} instead.")
            options = {name: value for name, value in options.items() if name not in (NETWORK, "strict")}
            with contextlib.redirect_stdout(io.StringIO()):  # it prints where it loads from
                return super()._from_pretrained(strict=True, **options)

    return Hubbed


def _is_unknown_here() -> bool:
    """Tell whether the Hub's address cannot even be looked up, as without a network.

    huggingface_hub would ask again and again for half a minute, and for each file, before it takes what it keeps.
    """
    if urllib.request.getproxies():  # which look it up themselves
        return False
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(_huggingface_hub().constants.ENDPOINT).hostname, None)
    except OSError:
        return True
    return False


@contextlib.contextmanager
def _told(place: str) -> Any:
    """Put into one sentence what huggingface_hub, safetensors and torch say when something cannot be had."""
    hub = _huggingface_hub()
    try:
        yield
    except UserError:
        raise
    except (hub.errors.RepositoryNotFoundError, hub.errors.HFValidationError) as error:
        raise UserError(f"{place} is not on the Hugging Face Hub, or it is private; check its name.") from error
    except hub.errors.RevisionNotFoundError as error:
        raise UserError(f"{place} has no such revision on the Hugging Face Hub; check it.") from error
    except (hub.errors.LocalEntryNotFoundError, hub.errors.OfflineModeIsEnabled) as error:
        raise UserError(
            f"{place} is not on this machine, and the Hugging Face Hub cannot be reached; check the network, or "
            "give a file."
        ) from error
    except (hub.errors.EntryNotFoundError, FileNotFoundError) as error:
        raise UserError(f"{place} holds no weights ({WEIGHTS} or {OTHER_WEIGHTS}); name the file.") from error
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"{place} cannot be used: {reason}.") from error
    except Exception as error:  # safetensors has one exception of its own, derived from nothing
        raise UserError(f"{place} cannot be used: {str(error).partition(chr(10))[0]}.") from error


def _huggingface_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise UserError("The Hugging Face Hub needs an extra: pip install 'esc_arch[hub]'.") from error
    return huggingface_hub
