"""Mistakes in options and data end in one sentence that names them, before anything starts."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from esc_arch import train
from esc_arch.archs import ESC
from esc_arch.bridge import pipeline
from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError

Options = dict[str, Any]


def parsed(opt: Options, is_train: bool = True) -> Options:
    """Complete options as BasicSR's parser does."""
    opt = copy.deepcopy(opt)
    opt.update(is_train=is_train, auto_resume=False, dist=False, rank=0, world_size=1)
    for phase, dataset in opt["datasets"].items():
        dataset.update(phase=phase.partition("_")[0], scale=opt["scale"])
    return opt


def test_good_options_pass_and_are_not_changed(tiny_options: Options) -> None:
    opt = parsed(tiny_options)
    before = copy.deepcopy(opt)
    check_options(opt)
    assert opt == before


def edit(path: str, value: Any) -> Callable[[Options], None]:
    """Make a function that sets, or with the value `...` deletes, an option."""

    def apply(opt: Options) -> None:
        *sections, key = path.split(":")
        for section in sections:
            opt = opt[section]
        if value is ...:
            del opt[key]
        else:
            opt[key] = value

    return apply


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (edit("network_g:type", "ESCC"), r"network_g:type: 'ESCC' is unknown; did you mean 'ESC'"),
        (edit("network_g:windowsize", 8), r"ESC has no argument 'windowsize'; did you mean 'window_size'"),
        (edit("network_g:num_heads", 3), "network_g: ESC cannot be built: dim must be divisible by num_heads"),
        (edit("network_g:dim", "wide"), "network_g:dim is 'wide', but must be a whole number"),
        (edit("network_g:upscaling_factor", 3), "scale is 2 but network_g:upscaling_factor is 3"),
        (edit("network_g", ...), "the option network_g is missing"),
        (edit("model_type", "ESCmodel"), "did you mean 'ESCModel'"),
        (edit("train:optim_g", ...), "the option train:optim_g is missing"),
        (edit("logger:print_freq", ...), "the option logger:print_freq is missing"),
        (edit("datasets:train:gt_size", ...), "the option datasets:train:gt_size is missing"),
        (edit("datasets:train:type", "PairedDataset"), "datasets:train:type: 'PairedDataset' is unknown"),
        (
            edit("datasets:train:dataroot_gt", "no/where.lmdb"),
            "datasets:train:dataroot_gt: no/where.lmdb does not exist",
        ),
        (edit("datasets:val_1:dataroot_lq", "no/where"), "datasets:val_1:dataroot_lq: no/where does not exist"),
        (edit("datasets:val_1:filename_tmpl", "{}x3"), r"datasets:val_1: p0\.png has no LQ p0x3\.png, .*filename_tmpl"),
        (edit("datasets:train:gt_size", 64), "is smaller than gt_size 64"),
        (edit("scale", 4), "scale is 4|do not pair at scale 4"),
        (edit("path:pretrain_network_g", "no.pth"), "path:pretrain_network_g: no.pth does not exist"),
        (edit("amp", "fp8"), "amp is 'fp8', but must be one of bf16, fp16"),
        (edit("val:val_freq", ...), "the option val:val_freq is missing"),
        (edit("val:suffix", "x4/best"), "val:suffix is .x4/best., but must be part of a file.s name"),
    ],
)
def test_mistakes_in_options(tiny_options: Options, change: Callable[[Options], None], sentence: str) -> None:
    opt = copy.deepcopy(tiny_options)
    change(opt)
    with pytest.raises(UserError, match=sentence) as caught:
        check_options(parsed(opt))
    assert "\n" not in str(caught.value)


