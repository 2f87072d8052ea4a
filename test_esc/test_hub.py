"""Networks in folders and on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import esc_arch
from esc_arch.archs import NETWORKS
from esc_arch.archs.scale import SCALE_ARGUMENTS
from esc_arch.common import hub
from esc_arch.errors import UserError
from esc_arch.layers.conv_attn import ConvAttn
from esc_arch.layers.decomposed_conv_attn import DecomposedConvAttn
from esc_arch.upscale.network import load_enlarger

huggingface_hub = pytest.importorskip("huggingface_hub")
COMMIT = "0" * 40
PARTS = (ConvAttn, DecomposedConvAttn)
_IS_UNKNOWN_HERE = hub._is_unknown_here
SMALL: dict[str, Any] = {"dim": 16, "pdim": 8, "n_blocks": 1, "conv_blocks": 1, "window_size": 8, "num_heads": 2}


_SWIN: dict[str, Any] = {"embed_dim": 12, "depths": [1], "num_heads": [2], "upscale": 2}
_HIT = {**_SWIN, "embed_dim": 24, "base_win_size": [4, 4], "hier_win_ratios": [0.5]}
SMALLEST: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("ESC", "ESCFP", "ESCRIB", "ESCReal", "ESCAblation"), SMALL),
    "ESCLTE": {**SMALL, "upscaling_factor": 2, "hidden_dim": 8, "hidden_list": [8]},
    "ESCRealM": {**SMALL, "upscaling_factor": 2},
    **dict.fromkeys(("HiT_SIR", "HiT_SNG", "HiT_SRF"), _HIT),
    "ELAN": {"scale": 2, "m_elan": 2, "c_elan": 12, "window_sizes": [2, 4, 8]},
    "ASID": {},
    "ASIDd8": {},
    "CATANet": {
        **{"upscale": 2, "block_num": 1, "dim": 8, "qk_dim": 8, "mlp_dim": 8, "heads": 2},
        **{"n_iters": [1], "num_tokens": [4], "group_size": [16], "patch_size": [8]},
    },
    "MambaIR": {"upscale": 2, "embed_dim": 32, "depths": [1], "d_state": 2},
    "MambaIRv2Light": {"upscale": 2, "embed_dim": 12, "depths": [1], "d_state": 2, "num_heads": [2], "window_size": 8},
}


def small_esc(**arguments: Any) -> esc_arch.ESC:
    torch.manual_seed(0)
    return esc_arch.ESC(**{**SMALL, **arguments}).eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


class Repository(SimpleHTTPRequestHandler):
    """Answers as the Hub does for one public repository."""

    asked: ClassVar[list[str]] = []

    def send_head(self) -> Any:
        self.asked.append(self.revision())
        file = Path(self.directory, self.path.rpartition(f"/user/network/resolve/{self.revision()}/")[2])
        if "/user/network/" not in self.path or not file.is_file():
            known = "/user/network/" in self.path
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        stream = file.open("rb")
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        self.send_header("ETag", '"' + hashlib.sha1(file.read_bytes()).hexdigest() + '"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        return stream

    def revision(self) -> str:
        return self.path.partition("/resolve/")[2].partition("/")[0]

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files are the repository user/network of a Hub on this machine."""
    folder = tmp_path / "repository"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Repository, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    fetch = huggingface_hub.hf_hub_download
    local = partial(fetch, endpoint=endpoint, cache_dir=tmp_path / "cache")

    def download(*args: Any, **kwargs: Any) -> str:
        kwargs = {name: value for name, value in kwargs.items() if name not in ("cache_dir", "endpoint")}
        return local(*args, **kwargs)

    monkeypatch.setattr(hub, "_is_unknown_here", lambda: False)  # where tests run without a network
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    yield folder
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("network", [each for each in NETWORKS if each not in PARTS], ids=lambda each: each.__name__)
def test_every_network_has_its_place(network: Any) -> None:
    """All record the arguments that they were made with, and those alone are needed to make them again."""
    with torch.device("meta"):
        made = network()
        assert isinstance(made, hub.OnHub)
        again = network(**made.hub_arguments)
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == {
        name: tensor.shape for name, tensor in made.state_dict().items()
    }
    assert json.loads(json.dumps(made.hub_arguments)).keys() == made.hub_arguments.keys()
    assert network is esc_arch.archs.Bicubic or any(name in made.hub_arguments for name in SCALE_ARGUMENTS)


