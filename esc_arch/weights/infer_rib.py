"""The arguments of ESC-RIB, from the shapes of its weights."""

from __future__ import annotations

from esc_arch.layers.upsample_head import Mark
from esc_arch.weights.shapes import (
    SAY_SCALE,
    WINDOW_OF_RIB,
    Arguments,
    Shapes,
    UndecidedError,
    count,
    infer_trunk,
    root,
)


def infer_esc_rib(shapes: Shapes, known: Arguments, _mark: Mark | None) -> Arguments:
    """Infer the arguments of `ESCRIB`; the window is that of the published networks where the weights do not tell it.

    Raises:
        UndecidedError: the weights are those of two networks.
    """
    attention = "blocks.0.attn."
    if not any(attention + name in shapes for name in ("to_hidden", "flashbias_q", "relative_position_bias")):
        if attention + "rope_freqs" in shapes:
            raise ValueError("its attention is 'RoPEViT', which is not here")
        heads = known.get("num_heads")
        if heads is None:
            raise UndecidedError("The weights (ESC-RIB without positions) do not tell their heads: say num_heads=...")
        trunk = infer_trunk(shapes, {"window_size": WINDOW_OF_RIB, "num_heads": heads, "attn_type": "NoPE"})
    else:
        trunk = {"attn_type": "auto", **infer_trunk(shapes)}  # a table, unless it says something else
    if trunk.get("rib_n_freqs") == 0 and known.get("attn_type") not in ("RIB", "RIBSiren"):
        raise UndecidedError(
            "The weights (ESC-RIB with two features of a place) do not tell whether a sine follows: say "
            "attn_type='RIBSiren', or 'RIB'."
        )
    gates = [attention + f"gate.{place}.weight" in shapes for place in (0, 1)]
    return {
        **trunk,
        **_infer_upsampler(shapes, known),
        "use_ln": "blocks.0.lns.0.weight" in shapes,
        "gate_type": "DWC" if gates[1] else "Linear" if gates[0] else None,
    }


def _infer_upsampler(shapes: Shapes, known: Arguments) -> Arguments:
    if "upsampler.f.0.weight" in shapes:
        # a convolution before and one after those that follow a step; the last one stands behind an activation
        doublings = count(shapes, r"upsampler\.f\.(\d+)\.weight") // 3 - 1
        scale = known.get("upscaling_factor") if doublings == 1 else 2**doublings
        if scale is None:
            raise UndecidedError(
                "The weights (ESC-RIB with 'nn+conv') do not tell whether they enlarge 2 or 3 times; " + SAY_SCALE
            )
        middle = shapes["upsampler.f.0.weight"][0]
        return {"upsampler_type": "nn+conv", "intermediate_dim": middle, "upscaling_factor": scale}
    enlarged = shapes["upsampler.up_conv.weight"][0]
    if "upsampler.feature_conv.weight" in shapes:
        middle = shapes["upsampler.feature_conv.weight"][0]
        scale = root(enlarged / middle, "the channels of upsampler.up_conv for each before")
        return {"upsampler_type": "pixelshuffle", "intermediate_dim": middle, "upscaling_factor": scale}
    return {"upscaling_factor": root(enlarged / 3, "a third of the channels of upsampler.up_conv")}
