"""The table of options: values that are numbers or do not fit, names that are unknown, and what is made of it."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import OPTIONS

from esc_arch.checks import document, kinds
from esc_arch.checks.option_file import load
from esc_arch.checks.table import SECTIONS
from esc_arch.checks.values import find, force, pattern_of, read_values
from esc_arch.common.errors import UserError

Options = dict[str, Any]
DOCS = OPTIONS.parent / "docs"
FILES = sorted(OPTIONS.rglob("*.yml"))


def put(opt: Options, path: str, value: Any) -> Options:
    """A copy with the option at `a:b:c` set, or removed by `...`."""
    opt = copy.deepcopy(opt)
    *sections, key = path.split(":")
    place = opt
    for section in sections:
        place = place[section]
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return opt


def get(opt: Options, path: str) -> Any:
    for key in path.split(":"):
        opt = opt[key]
    return opt


@pytest.mark.parametrize(
    ("path", "written", "meant"),
    [
        ("train:optim_g:lr", "1e-4", 1e-4),
        ("train:optim_g:betas", ["0.9", "9e-1"], [0.9, 0.9]),
        ("train:warmup_iter", "-1", -1),
        ("train:total_iter", 5e5, 500000),
        ("train:scheduler:milestones", ["2e5", 4e5], [200000, 400000]),
        ("train:scheduler:milestones", "[2e5, 4e5]", [200000, 400000]),
        ("val:val_freq", "5e3", 5000),
        ("scale", 2.0, 2),
        ("datasets:train:use_hflip", "false", False),
        ("datasets:train:use_rot", 1, True),
        ("network_g:exp_ratio", "1e0", 1.0),
        ("train:ema_decay", "999e-3", 0.999),
    ],
)
def test_numbers_and_truth_values_written_as_text(tiny_options: Options, path: str, written: Any, meant: Any) -> None:
    read, told = read_values(put(tiny_options, path, written), is_train=True)
    assert get(read, path) == meant
    assert type(get(read, path)) is type(meant)
    assert not told


@pytest.mark.parametrize(
    "path", ["scale", "train:ema_decay", "val", "datasets:train:prefetch_mode", "train:warmup_iter"]
)
def test_nothing_is_as_if_the_option_were_not_there(tiny_options: Options, path: str) -> None:
    read, _ = read_values(put(tiny_options, path, None), is_train=True)
    *sections, key = path.split(":")
    assert key not in get(read, ":".join(sections)) if sections else key not in read


def test_nothing_that_means_something_is_kept(tiny_options: Options) -> None:
    read, _ = read_values(tiny_options, is_train=True)
    assert read["path"]["resume_state"] is None
    assert read["val"]["suffix"] is None
    read, _ = read_values(put(tiny_options, "val:suffix", ""), is_train=True)
    assert read["val"]["suffix"] is None


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("train:total_iter", 0, "train:total_iter is 0, but must be a whole number of at least 1"),
        ("train:total_iter", "many", "train:total_iter is 'many', but must be a whole number"),
        ("train:total_iter", 2.5, "must be a whole number"),
        ("train:total_iter", True, "train:total_iter is true, but must be a whole number"),
        ("train:total_iter", [4], "must be a whole number"),
        ("train:warmup_iter", -2, "of at least -1"),
        ("train:ema_decay", 1, "at least 0 and below 1"),
        ("train:ema_decay", math.nan, "must be a number"),
        ("train:optim_g:lr", -1e-3, "train:optim_g:lr is -0.001, but must be a number of at least 0"),
        ("train:optim_g:betas", 0.9, "must be a list of 2"),
        ("train:optim_g:betas", [0.9, 1.0], "must be a list of 2, each a number of at least 0 and below 1"),
        ("train:scheduler:milestones", [0], "each a whole number of at least 1"),
        ("train:scheduler:gamma", 0, "must be a number above 0"),
        ("train:pixel_opt", "L1Loss", "train:pixel_opt is 'L1Loss', but must be a section of options"),
        ("train:pixel_opt:reduction", "avg", "one of mean, sum"),
        ("datasets:train:batch_size_per_gpu", 0, "of at least 1"),
        ("datasets:train:num_worker_per_gpu", -1, "of at least 0"),
        ("datasets:train:dataset_enlarge_ratio", 0, "above 0"),
        ("datasets:train:use_hflip", "maybe", "true or false"),
        ("datasets:train:prefetch_mode", "gpu", "one of cpu, cuda"),
        ("datasets:train:io_backend:type", "hdf5", "one of disk, lmdb, memcached"),
        ("datasets:train:io_backend", ..., "the option datasets:train:io_backend is missing"),
        ("datasets:train:gt_size", -32, "of at least 1"),
        ("datasets:val_1:name", "a/b", "datasets:val_1:name is 'a/b', but must be the name of a folder"),
        ("val:val_freq", 0, "of at least 1"),
        ("val:save_img", "yes please", "true or false"),
        ("val:metrics:psnr:crop_border", -1, "of at least 0"),
        ("val:metrics:psnr:better", "more", "one of higher, lower"),
        ("logger:print_freq", 0, "of at least 1"),
        ("name", "..", "must be the name of a folder"),
        ("name", "", "must be the name of a folder"),
        ("name", "a\\b", "must be the name of a folder"),
        ("name", "n" * 201, "must be the name of a folder"),
        ("name", 17, "name is 17, but must be the name of a folder .* in quotes"),
        ("name", False, "name is false, .* in quotes"),
        ("num_gpu", -1, "auto, or a whole number of at least 0"),
        ("num_gpu", "all", "auto, or a whole number of at least 0"),
        ("scale", 0, "a number of at least 1"),
        ("scale", [4, 1], "the first not above the last"),
        ("manual_seed", "dice", "a whole number of at least 0 and at most 4293967296"),
        ("path:strict_load_g", 2, "true or false"),
        ("path:pretrain_network_g", 5, "must be a path in quotes"),
        ("datasets", [], "datasets is .*, but must be a section of options"),
    ],
)
def test_values_that_do_not_fit(tiny_options: Options, path: str, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_values(put(tiny_options, path, value), is_train=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("modeltype", "model_type"),
        ("datset", "datasets"),
        ("network_G", "network_g"),
        ("datasets:train:gtsize", "gt_size"),
        ("datasets:train:dataset_enlarge", "dataset_enlarge_ratio"),
        ("datasets:train:batch_size", "batch_size_per_gpu"),
        ("datasets:train:io_backend:typ", "type"),
        ("path:pretrained_network_g", "pretrain_network_g"),
        ("path:pretrain_model_g", "pretrain_network_g"),
        ("train:ema_deacy", "ema_decay"),
        ("train:warmup_iters", "warmup_iter"),
        ("train:pixle_opt", "pixel_opt"),
        ("train:optimg", "optim_g"),
        ("val:save_image", "save_img"),
        ("logger:print_frequ", "print_freq"),
    ],
)
def test_misspelt_keys(tiny_options: Options, path: str, meant: str) -> None:
    """Also where the right key is missing, the misspelling is named and not only what is missing."""
    *sections, _ = path.split(":")
    opt = put(tiny_options, path, 1)
    place = get(opt, ":".join(sections)) if sections else opt
    place.pop(meant, None)
    with pytest.raises(UserError, match=rf"^{path} is no option; did you mean '{meant}'\?$"):
        read_values(opt, is_train=True)


def test_a_misspelling_beside_the_right_key(tiny_options: Options) -> None:
    tiny_options["train"]["pixel_op"] = {"type": "MSELoss"}
    tiny_options["trian"] = {"total_iter": 9}
    (told,) = read_values(tiny_options, is_train=True)[1]
    assert "train:pixel_op (did you mean pixel_opt, which is there too?)" in told
    assert "trian (did you mean train, which is there too?)" in told


def test_keys_that_mean_nothing_here_are_named_once(tiny_options: Options) -> None:
    """What other projects write is no reason to refuse their files."""
    tiny_options["datasets"]["train"].update(use_shuffle=False, sinc_prob=0.1)
    tiny_options["train"]["wibble"] = {"a": 1}
    tiny_options.update(ema_decay=0.9, gt_usm=True)
    read, told = read_values(tiny_options, is_train=True)
    assert len(told) == 1
    for words in (
        "use_shuffle",
        "sinc_prob",
        "train:wibble",
        "did you mean train:ema_decay",
        "gt_usm (not read by ESCModel)",
    ):
        assert words in told[0]
    assert read["train"]["wibble"] == {"a": 1}  # somebody's own class may read it


def test_what_happens_anyway_needs_no_word(tiny_options: Options) -> None:
    tiny_options["datasets"]["train"]["use_shuffle"] = True
    assert read_values(tiny_options, is_train=True)[1] == []


@pytest.mark.parametrize("name", ["test_1", "valid_1", "train_1"])
def test_data_sets_that_training_does_not_know(tiny_options: Options, name: str) -> None:
    tiny_options["datasets"][name] = tiny_options["datasets"]["val_1"]
    with pytest.raises(UserError, match=f"datasets:{name} is no data set that training knows"):
        read_values(tiny_options, is_train=True)


def test_testing_without_val(tiny_options: Options) -> None:
    """As in files of BasicSR: the images are what there is to see."""
    tiny_options["datasets"] = {"test_1": tiny_options["datasets"]["val_1"]}
    read, _ = read_values(put(tiny_options, "val", ...), is_train=False)
    assert read["val"] == {"save_img": True, "suffix": None}


@pytest.mark.parametrize(
    ("entry", "path", "value"),
    [
        ("train:optim_g:lr=1e-4", "train:optim_g:lr", 1e-4),
        ("train:warmup_iter=-1", "train:warmup_iter", -1),
        ("train:scheduler:milestones=[2e5, 4e5]", "train:scheduler:milestones", [200000, 400000]),
        ("train:total_iter=!!float 5e3", "train:total_iter", 5000),
        ("name=2024", "name", "2024"),
        ("name=a=b", "name", "a=b"),
        ("path:pretrain_network_g=~", "path:pretrain_network_g", None),
        ("val:pbar=true", "val:pbar", True),  # known, but not in the file
        ("network_g:kernel_size=7", "network_g:kernel_size", 7),
        ("logger:wandb:project=mine", "logger:wandb:project", "mine"),
    ],
)
def test_force_yml(tiny_options: Options, entry: str, path: str, value: Any) -> None:
    force(tiny_options, [entry], is_train=True)
    read, _ = read_values(tiny_options, is_train=True)
    assert get(read, path) == value
    assert type(get(read, path)) is type(value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("train:total_iters=2", r"'train:total_iters' is no option; did you mean 'train:total_iter'\?"),
        ("trian:total_iter=2", r"'trian' is no option; did you mean 'train'\?"),
        ("datasets:train:wibble=2", "'datasets:train:wibble' is no option; it is neither in the file nor known"),
        ("train:total_iter", "write section:key=value"),
        ("name:x=2", "--force_yml: name is an option, not a section; write name=value"),
        ("train:scheduler:milestones:0=2", "milestones is an option, not a section"),
        ("train:=2", "write section:key=value"),
        ("train:scheduler:milestones=[1, 2", "cannot be understood"),
        ("train:scheduler:milestones=[a]", "each a whole number"),
        ('train:x"];import os;y["=1', "is no option"),
    ],
)
def test_force_yml_mistakes(tiny_options: Options, entry: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        _read_forced(tiny_options, entry)


def _read_forced(opt: Options, entry: str) -> None:
    force(opt, [entry], is_train=True)
    read_values(opt, is_train=True)


def test_file_with_a_byte_order_mark_and_merged_sections(tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    file.write_bytes(b"\xef\xbb\xbfa: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert load(str(file)) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_files_in_other_encodings(tmp_path: Path, encoding: str, ends: str) -> None:
    file = tmp_path / "o.yml"
    file.write_bytes(f"# größer{ends}a: größer{ends}b: [1, 2]{ends}".encode(encoding))
    assert load(str(file)) == {"a": "größer", "b": [1, 2]}


@pytest.mark.parametrize("encoding", ["latin-1", "gbk"])
def test_bytes_that_are_no_text_may_stand_in_comments_alone(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "o.yml"
    words = "größer" if encoding == "latin-1" else "训练"
    file.write_bytes(f"# {words}\na: 1\n".encode(encoding))
    assert load(str(file)) == {"a": 1}
    file.write_bytes(f"a: 1\nb: {{c: [{words}]}}\n".encode(encoding))
    with pytest.raises(UserError, match=r"o\.yml is not written in UTF-8 \(see line 2\); save it as UTF-8"):
        load(str(file))


def test_dates_and_words_of_yaml_are_told_as_what_they_are(tiny_options: Options, tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    for text, words in (
        ("2024-01-01", "name is 2024-01-01, to YAML a date, but must be the name of a folder .* in quotes"),
        ("on", "name is true, .* in quotes, without which YAML reads on, off, yes and no so"),
        ("123", "name is 123, .* in quotes"),
    ):
        file.write_text(f"name: {text}\n")
        with pytest.raises(UserError, match=words):
            read_values({**tiny_options, **load(str(file))}, is_train=True)


@pytest.mark.parametrize(("text", "value"), [
    ("010", 10), ("-010", -10), ("0_10", 10), ("00", 0), ("08", "08"), ("0x10", 16), ("1_000", 1000), ("1_0.5", 10.5),
    ("12:30", "12:30"), ("1:30:15.5", "1:30:15.5"), ("190:20", "190:20"), ("=", "="), ("0.5", 0.5), (".5", 0.5),
    ("-7", -7), ("0", 0), ("'010'", "010"), ("[010, 12:30]", [10, "12:30"]), ("0o17", "0o17"), ("y", "y"),
])  # fmt: skip
def test_numbers_are_read_as_they_are_written(tmp_path: Path, text: str, value: object) -> None:
    """YAML 1.1 takes 010 for 8 and 12:30 for 750."""
    file = tmp_path / "o.yml"
    file.write_text(f"a: {text}\n")
    read = load(str(file))["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("option", "text", "value"), [
    ("total_iter", "010", 10), ("total_iter", "08", 8), ("total_iter", "1_000", 1000), ("total_iter", "12:30", None),
    ("total_iter", "yes", None), ("total_iter", "0o17", None), ("warmup_iter", "off", None),
    ("ema_decay", "0:1", None),
])  # fmt: skip
def test_numbers_of_options_are_those_written_or_told(
    tiny_options: Options, tmp_path: Path, option: str, text: str, value: int | None
) -> None:
    """In the file and on the command line."""
    file = tmp_path / "o.yml"
    file.write_text(f"{option}: {text}\n")
    given = [{**tiny_options, "train": {**tiny_options["train"], **load(str(file))}}]
    if "_0" not in text:  # a command line has no such numbers
        given.append({**tiny_options, "train": dict(tiny_options["train"])})
        force(given[1], [f"train:{option}={text}"], is_train=True)
    for opt in given:
        if value is None:
            with pytest.raises(UserError, match=f"train:{option} is (true|false|'{text}'), but must be a"):
                read_values(opt, is_train=True)
        else:
            assert read_values(opt, is_train=True)[0]["train"][option] == value


def test_words_that_yaml_takes_for_truth_values_are_told_where_a_path_is_meant(tiny_options: Options) -> None:
    tiny_options["datasets"]["train"]["dataroot_gt"] = False
    with pytest.raises(UserError, match=r"dataroot_gt is false, .* in quotes, without which YAML reads on, off"):
        read_values(tiny_options, is_train=True)


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "- a\n- b", "words"])
def test_files_without_options(tmp_path: Path, text: str) -> None:
    file = tmp_path / "o.yml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"o\.yml holds no options"):
        load(str(file))


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.getcwd []",
        "a: !!float x",
        "a: 1\na: 2",
        "{[a]: 1}",
        "a: *b",
        "a: 1\n\tb: 2",
        "a: 1\0",
    ],
)
def test_files_that_are_no_option_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "o.yml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"o\.yml is not valid YAML") as caught:
        load(str(file))
    assert "unicode string" not in str(caught.value)


NEOSR = """name = "a"
use_amp = true
#manual_seed = 1
[datasets.train]
type = "paired"
patch_size = 64
[network_g]
type = "esc"
"""
MMAGIC = """_base_ = ['../default_runtime.py']
experiment_name = 'srresnet'
model = dict(
    type='BaseEditModel',
)
"""
KAIR = """{
  "task": "swinir_x2"    //  classical
  , "model": "plain"
  , "path": {"root": "superresolution", "pretrained_netG": null}
}
"""
TRAINNER = "name: a\ndatasets:\n  train:\n    type: pairedimagedataset\n    lq_size: 64\n"
TRAINNER_LOSSES = "name: a\ntrain:\n  losses:\n    - type: l1loss\n      loss_weight: 1.0\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NEOSR, "TOML, as neosr's option files are"),
        (MMAGIC, "a program"),
        (KAIR, "an option file of KAIR"),
        (re.sub("//.*", "", KAIR), "an option file of KAIR"),
        (TRAINNER, "an option file of traiNNer-redux"),
        (TRAINNER_LOSSES, "an option file of traiNNer-redux"),
    ],
)
def test_files_of_other_forms_are_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "o.yml"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"o\.yml is {words}.*, and of another form .* carry the values over\."):
        load(str(file))


OWN = """
train:
  losses:
    - type: MyLoss
