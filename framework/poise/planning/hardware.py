"""GPUs and networks by name, with the numbers of their makers' data sheets."""

from collections.abc import Mapping
from dataclasses import dataclass

from poise.errors import nearest

GB = 10**9
TERA = 10**12


@dataclass(frozen=True)
class Gpu:
    """One GPU; rates are peaks, dense where a data sheet has sparse ones as well.

    Args:
        told: what it is called in full.
        memory: bytes.
        bandwidth: of the memory, bytes a second.
        link: to other GPUs of the node, bytes a second in each direction.
        float64, float32, tf32, bfloat16: floating-point operations a second.
    """

    told: str
    memory: float
    bandwidth: float
    link: float
    float64: float
    float32: float
    tf32: float
    bfloat16: float

    @property
    def has_bfloat16(self) -> bool:
        """Whether it has units for it."""
        return self.bfloat16 > self.float32


@dataclass(frozen=True)
class Network:
    """What joins nodes.

    Args:
        told: what it is called in full.
        bandwidth: of each node, bytes a second in each direction.
    """

    told: str
    bandwidth: float


def _gpu(told: str, memory: float, bandwidth: float, link: float, *teraflops: float) -> Gpu:
    """In the units of data sheets: GB, GB/s, GB/s, and 10¹² operations a second."""
    return Gpu(told, memory * GB, bandwidth * GB, link * GB, *(TERA * rate for rate in teraflops))


GPUS: Mapping[str, Gpu] = {
    # NVIDIA V100 data sheet, 2020; it has no TF32, for which float32 stands, and no bfloat16, which is not planned
    "v100": _gpu("V100 SXM2 32 GB", 32, 900, 150, 7.8, 15.7, 15.7, 15.7),
    # NVIDIA A10 data sheet, 2021; float64 by its architecture at 1/64 of float32
    "a10": _gpu("A10 24 GB", 24, 600, 32, 31.2 / 64, 31.2, 62.5, 125),
    # NVIDIA L40S data sheet, 2023; float64 likewise
    "l40s": _gpu("L40S 48 GB", 48, 864, 32, 91.6 / 64, 91.6, 183, 362),
    # NVIDIA A100 data sheet, 2022
    "a100": _gpu("A100 SXM 80 GB", 80, 2039, 300, 9.7, 19.5, 156, 312),
    # NVIDIA H100 data sheet, 2023; its tensor cores' rates are printed with sparsity, and halved here
    "h100": _gpu("H100 SXM 80 GB", 80, 3350, 450, 34, 67, 494.5, 989.5),
    # NVIDIA H200 data sheet, 2024; likewise
    "h200": _gpu("H200 SXM 141 GB", 141, 4800, 450, 34, 67, 494.5, 989.5),
}
NETWORKS: Mapping[str, Network] = {
    "ethernet_10": Network("10 Gb/s Ethernet", 10 * GB / 8),
    "ethernet_25": Network("25 Gb/s Ethernet", 25 * GB / 8),
    "ethernet_100": Network("100 Gb/s Ethernet", 100 * GB / 8),
    "ib_200": Network("InfiniBand HDR, 200 Gb/s", 200 * GB / 8),
    "ib_400": Network("InfiniBand NDR, 400 Gb/s", 400 * GB / 8),
    "ib_8x200": Network("8 ports of InfiniBand HDR, as in a DGX A100", 1600 * GB / 8),
    "ib_8x400": Network("8 ports of InfiniBand NDR, as in a DGX H100", 3200 * GB / 8),
}


def mistake(what: str, name: str, known: Mapping[str, object]) -> str:
    """What is wrong with a name; "" where it is known.

    Args:
        what: the setting, `gpu` or `network`.
        name: as given.
        known: GPUS or NETWORKS.
    """
    if name in known:
        return ""
    return f"{what}={name}: there is no {what} {name!r}; it is one of {', '.join(known)}.{nearest(name, known)}"