def test_misspelt_argument_of_a_network_that_ignores_unknown_ones(tiny_options: Options) -> None:
    """HiT-SR's published option files hold an argument that the network does not know."""
    tiny_options["network_g"] = {"type": "HiT_SRF", "upscale": 2, "depths": [1], "num_heads": [2], "embed_dim": 16}
    tiny_options["network_g"]["expansion_factor"] = 2
    check_options(parsed(tiny_options))
    tiny_options["network_g"]["num_head"] = [2]
    with pytest.raises(UserError, match="HiT_SRF has no argument 'num_head'; did you mean 'num_heads'"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize(("network", "argument"), [("ELAN", "scale"), ("HiT_SIR", "upscale")])
def test_scale_under_another_name(tiny_options: Options, network: str, argument: str) -> None:
    tiny_options["network_g"] = {"type": network, argument: 3}
    with pytest.raises(UserError, match=f"scale is 2 but network_g:{argument} is 3"):
        check_options(parsed(tiny_options))


def test_amp_needs_our_model(tiny_options: Options) -> None:
    tiny_options.update(amp="bf16", model_type="SwinIRModel")
    with pytest.raises(UserError, match="amp and compile are options of model_type ESCModel"):
        check_options(parsed(tiny_options))


@pytest.fixture
def copied_data(tiny_data: Path, tiny_options: Options, tmp_path: Path) -> Path:
    """A copy of the data to spoil, with the options pointing at it."""
    root = tmp_path / "spoiled"
    shutil.copytree(tiny_data, root)
    for dataset in tiny_options["datasets"].values():
        for key in ("dataroot_gt", "dataroot_lq"):
            dataset[key] = dataset[key].replace(str(tiny_data), str(root))
    return root


def spoil_truncate(root: Path) -> None:
    data = root / "train_HR.lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes()[:-4096])


def spoil_cut_to_nothing(root: Path) -> None:
    (root / "train_HR.lmdb" / "data.mdb").write_bytes(b"LMDB?")


def spoil_remove_meta(root: Path) -> None:
    (root / "train_LR.lmdb" / "meta_info.txt").unlink()


def spoil_meta_line(root: Path) -> None:
    with open(root / "train_LR.lmdb" / "meta_info.txt", "a") as file:
        file.write("garbage\n")


def spoil_extra_key(root: Path) -> None:
    with open(root / "train_LR.lmdb" / "meta_info.txt", "a") as file:
        file.write("p9.png (24,20,3) 1\n")


def spoil_lq_size(root: Path) -> None:
    meta = root / "train_LR.lmdb" / "meta_info.txt"
    meta.write_text(meta.read_text().replace("(24,20,3)", "(24,16,3)", 1))


def spoil_validation_image(root: Path) -> None:
    (root / "val" / "LR" / "p0x2.png").write_bytes(b"no picture")


def spoil_validation_pair(root: Path) -> None:
    shutil.copy(root / "val" / "HR" / "p0.png", root / "val" / "LR" / "p0x2.png")


def spoil_empty_validation(root: Path) -> None:
    for file in (root / "val").rglob("*.png"):
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_truncate, r"train_HR.lmdb.* is truncated"),
        (spoil_cut_to_nothing, r"train_HR.lmdb is damaged"),
        (spoil_remove_meta, r"train_LR.lmdb.meta_info.txt is missing"),
        (spoil_meta_line, r"meta_info.txt has a line that BasicSR cannot read"),
        (spoil_extra_key, r"train_LR.lmdb has 4 images but meta_info.txt lists 5"),
        (spoil_lq_size, r"train_LR.lmdb is damaged: p0 is 20x24 and not 16x24 as meta_info.txt says"),
        (spoil_validation_image, r"a file cannot be read as an image: .*p0x2.png is no picture that OpenCV can read"),
        (spoil_validation_pair, r"p0.png \(40x48\) and .*p0x2.png \(40x48\) do not pair at scale 2"),
        (spoil_empty_validation, r"datasets:val_1: .* holds no images"),
    ],
)
def test_spoiled_data(copied_data: Path, tiny_options: Options, spoil: Callable[[Path], None], sentence: str) -> None:
    spoil(copied_data)
    with pytest.raises(UserError, match=sentence) as caught:
        check_options(parsed(tiny_options))
    assert "\n" not in str(caught.value)


