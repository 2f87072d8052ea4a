"""The networks of this package. `NETWORKS` is what `import esc_arch` adds to BasicSR's ARCH_REGISTRY."""

from torch import nn

from esc_arch.archs.asid_arch import ASID, ASIDd8
from esc_arch.archs.bicubic_arch import Bicubic
from esc_arch.archs.catanet_arch import CATANet
from esc_arch.archs.elan_arch import ELAN
from esc_arch.archs.esc_ablation_arch import ESCAblation
from esc_arch.archs.esc_arch import ESC
from esc_arch.archs.esc_fp_arch import ESCFP
from esc_arch.archs.esc_lte_arch import ESCLTE
from esc_arch.archs.esc_real_arch import ESCReal, ESCRealM
from esc_arch.archs.esc_rib_arch import ESCRIB
from esc_arch.archs.hit_sr_arch import HiT_SIR, HiT_SNG, HiT_SRF
from esc_arch.archs.mambair_arch import MambaIR
from esc_arch.archs.mambairv2_arch import MambaIRv2Light
from esc_arch.layers.conv_attn import ConvAttn
from esc_arch.layers.decomposed_conv_attn import DecomposedConvAttn

NETWORKS: tuple[type[nn.Module], ...] = (
    ASID,
    ASIDd8,
    Bicubic,
    CATANet,
    ConvAttn,
    DecomposedConvAttn,
    ELAN,
    ESC,
    ESCAblation,
    ESCFP,
    ESCLTE,
    ESCRIB,
    ESCReal,
    ESCRealM,
    HiT_SIR,
    HiT_SNG,
    HiT_SRF,
    MambaIR,
    MambaIRv2Light,
)

__all__ = [
    "ASID",
    "ELAN",
    "ESC",
    "ESCFP",
    "ESCLTE",
    "ESCRIB",
    "NETWORKS",
    "ASIDd8",
    "Bicubic",
    "CATANet",
    "ESCAblation",
    "ESCReal",
    "ESCRealM",
    "HiT_SIR",
    "HiT_SNG",
    "HiT_SRF",
    "MambaIR",
    "MambaIRv2Light",
]