datasets:
  train:
    type: MyDataset
    lq_size: 64
"""


def test_options_of_classes_of_ones_own_are_not_taken_for_another_form(tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    file.write_text(OWN)
    assert load(str(file))["datasets"]["train"]["lq_size"] == 64


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_option_files_of_this_package_are_all_known(file: Path) -> None:
    opt = load(str(file))
    is_train = "train" in opt
    read, told = read_values(opt, is_train)
    assert told == []
    again, _ = read_values(read, is_train)
    assert again == read


def test_every_option_of_the_table_is_found_by_its_path() -> None:
    for section, options in SECTIONS.items():
        path = tuple(section.replace("optim_*", "optim_g").replace("*_opt", "pixel_opt").replace("*", "g").split(":"))
        path = path if section else ()
        assert pattern_of(path) == section
        for name, option in options.items():
            assert find((*path, name.replace("*", "g"))) is option
            assert option.kind.allowed
            assert isinstance(option.kind, kinds.Kind)


def test_pages_are_current() -> None:
    """Otherwise: python -m esc_arch.checks.document"""
    assert (DOCS / "options.md").read_text(encoding="utf-8") == document.page()
    assert json.loads((DOCS / "options.schema.json").read_text(encoding="utf-8")) == document.schema()


def test_schema_takes_the_option_files_and_finds_mistakes(tiny_options: Options) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    described = document.schema()
    jsonschema.Draft7Validator.check_schema(described)
    validator = jsonschema.Draft7Validator(described)
    for file in FILES:
        assert [error.message for error in validator.iter_errors(yaml.safe_load(file.read_text()))] == [], file
    for path, value in (
        ("train:total_iter", 0),
        ("name", "a/b"),
        ("train:wibble", 1),
        ("val:save_img", "x"),
        ("scale", []),
    ):
        assert not validator.is_valid(put(tiny_options, path, value)), path