def test_an_address_is_no_path(tiny_options: Options) -> None:
    tiny_options["path"]["pretrain_network_g"] = "https://x.org/net.pth"
    with pytest.raises(UserError, match=r"pretrain_network_g: https://x\.org/net\.pth is an address; download"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda net: {"params": {**net.state_dict(), "extra": torch.zeros(1)}}, r"does not fit network_g \(ESC\)"),
        (lambda net: {"params": ESC(dim=8, pdim=4, n_blocks=1, num_heads=1, window_size=4).state_dict()}, "not fit"),
        (lambda net: {"net_d": {"conv.weight": torch.zeros(1)}}, "not fit"),
        (lambda net: {"params": [1, 2]}, "does not hold the weights"),
        (lambda net: {"params": test_amp_needs_our_model}, "does not hold the weights"),
    ],
)
def test_checkpoints_that_do_not_fit(
    tiny_options: Options, tmp_path: Path, content: Callable[[torch.nn.Module], Any], sentence: str
) -> None:
    arguments = {key: value for key, value in tiny_options["network_g"].items() if key != "type"}
    file = tmp_path / "net.pth"
    torch.save(content(ESC(**arguments)), file)
    tiny_options["path"]["pretrain_network_g"] = str(file)
    with pytest.raises(UserError, match=sentence) as caught:
        check_options(parsed(tiny_options))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_checkpoint_of_another_scale_fits(tiny_options: Options, tmp_path: Path) -> None:
    arguments = {key: value for key, value in tiny_options["network_g"].items() if key != "type"}
    file = tmp_path / "net.pth"
    torch.save({"params_ema": ESC(**{**arguments, "upscaling_factor": 3}).state_dict()}, file)
    tiny_options["path"].update(pretrain_network_g=str(file), param_key_g="params_ema")
    check_options(parsed(tiny_options))


def test_truncated_checkpoint(tiny_options: Options, tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save({"params": {"a": torch.zeros(1000)}}, file)
    file.write_bytes(file.read_bytes()[:-500])
    tiny_options["path"]["pretrain_network_g"] = str(file)
    with pytest.raises(UserError, match=r"net.pth is damaged"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        (None, [], "missing.yml cannot be read"),
        ("name: [1, 2\nscale: 2", [], "is not valid YAML"),
        ("name: x\nnum_gpu: 0\nmodel_type: ESCModel", [], "the option datasets is missing"),
        ("just words", [], "holds no options"),
        ("name: x\nname: y", [], "the key 'name' is given twice"),
        ("name: x\npath: {}", ["--force_yml", "train:nothing:here=1"], "--force_yml: 'train:nothing' is no option"),
        ("name: x\nnum_gpu: 0\ndatasets: {}\npath: {}", ["--force_yml", "name"], "section:key=value"),
    ],
)
def test_mistakes_on_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    arguments: list[str],
    sentence: str,
) -> None:
    file = tmp_path / ("missing.yml" if text is None else "options.yml")
    if text is not None:
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "-opt", str(file), *arguments])
    with pytest.raises(SystemExit) as caught:
        train.main()
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ([file.name] if text is not None else [])


def test_command_exits_with_one_sentence(tiny_options: Options, tmp_path: Path) -> None:
    """The whole command, as a user sees it: no stack trace, exit code 1, nothing written."""
    tiny_options["network_g"]["type"] = "ESCC"
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(tiny_options))
    command = [sys.executable, "-m", "esc_arch.train", "-opt", str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: network_g:type: 'ESCC' is unknown; did you mean 'ESC'.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["options.yml"]


@pytest.mark.parametrize("arguments", [[], ["--skip_data_check"]])
def test_decoding_is_left_out_when_asked(
    tiny_options: Options,
    copied_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    """The command then meets the damaged picture where it is read, and not before."""
    spoil_validation_image(copied_data)
    tiny_options["val"]["val_freq"] = 100
    tiny_options["train"]["optim_g"]["type"] = "Adamm"  # is told before the data are looked at
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(tiny_options))
    monkeypatch.chdir(tmp_path)
    force = ["--force_yml", "train:optim_g:type=Adam"]
    monkeypatch.setattr(sys, "argv", ["train", "-opt", str(file), *force, *arguments])
    told: list[bool] = []
    monkeypatch.setattr(
        pipeline, "check_options", lambda opt, decode: told.append(decode) or check_options(opt, decode)
    )
    monkeypatch.setattr("basicsr.train.make_exp_dirs", lambda opt: pytest.fail("nothing may be written"))
    if arguments:
        monkeypatch.setattr(pipeline, "_cap_workers", _stop)
    with pytest.raises(SystemExit):
        train.main()
    assert told == [not arguments]
    words = "the check is over" if arguments else "p0x2.png is no picture that OpenCV can read"
    assert words in capsys.readouterr().err


def _stop(opt: Options) -> None:
    raise UserError("the check is over")


def test_every_process_learns_what_the_first_one_found(tiny_options: Options, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        opt = parsed(tiny_options)
        opt["dist"] = True
        assert pipeline._check_once(opt, decode=True) == []
        opt["network_g"]["dim"] = 17
        with pytest.raises(UserError, match="dim must be divisible by num_heads"):
            pipeline._check_once(opt, decode=True)
    finally:
        torch.distributed.destroy_process_group()