@pytest.mark.parametrize("name", SMALLEST)
def test_every_network_comes_back(name: str, tmp_path: Path) -> None:
    """By its own class, by `load`, and by `load_enlarger`, also those that no weight tells."""
    torch.manual_seed(0)
    network = getattr(esc_arch.archs, name)(**SMALLEST[name]).eval()
    network.save_pretrained(tmp_path)
    again = type(network).from_pretrained(tmp_path)
    loaded = esc_arch.load(tmp_path)
    assert type(loaded) is type(network)
    recorded = json.loads(json.dumps(network.hub_arguments))
    assert json.loads(json.dumps(loaded.hub_arguments)) == recorded
    assert json.loads(json.dumps(again.hub_arguments)) == recorded
    assert same(loaded, network)
    assert same(again, network)
    image = torch.rand(1, 3, 16, 16)
    enlarger = load_enlarger(tmp_path)
    assert enlarger.scale == (4 if name == "ESCReal" else 2)
    assert enlarger(image).shape[-2:] == enlarger.enlarged(16, 16)


def test_those_are_all() -> None:
    """But for bicubic enlargement, which has no weights."""
    assert {each.__name__ for each in NETWORKS if each not in PARTS} == {*SMALLEST, "Bicubic"}


def test_round_trip_through_a_folder(tmp_path: Path) -> None:
    network = small_esc(upscaling_factor=3, use_ln=True)
    network.save_pretrained(tmp_path / "a" / "b")
    again = esc_arch.ESC.from_pretrained(tmp_path / "a" / "b")
    image = torch.rand(1, 3, 9, 11)
    assert type(again) is esc_arch.ESC
    assert not again.training
    assert again.hub_arguments == network.hub_arguments
    assert torch.equal(again(image), network(image))
    assert same(esc_arch.load(tmp_path / "a" / "b"), network)
    assert load_enlarger(tmp_path / "a" / "b").scale == 3
    card = (tmp_path / "a" / "b" / "README.md").read_text()
    assert "library_name: esc_arch" in card
    assert "# ESC" in card


def test_what_no_weight_tells_is_kept(tmp_path: Path) -> None:
    """The window of ESC-RIB is in no weight: it is 64 unless told, and the folder tells it."""
    torch.manual_seed(0)
    network = esc_arch.ESCRIB(dim=16, pdim=8, n_blocks=1, conv_blocks=1, window_size=16, num_heads=2).eval()
    network.save_pretrained(tmp_path)
    assert esc_arch.load(tmp_path).window_size == 16
    assert esc_arch.load(tmp_path, window_size=24).window_size == 24
    assert load_enlarger(tmp_path).window == 16


def test_saving_again_keeps_the_card(tmp_path: Path) -> None:
    small_esc().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    other = small_esc(upscaling_factor=4)
    other.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert same(esc_arch.ESC.from_pretrained(tmp_path), other)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_from_the_hub(on_the_hub: Path) -> None:
    network = small_esc()
    network.save_pretrained(on_the_hub)
    assert same(esc_arch.ESC.from_pretrained("user/network"), network)
    assert same(esc_arch.ESC.from_pretrained("user/network", revision="v1"), network)
    assert same(esc_arch.load("user/network"), network)
    assert same(esc_arch.load("hf:user/network@v1"), network)
    assert load_enlarger("hf:user/network").scale == 2


def test_the_revision_of_a_name_counts(on_the_hub: Path) -> None:
    """Else the main branch would be taken, and nobody would notice."""
    small_esc().save_pretrained(on_the_hub)
    for name, revision in (("user/network@v7", None), ("hf:user/network@v7", "v7"), ("user/network", "v7")):
        Repository.asked.clear()
        esc_arch.ESC.from_pretrained(name, revision=revision, force_download=True)
        assert set(Repository.asked) == {"v7"}
    with pytest.raises(UserError, match="the revision is given as v8, too"):
        esc_arch.ESC.from_pretrained("user/network@v7", revision="v8")
    with pytest.raises(UserError, match=r"is a file of a repository; esc_arch\.load reads it"):
        esc_arch.ESC.from_pretrained("user/network/models/net_g.pth")


