"""Recognising MambaIR, MambaIRv2, ASID and CATANet, and inferring their arguments."""

from __future__ import annotations

import math

from torch import nn

from esc_arch.archs import ASID, ASIDd8, CATANet, MambaIR, MambaIRv2Light
from esc_arch.layers.upsample_head import Mark
from esc_arch.weights.shapes import Arguments, Infer, Shapes, count, ratio_of, root

MAMBA = "layers.{}.residual_group.blocks."
ATTENTIVE = "layers.{}.residual_group.layers."
PUBLISHED_CATANET = {"dim": 40, "qk_dim": 36, "mlp_dim": 96, "block_num": 8, "num_tokens": [16, 32, 64, 128] * 2}
UNTOLD_BY_CATANET = ("heads", "group_size", "patch_size")


def recognise_rival(shapes: Shapes) -> tuple[type[nn.Module], Infer] | None:
    """Recognise one of these networks by names that no other has; None where it is another.

    Args:
        shapes: of the weights, by name.

    Returns:
        the network and a function as of `infer.recognise`.
    """
    if MAMBA.format(0) + "0.self_attention.A_logs" in shapes:
        return MambaIR, _infer_mambair
    if ATTENTIVE.format(0) + "0.assm.embeddingB.weight" in shapes:
        return MambaIRv2Light, _infer_mambairv2
    if "block0.residual_layer.0.SLA1.attn.rel_pos_bias.weight" in shapes:
        return (ASIDd8 if "block7.res_end.weight" in shapes else ASID), _infer_asid
    if "blocks.0.0.irca_attn.to_k.weight" in shapes:
        return CATANet, _infer_catanet
    return None


def _infer_mambair(shapes: Shapes, _known: Arguments, _mark: Mark | None) -> Arguments:
    rates = shapes[MAMBA.format(0) + "0.self_attention.A_logs"]  # of four directions
    frame = _infer_frame(shapes, MAMBA)
    return {**frame, "d_state": rates[1], "mlp_ratio": ratio_of(rates[0] // 4, frame["embed_dim"])}


def _infer_mambairv2(shapes: Shapes, _known: Arguments, _mark: Mark | None) -> Arguments:
    layer = ATTENTIVE.format(0) + "0."
    hidden, states = shapes[layer + "assm.selectiveScan.A_logs"]
    num_tokens, rank = shapes[layer + "assm.embeddingB.weight"]
    frame = _infer_frame(shapes, ATTENTIVE)
    table = ATTENTIVE + "0.win_mhsa.relative_position_bias_table"
    return {
        **frame,
        "d_state": states,
        "num_heads": [shapes[table.format(group)][1] for group in range(len(frame["depths"]))],
        "window_size": (root(shapes[table.format(0)][0], "the number of relative positions") + 1) // 2,
        "inner_rank": rank,
        "num_tokens": num_tokens,
        "mlp_ratio": ratio_of(hidden, frame["embed_dim"]),
    }


def _infer_frame(shapes: Shapes, prefix: str) -> Arguments:
    """Infer the arguments of `SwinFrame` and the number of blocks in every group."""
    dim, in_chans = shapes["conv_first.weight"][:2]
    groups = count(shapes, r"layers\.(\d+)\.")
    arguments: Arguments = {
        "embed_dim": dim,
        "in_chans": in_chans,
        "depths": [count(shapes, prefix.format(group).replace(".", r"\.") + r"(\d+)\.") for group in range(groups)],
        "resi_connection": "3conv" if "conv_after_body.0.weight" in shapes else "1conv",
    }
    if "conv_before_upsample.0.weight" in shapes:
        steps = sorted(name for name in shapes if name.startswith("upsample.") and name.endswith(".weight"))
        factors = [root(shapes[name][0] / shapes[name][1], "what a step of upsample multiplies") for name in steps]
        return {**arguments, "upsampler": "pixelshuffle", "upscale": math.prod(factors)}
    if "upsample.0.weight" in shapes:
        scale = root(shapes["upsample.0.weight"][0] / in_chans, "the channels of upsample.0 for each of the image")
        return {**arguments, "upsampler": "pixelshuffledirect", "upscale": scale}
    return {**arguments, "upsampler": "", "upscale": 1}


def _infer_asid(shapes: Shapes, _known: Arguments, _mark: Mark | None) -> Arguments:
    dim, in_chans = shapes["input.weight"][:2]
    return {
        "num_in_ch": in_chans,
        "num_out_ch": in_chans,
        "num_feat": dim,
        "upsampling": root(shapes["up.0.weight"][0] / in_chans, "the channels of up.0 for each of the image"),
        "bias": "input.bias" in shapes,
    }


def _infer_catanet(shapes: Shapes, known: Arguments, _mark: Mark | None) -> Arguments:
    blocks = count(shapes, r"blocks\.(\d+)\.")
    dim, in_chans = shapes["first_conv.weight"][:2]
    arguments: Arguments = {
        "in_chans": in_chans,
        "upscale": 4 if "upconv1.weight" in shapes else 1,
        "dim": dim,
        "block_num": blocks,
        "num_tokens": [shapes[f"blocks.{block}.0.means"][0] for block in range(blocks)],
        "qk_dim": shapes["blocks.0.0.irca_attn.to_k.weight"][0],
        "mlp_dim": shapes["blocks.0.0.mlp.fn.fc1.weight"][0],
    }
    if "upconv.weight" in shapes:
        arguments["upscale"] = root(shapes["upconv.weight"][0] / dim, "what upconv multiplies")
    published = all(arguments[name] == value for name, value in PUBLISHED_CATANET.items())
    if not published and (untold := [name for name in UNTOLD_BY_CATANET if name not in known]):
        raise ValueError(
            f"this is not the published configuration, and shapes do not tell all of it; give {', '.join(untold)} as "
            "keyword arguments"
        )
    return arguments if published else {**arguments, "n_iters": known.get("n_iters", [5] * blocks)}
