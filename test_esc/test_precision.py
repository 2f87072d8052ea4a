"""The precision that tools compute in: what was asked for, or fp32 with the reason where bf16 would be slower."""

from __future__ import annotations

import pytest
import torch
from comparing import compare, networks, write

from esc_arch.common.precision import CHOICES, choose_dtype
from esc_arch.compare.options import Row
from esc_arch.compare.runtimes import leave_out
from esc_arch.fast import kernels

DEVICES = ("cpu", "cuda", "cuda:1", "mps")


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """Whether processor and GPU have instructions for bf16."""
    there = bool(request.param)
    monkeypatch.setattr(kernels, "has_bf16", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: there)
    return there


@pytest.mark.parametrize("capable", [True, False], indirect=True)
@pytest.mark.parametrize("device", DEVICES)
def test_every_dtype_on_every_device(device: str, capable: bool) -> None:
    assert CHOICES == ("auto", "fp32", "bf16", "fp16")
    assert choose_dtype("auto", device) == ("fp32", None)
    assert choose_dtype("fp32", device) == ("fp32", None)
    assert choose_dtype("fp16", device) == ("fp16", None)
    dtype, remark = choose_dtype("bf16", device)
    if capable or device == "mps":  # of Apple's GPUs PyTorch cannot tell, and all newer systems have it
        assert (dtype, remark) == ("bf16", None)
    else:
        assert dtype == "fp32"
        assert remark is not None
        assert remark.startswith("bf16: computing in fp32, since ")


def test_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "has_bf16", lambda: False)
    for there, why in ((True, "this processor has no AVX512_BF16"), (False, "the kernels were not compiled")):
        monkeypatch.setattr(kernels, "available", lambda there=there: there)
        assert choose_dtype("bf16", "cpu") == ("fp32", f"bf16: computing in fp32, since {why}.")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    sentence = "bf16: computing in fp32, since this GPU has no instructions for it."
    assert choose_dtype("bf16", "cuda:1") == ("fp32", sentence)


@pytest.mark.parametrize("name", ["", "BF16", "float32", "int8"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"dtype must be one of auto, fp32, bf16, fp16, got '{name}'"):
        choose_dtype(name, "cpu")


@pytest.mark.parametrize("capable", [True, False], indirect=True)
def test_compare_says_where_it_computes_in_another(capable: bool) -> None:
    """Beside what a row has to say already; the rows of other runtimes say so for themselves."""
    rows = [
        Row("a", "a.yml", dtype="fp32", remark="first"),
        Row("a bf16", "a.yml", dtype="bf16", remark="first"),
        Row("b bf16", "b.yml", dtype="bf16"),
        Row("b bf16 (OpenVINO)", "b.yml", dtype="bf16", runtime="openvino"),
    ]
    leave_out(rows, "cpu")
    sentence = choose_dtype("bf16", "cpu")[1]
    assert (sentence is None) == capable
    assert [row.remark for row in rows] == (
        ["first", "first", "", ""] if capable else ["first", f"first; {sentence}", sentence, ""]
    )


@pytest.mark.parametrize("capable", [False], indirect=True)
def test_compare_tells_it_to_its_readers(options: dict[str, object], capable: bool) -> None:
    asked = ["--dtype", "bf16", "--scores-only", "--device", "cpu", "--output", "out"]
    assert compare(write("a.yml", options), *asked) == 0
    (line,) = networks().values()
    assert (line["dtype"], line["remark"]) == ("bf16", choose_dtype("bf16", "cpu")[1])
    assert line["quality"]