def test_without_a_network_what_is_kept_is_taken_at_once(
    on_the_hub: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = small_esc()
    network.save_pretrained(on_the_hub)
    esc_arch.ESC.from_pretrained("user/network")
    monkeypatch.setattr(hub, "_is_unknown_here", _IS_UNKNOWN_HERE)

    def fail(*_: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Repository.asked.clear()
    assert same(esc_arch.ESC.from_pretrained("user/network"), network)
    assert same(esc_arch.load("hf:user/network"), network)
    for load in (esc_arch.ESC.from_pretrained, esc_arch.load):
        with pytest.raises(UserError, match="user/other is not on this machine, and the Hugging Face Hub cannot be"):
            load("user/other")
    assert not Repository.asked
    assert not caplog.records


def test_a_file_of_a_repository(on_the_hub: Path) -> None:
    network = small_esc()
    (on_the_hub / "models").mkdir()
    torch.save({"params_ema": network.state_dict()}, on_the_hub / "models" / "net_g.pth")
    assert same(esc_arch.load("hf:user/network/models/net_g.pth", window_size=8), network)
    with pytest.raises(UserError, match=r"user/network holds no weights"):
        esc_arch.load("hf:user/network")


def test_weights_of_pytorch_where_there_are_no_safetensors(on_the_hub: Path) -> None:
    network = small_esc()
    torch.save(network.state_dict(), on_the_hub / "pytorch_model.bin")
    assert same(esc_arch.load("user/network"), network)


def test_weights_in_several_files(on_the_hub: Path) -> None:
    network = small_esc()
    _in_parts(on_the_hub, network)
    assert same(esc_arch.load("user/network"), network)
    assert same(esc_arch.load("hf:user/network/model.safetensors.index.json"), network)


@pytest.mark.parametrize("index", ["[]", "{", '{"weight_map": {"proj.weight": "../../x"}}', '{"weight_map": {}}'])
def test_a_bad_index_is_told(on_the_hub: Path, index: str) -> None:
    _in_parts(on_the_hub, small_esc())
    (on_the_hub / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError):
        esc_arch.load("user/network")


def test_a_part_that_is_not_there_is_told(on_the_hub: Path) -> None:
    _in_parts(on_the_hub, small_esc())
    (on_the_hub / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="user/network holds no"):
        esc_arch.load("user/network")


def _in_parts(folder: Path, network: Any) -> None:
    from safetensors.torch import save_file

    for file in folder.glob("*.safetensors"):
        file.unlink()
    names, where = list(network.state_dict()), {}
    for number, some in enumerate((names[::2], names[1::2]), 1):
        part = f"model-0000{number}-of-00002.safetensors"
        save_file({name: network.state_dict()[name].contiguous() for name in some}, folder / part)
        where |= dict.fromkeys(some, part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def test_pushing_uploads_what_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: dict[str, bytes] = {}

    def upload(self: Any, *, folder_path: Path, **_: Any) -> str:
        uploaded.update({file.name: file.read_bytes() for file in Path(folder_path).iterdir()})
        return "https://address.of/commit"

    made = type("Url", (), {"repo_id": "user/network"})()
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, **_: made)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    assert small_esc().push_to_hub("user/network", private=True) == "https://address.of/commit"
    assert sorted(uploaded) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads(uploaded["config.json"])["n_blocks"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "cannot be used"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be used"),
        (lambda folder: (folder / "config.json").write_text('{"network": "ELAN"}'), "holds ELAN, not ESC"),
        (lambda folder: (folder / "config.json").write_text('{"network": "ESC"}'), "cannot be used"),
    ],
)
def test_bad_folders_are_told(tmp_path: Path, change: Any, message: str) -> None:
    small_esc().save_pretrained(tmp_path)
    change(tmp_path)
    with pytest.raises(UserError, match=message) as told:
        esc_arch.ESC.from_pretrained(tmp_path)
    assert "\n" not in str(told.value)


def test_repositories_that_are_not_there_are_told(on_the_hub: Path) -> None:
    with pytest.raises(UserError, match="user/other is not on the Hugging Face Hub"):
        esc_arch.load("hf:user/other")
    with pytest.raises(UserError, match=r"neither a file nor weights.*user/other is not on"):
        esc_arch.load("user/other")
    with pytest.raises(UserError, match="neither a folder nor a repository"):
        esc_arch.ESC.from_pretrained("nothing")


def test_without_a_network_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="user/network is not on this machine, and the Hugging Face Hub cannot"):
        esc_arch.load("hf:user/network")


def test_paths_are_not_taken_for_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    for name in ("weights/ESC", "models/net_g.pth", "a/b/c/d.safetensors", "ESC_x9"):
        with pytest.raises(UserError, match=r"is neither a file nor weights that come with this package \([^)]*\)\.$"):
            esc_arch.load(name)


def test_without_the_extra_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    hub._hubbed.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'esc_arch\[hub\]'"):
        small_esc().save_pretrained(tmp_path / "folder")
    with pytest.raises(UserError, match=r"pip install 'esc_arch\[hub\]'"):
        esc_arch.load("hf:user/network")
    assert not (tmp_path / "folder").exists()


def _entry_points(repository: str) -> Any:
    spec = importlib.util.spec_from_file_location("hubconf", Path(repository, "hubconf.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_entry_points_of_torch_hub() -> None:
    repository = str(Path(__file__).parent.parent)
    names = [name for name in vars(_entry_points(repository)) if name.startswith("esc")]
    assert {name.lower() for name in esc_arch.bundled_names()} <= set(names)
    network = torch.hub.load(repository, "esc", "ESC_light_x3", source="local")
    assert network.upscaling_factor == 3
    assert same(torch.hub.load(repository, "esc_light_x3", source="local"), network)
