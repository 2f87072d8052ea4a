"""Every code block of README and docs does what it says, in a folder where the files that it names are small ones."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import OPTIONS, TINY, option_file, randomise
from PIL import Image
from skimage import data

from esc_arch.archs import ESC
from esc_arch.weights import write_weights

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "datasets" / "README.md"]
PAGES += sorted((ROOT / "esc_arch" / "weights" / "bundled").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
SHOWN_ONLY = {"", "yaml", "yml", "text", "mermaid", "json"}  # no code to run; option files are tried by other tests
SIDE = 48  # of GT
Command = list[str]
THEIRS = {  # option files of other projects: one of ours with their model
    "ESC/options/train/ESC_DIV2K_X2.yaml": ("train_ESC_x2", "ESRModel"),
    "ESC/options/test/ESC_DIV2K_X2.yaml": ("test_ESC_x2", "ESRModel"),
    "HAT/options/test/HAT_SRx4.yml": ("test_HAT_S_x4", "HATModel"),
    "HAT/options/train/train_HAT_SRx2_from_scratch.yml": ("train_HAT_S_x2", "HATModel"),
    "HiT-SR/options/Test/test_HiT_SRF_x2.yml": ("test_HiT_SRF_x2", "HITModel"),
    "BasicSR/options/test/SwinIR/test_SwinIR_x4.yml": ("test_SwinIR_light_x4", "SwinIRModel"),
}


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in BLOCK.findall(page.read_text()) if language in languages]


def commands(page: Path) -> list[str]:
    """The commands of a page as lines of a shell, each once, what follows a backslash joined."""
    lines = "\n".join(blocks(page, "bash", "sh")).replace("\\\n", " ").splitlines()
    single = [part.strip() for line in lines for part in re.sub(r"(^|\s)#.*", "", line).split(" && ")]
    return list(dict.fromkeys(part for part in single if part))


def arguments(command: str, folder: Path) -> Command:
    """Take a command apart as a shell does, with patterns, braces and ~."""
    done = subprocess.run(
        ["bash", "-c", f"shopt -s nullglob; printf '%s\\0' {command}"],
        capture_output=True,
        check=True,
        cwd=folder,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )
    return [word for word in done.stdout.decode().split("\0") if word]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a user would have it: pictures, checkpoints, data, option files that end after two iterations."""
    monkeypatch.chdir(tmp_path)
    photograph = data.astronaut()
    for folder in ("photos", "scans", "datasets/real"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("photo.png", "photo.jpg", "photos/a.png", "scans/b.tif"):
        Image.fromarray(photograph[100:109, 200:212]).save(name)
    Image.fromarray(photograph[:64, :64]).save("datasets/real/c.png")
    for scale in (2, 3, 4):
        network = randomise(ESC(**TINY, upscaling_factor=scale))
        for name in (f"ESC_x{scale}_published.pth", f"ESC_x{scale}.pth"):
            write_weights(name, network.state_dict())
    for folder in ("datasets/DIV2K/DIV2K_train_HR", "datasets/Flickr2K/Flickr2K_HR", "DIV2K_train_HR", "Flickr2K_HR"):
        one_picture(tmp_path / folder, photograph)
    for folder in ("LSDIR", "DiverSeg-IP", "photographs", "photographs_to_validate", "Downloads/Manga109"):
        one_picture(tmp_path / folder, photograph)
    for folder in ("BSDS400", "T91", "General100", "Set14", "B100"):
        one_picture(tmp_path / folder, photograph[:200, :200])
    one_picture(tmp_path / "datasets/benchmark/Set5/HR", photograph[:96, :96])
    benchmark = tmp_path / "datasets/benchmark/Set14"
    one_picture(benchmark / "HR", photograph[:402, :402])
    (benchmark / "LR_bicubic/X2").mkdir(parents=True)
    Image.fromarray(photograph[:201, :201]).save(benchmark / "LR_bicubic/X2/HRx2.png")
    return tmp_path


def one_picture(folder: Path, picture: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / f"{folder.name}.png")


def small_option_file(path: str) -> None:
    """Put an option file of the repository at the same place, with little data and two iterations."""
    if Path(path).is_file():
        return
    if path in THEIRS:
        stem, model = THEIRS[path]
        content = {**yaml.safe_load(option_file(stem).read_text()), "model_type": model, "name": Path(path).stem}
    else:
        assert (ROOT / path).is_file(), f"{path} is not where the page says"
        content = yaml.safe_load((ROOT / path).read_text())
    scale = content.get("scale", 4)
    kept = [
        phase for phase in content["datasets"] if phase == "train" or phase.endswith("_1") or phase in ("val", "test")
    ]
    content["datasets"] = {phase: content["datasets"][phase] for phase in kept}
    for dataset in content["datasets"].values():
        small_dataset(dataset, int(dataset.get("scale", scale)))
    weights = content["path"].get("pretrain_network_g")
    bundled = bool(weights) and Path(weights).name.startswith("ESC_light")
    if content["network_g"]["type"] in ("ESC", "ESCRealM") and not bundled:
        content["network_g"].update(TINY)
    if content["network_g"]["type"] == "HAT":
        content["network_g"].update(
            depths=[1], num_heads=[2], embed_dim=16, window_size=8, squeeze_factor=4, compress_ratio=3
        )
    if weights and (path in THEIRS or "train" in content) and not Path(weights).is_file():
        content["path"]["pretrain_network_g"] = None  # what an earlier training would have written
    if "train" in content:
        content["train"].update(total_iter=2, warmup_iter=-1)
        content["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [1], "gamma": 0.5}
        if "val" in content:
            content["val"]["val_freq"] = 2
        content["logger"].update(print_freq=1, save_checkpoint_freq=2, use_tb_logger=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False))


def small_dataset(dataset: dict[str, Any], scale: int) -> None:
    photograph = data.astronaut()[:SIDE, :SIDE]
    gt, lq = Path(f"small/x{scale}/HR"), Path(f"small/x{scale}/LR")
    one_picture(gt, photograph)
    lq.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph).resize((SIDE // scale,) * 2, Image.Resampling.BICUBIC).save(lq / "HR.png")
    dataset.update(io_backend={"type": "disk"}, filename_tmpl="{}", dataset_enlarge_ratio=4)
    for key, folder in (("dataroot_gt", gt), ("dataroot_lq", lq)):
        if key in dataset:
            dataset[key] = str(folder)
    if "gt_size" in dataset:
        dataset.update(gt_size=SIDE // 2, batch_size_per_gpu=1, num_worker_per_gpu=0, prefetch_mode=None)


def run_training(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch import train

    run_with_options(train.main, args, monkeypatch)


def run_test(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch import test

    run_with_options(test.main, args, monkeypatch)


def run_report(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch import report

    run_with_options(report.main, args, monkeypatch)


def run_with_options(main: Callable[[], None], args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    path = args[args.index("-opt") + 1]
    small_option_file(path)
    if "--launcher" in args:
        args = args[: args.index("--launcher")]
    for argument in args:
        key, _, value = argument.partition("=")
        if key == "path:pretrain_network_g":
            write_checkpoint(value, yaml.safe_load(Path(path).read_text())["network_g"])
    args = [argument for argument in args if ":dataroot_" not in argument]
    monkeypatch.setattr(sys, "argv", ["command", *args])
    main()


def write_checkpoint(path: str, network: dict[str, Any]) -> None:
    from basicsr.archs import build_network

    if network["type"] == "HAT":
        pytest.importorskip("spandrel")
    if not Path(path).exists():
        write_weights(path, build_network(network).state_dict())


def run_upscale(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch.upscale.__main__ import main

    if "4x_ESCRealM.safetensors" in args:
        write_checkpoint("4x_ESCRealM.safetensors", {"type": "ESCRealM", **TINY, "upscaling_factor": 4})
    main(args)


def run_export(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch.export.__main__ import main

    if "onnx" in args:
        pytest.importorskip("onnxscript")
    main(args)


def read_compare(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring takes hours: the command is understood, and so are the files that it names."""
    from esc_arch.compare.__main__ import _parse
    from esc_arch.compare.options import read_rows
    from esc_arch.compare.paper_files import with_paper

    monkeypatch.chdir(ROOT)
    parsed = _parse(args)
    rows = read_rows(with_paper(parsed.files, parsed.paper), [], parsed.sets)
    assert [row.problems for row in rows if row.problems] == []


def run_web(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but waiting for visitors."""
    pytest.importorskip("gradio")
    from esc_arch.web import __main__ as web
    from esc_arch.web import server

    monkeypatch.setattr(server, "serve", lambda app, listening: None)
    web.main([*args, "--port", "0"])


def run_analyze(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure is made, of a small picture in place of those that the command names, or photographs."""
    pytest.importorskip("matplotlib")
    if args[0] == "lam":
        pytest.importorskip("captum")
        args = [*args, "--steps", "2"]
        monkeypatch.setattr("esc_arch.analyze.attribution.SAMPLES", 20)
    from esc_arch.analyze.__main__ import main
    from esc_arch.analyze.result import SUFFIXES

    side = 80 if "--lq" in args else 64
    small, out = Path("small.png").resolve(), Path("figures").resolve()
    Image.fromarray(data.astronaut()[:side, 100 : 100 + side]).save(small)
    monkeypatch.chdir(ROOT)
    main([*args, "--images", str(small), "--dpi", "50", "-o", str(out)])
    assert {f"{args[0]}{suffix}" for suffix in SUFFIXES} <= {file.name for file in out.iterdir()}


def read_benchmark(args: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch.benchmark import __main__ as benchmark

    for name in ("describe", "inference", "training", "roofline", "peak", "differences", "scans"):
        if hasattr(benchmark, name):
            monkeypatch.setattr(benchmark, name, lambda *_args, **_options: {})
    monkeypatch.setattr(sys, "argv", ["benchmark", "--help"])
    with pytest.raises(SystemExit) as end:
        benchmark.main()
    assert end.value.code == 0


MODULES: dict[str, Callable[[Command, pytest.MonkeyPatch], None]] = {
    "esc_arch.train": run_training,
    "esc_arch.test": run_test,
    "esc_arch.report": run_report,
    "esc_arch.upscale": run_upscale,
    "esc_arch.export": run_export,
    "esc_arch.compare": read_compare,
    "esc_arch.analyze": run_analyze,
    "esc_arch.benchmark": read_benchmark,
    "esc_arch.web": run_web,
}


def run_script(script: str, args: Command) -> None:
    main = runpy.run_path(str(ROOT / script))["main"]
    if "--opt" in args:
        small_option_file(args[args.index("--opt") + 1])
    if script != "datasets/prepare_demo.py":
        args = [*args, *(["--workers", "1"] if "prepare_training" in script else [])]
    main(args)


def extras_exist(command: str) -> None:
    content = (ROOT / "pyproject.toml").read_text()
    for extras in re.findall(r"\.\[([\w,-]+)\]", command):
        assert all(re.search(rf"^{extra} = \[", content, flags=re.MULTILINE) for extra in extras.split(",")), command


HARMLESS = ("python3 -m venv", ". .venv/bin/activate", "pytest", "tensorboard", "cd ", "pip install", "git ", "export ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem if page.stem != "README" else page.parent.name)
def test_commands(page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in commands(page):
        extras_exist(command)
        words = shlex.split(command)
        if "-m" in words and (module := words[words.index("-m") + 1]).startswith("esc_arch"):
            folder = ROOT if module in ("esc_arch.compare", "esc_arch.analyze") else workspace
            with monkeypatch.context() as patch:
                args = arguments(command.partition(f"-m {module}")[2], folder)
                MODULES[module](args, patch)
        elif words[0].startswith("python") and words[1].startswith("datasets/"):
            run_script(words[1], arguments(command.partition(words[1])[2], workspace))
        else:
            assert command.startswith(HARMLESS), f"nobody knows how to try: {command}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: f"{page.parent.name}-{page.stem}"
)
def test_python(page: Path, workspace: Path, tiny_options: dict[str, Any]) -> None:
    """The blocks of a page go on from each other, as one would type them."""
    names: dict[str, Any] = {}
    for code in blocks(page, "python"):
        if "train_pipeline" in code:
            run_script_of_ones_own(code, tiny_options)
            continue
        exec(compile(code, str(page), "exec"), names)
        if "Image.open" in code:
            assert names["enlarged"].shape == (18, 24, 3)


def run_script_of_ones_own(code: str, options: dict[str, Any]) -> None:
    Path("my_train.py").write_text(code)
    Path("my_options.yml").write_text(yaml.safe_dump(options))
    command = [sys.executable, "my_train.py", "-opt", "my_options.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path("experiments/tiny/models/net_g_latest.pth").is_file()


def test_no_other_language() -> None:
    for page in PAGES:
        for language, code in BLOCK.findall(page.read_text()):
            assert language in SHOWN_ONLY | {"bash", "sh", "python"}, f"{page.name}: {code}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_option_files_that_are_named_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"(?<![\w/-])options/[\w/]+\.yml", page.read_text()):
            assert (OPTIONS.parent / path).is_file(), f"{page.name}: {path}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
