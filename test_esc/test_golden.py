"""Our networks compute the numbers of the authors' implementations."""

from __future__ import annotations

import pytest
import torch
from conftest import GOLDEN, relative_difference

from esc_arch.archs import ESC, ESCFP, ESCReal, ESCRealM
from esc_arch.layers.backend import ATTN_TYPES

NETWORKS = {"ESC": ESC, "ESCFP": ESCFP, "ESCReal": ESCReal, "ESCRealM": ESCRealM}
FILES = ["esc_x2", "esc_x4", "escfp_x2", "escreal_x4", "escrealm_x2_nearest_plain", "escrealm_x4_pixelshuffle_mid48"]


@pytest.mark.parametrize("attn_type", ATTN_TYPES)
@pytest.mark.parametrize("name", FILES)
def test_golden_cases(name: str, attn_type: str) -> None:
    golden = torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    network = NETWORKS[golden["arch"]](**{**golden["kwargs"], "attn_type": attn_type})
    network.load_state_dict(golden["state_dict"], strict=True)
    for case in golden["cases"]:
        network.train(case["mode"] == "train")
        image = case["input"].clone()
        with torch.set_grad_enabled(case["mode"] == "train"):
            output = network(image)
        assert output.shape == case["output"].shape
        assert relative_difference(output, case["output"]) <= 1e-5, case["note"]
        assert torch.equal(image, case["input"]), "the input was modified"


@pytest.mark.parametrize("name", FILES)
def test_golden_batches_in_both_modes(name: str) -> None:
    golden = torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    network = NETWORKS[golden["arch"]](**golden["kwargs"])
    network.load_state_dict(golden["state_dict"])
    for case in golden["cases"]:
        for training in (False, True):
            output = network.train(training)(case["input"])
            assert relative_difference(output, case["output"]) <= 1e-5
