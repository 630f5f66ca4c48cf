"""Preset links: energy per bit, bandwidth, latency, packets, and the source of each number.

A number without a source is None. Every figure is for one direction of a full-duplex link. `boundary` says what the
energy figure includes. The name of a preset says its width; `Link.wide(k)` returns a link k times as wide.
"""

import dataclasses

from snap_jax.cost.link import Link as Link
from snap_jax.cost.units import Number, Range

_UCIE = "Converge Digest on D. Das Sharma, Hot Interconnects 2025"
_UCIE_BOUNDARY = "die-to-die PHY, published target; no measured silicon figure was found"
_UCIE_LOW = "; the lower figure is for 16 GT/s and below"
_UCIE_FLIT = "; whole flits of 68 bytes (64 payload, 2 header, 2 CRC): UCIe specification 1.1, 3.3"
_UCIE_FLIT_256 = "; whole flits of 256 bytes (236 payload), the format of PCIe 6: UCIe specification 1.1, 3.3.3"
_PIMID = "PIMID interconnect table"
_AS_TABULATED = "as tabulated; the table does not say what is included"
_PCIE_TLP = (
    "; a transaction packet adds 24 bytes (4 STP, 16 header, 4 LCRC) to at most 256 of payload in whole words of 4, "
    "128b/130b: PCI Express base specification"
)
_ETHERNET_FRAME = (
    "; frame overhead 38 bytes (8 preamble, 14 header, 4 FCS, 12 gap) on 46 to 1500: IEEE 802.3; headers of IP are "
    "part of the payload there and not counted"
)
_ROCE_FRAME = (
    "; overhead 82 bytes (38 of Ethernet, 20 IPv4, 8 UDP, 12 BTH, 4 ICRC) on 4096, padded to 4: "
    "IEEE 802.3, RFC 791, RFC 768, InfiniBand specification 1.4 annex A17"
)
_TCP_FRAME = "; overhead 78 bytes (38 of Ethernet, 20 IPv4, 20 TCP) on 1460: IEEE 802.3, RFC 791, RFC 9293"
_INFINIBAND_PACKET = (
    "; overhead 26 bytes (8 LRH, 12 BTH, 4 ICRC, 2 VCRC) on 4096, padded to 4: InfiniBand specification 1.4"
)
_ICI = "jax-ml scaling-book, TPU chapter"
_ICI_BOUNDARY = "one link, one way; energy not published"


def _pcie(name: str, giga_transfers: int, pj_per_bit: Range, boundary: str, source: str) -> Link:
    return Link(
        name=name,
        boundary=boundary,
        source=source + _PCIE_TLP,
        pj_per_bit=pj_per_bit,
        gbyte_per_s=Range.exactly(16 * giga_transfers / 8 * 128 / 130),
        packet_bytes=256,
        pad_bytes=4,
        header_bytes=24,
    )


def _ethernet(name: str, gbit_per_s: Number, latency_ns: Range | None = None, latency_source: str = "") -> Link:
    return Link(
        name=name,
        boundary="port to port, end to end",
        source=f"line rate {gbit_per_s:g} Gb/s{latency_source}{_ETHERNET_FRAME}",
        gbyte_per_s=Range.exactly(gbit_per_s / 8),
        latency_ns=latency_ns,
        packet_bytes=1500,
        header_bytes=38,
        least_packet_bytes=84,
    )


def _ici(generation: str, gbyte_per_s: Number) -> Link:
    return Link(
        name=f"TPU {generation} ICI",
        boundary=_ICI_BOUNDARY,
        source=_ICI,
        gbyte_per_s=Range.exactly(gbyte_per_s),
        latency_ns=Range.exactly(1000.0),
    )


UCIE_STANDARD = Link(
    name="UCIe standard package, x16 at 32 GT/s",
    boundary=_UCIE_BOUNDARY + _UCIE_LOW,
    source=_UCIE + _UCIE_FLIT,
    pj_per_bit=Range(0.5, 0.6),
    gbyte_per_s=Range.exactly(64.0),  # 16 lanes each way x 32 GT/s / 8
    latency_ns=Range.exactly(1.0),  # half of the published round trip of about 2 ns
    packet_bytes=64,
    header_bytes=4,
    flit_bytes=68,
)
UCIE_ADVANCED = Link(
    name="UCIe advanced package, x64 at 32 GT/s",
    boundary=_UCIE_BOUNDARY,
    source=_UCIE + _UCIE_FLIT,
    pj_per_bit=Range(0.25, 0.3),
    gbyte_per_s=Range.exactly(256.0),  # 64 lanes each way x 32 GT/s / 8
    latency_ns=Range.exactly(1.0),
    packet_bytes=64,
    header_bytes=4,
    flit_bytes=68,
)
UCIE_STANDARD_256 = dataclasses.replace(
    UCIE_STANDARD,
    name="UCIe standard package, x16 at 32 GT/s, 256-byte flits",
    source=_UCIE + _UCIE_FLIT_256,
    packet_bytes=236,
    header_bytes=20,
    flit_bytes=256,
)
UCIE_3D_MM2 = Link(
    name="UCIe 3D, 1 mm²",
    boundary=_UCIE_BOUNDARY + "; bandwidth is the published upper limit of one square millimetre",
    source=_UCIE,
    pj_per_bit=Range(0.01, 0.05),
    gbyte_per_s=Range.exactly(300_000.0),
)
GRS_PIN = Link(
    name="GRS, 1 pin",
    boundary=_AS_TABULATED,
    source="JSSC 2019, as tabulated by PIMID",
    pj_per_bit=Range.exactly(1.17),
    gbyte_per_s=Range.exactly(25 / 8),
    process_node="16 nm",
)
NVLINK_C2C = Link(
    name="NVLink-C2C",
    boundary="chip-to-chip link of a superchip; latency published as below 5 ns",
    source="G. Lockwood; besthub (both secondary)",
    pj_per_bit=Range.exactly(1.3),
    gbyte_per_s=Range.exactly(450.0),
    latency_ns=Range(0.0, 5.0),
)
NVLINK_4 = Link(
    name="NVLink 4 (H100)",
    boundary="all links of one GPU; latency of a step for the LL (low) and Simple (high) protocols",
    source="NCCL source (latency of a step); nccl-tests#212 (370 effective of 450 GB/s)",
    gbyte_per_s=Range(370.0, 450.0),
    latency_ns=Range(600.0, 3400.0),
)
ICI_V4P = _ici("v4p", 45.0)
ICI_V5E = _ici("v5e", 45.0)
ICI_V5P = _ici("v5p", 90.0)
ICI_V6E = _ici("v6e", 90.0)
PCIE3 = _pcie("PCIe 3 x16", 8, Range.exactly(4.0), _AS_TABULATED, _PIMID)
PCIE4 = _pcie("PCIe 4 x16", 16, Range(1.93, 6.0), "low figure is the transmitter only", _PIMID)
PCIE5 = _pcie("PCIe 5 x16", 32, Range(7.6, 11.4), _AS_TABULATED, _PIMID)
UALINK_200G_LANE = Link(
    name="UALink 200G, 1 lane",
    boundary=_AS_TABULATED,
    source="arXiv 2510.15893, as tabulated by PIMID",
    pj_per_bit=Range.exactly(3.5),
    gbyte_per_s=Range.exactly(25.0),
)
INFINIBAND_400G = Link(
    name="InfiniBand 400G",
    boundary="port to port, end to end",
    source="line rate 400 Gb/s; latency 1 to 10 µs: a blog, secondary" + _INFINIBAND_PACKET,
    gbyte_per_s=Range.exactly(50.0),
    latency_ns=Range(1000.0, 10_000.0),
    packet_bytes=4096,
    pad_bytes=4,
    header_bytes=26,
)
ETHERNET_400G = _ethernet("Ethernet 400G", 400.0, Range(1000.0, 10_000.0), "; latency 1 to 10 µs: a blog, secondary")
ROCE_400G = dataclasses.replace(
    ETHERNET_400G,
    name="RoCE v2 400G",
    source="line rate 400 Gb/s; latency 1 to 10 µs: a blog, secondary" + _ROCE_FRAME,
    packet_bytes=4096,
    pad_bytes=4,
    header_bytes=82,
)
ETHERNET_10G = _ethernet("Ethernet 10G", 10.0)
OPTICS_400G = dataclasses.replace(
    ETHERNET_400G,
    name="Ethernet 400G, pluggable optics",
    boundary="two optical modules at their limit of 12 W each, at full rate; adapters and switches not included",
    source=f"{ETHERNET_400G.source}; Wavesplitter WST-QD4-FR4-C (400G-FR4, 2 km): 12 W at most",
    pj_per_bit=Range.exactly(60.0),
)
_INTERNET = _ethernet("Internet 200M", 0.2)
INTERNET_200M = dataclasses.replace(
    _INTERNET,
    boundary="core and fixed access networks: their energy divided by their traffic, not what one more bit costs",
    source=f"{_INTERNET.source}; 0.06 kWh/GB in 2015: Aslan et al., J. Industrial Ecology 2018; 0.007 in 2020: "
    "extrapolated from it, as quoted by V. Coroama 2021",
    pj_per_bit=Range(3.15e6, 2.7e7),
)
TCP_10G = dataclasses.replace(
    ETHERNET_10G,
    name="TCP over Ethernet 10G",
    source="line rate 10 Gb/s" + _TCP_FRAME,
    packet_bytes=1460,
    header_bytes=78,
)
ON_CHIP_WIRE_MM = Link(
    name="on-chip wire, 1 mm",
    boundary="one millimetre of wire, no router",
    source="Noxim power.yaml",
    pj_per_bit=Range.exactly(0.049),
)

PRESETS: dict[str, Link] = {
    "UCIE_STANDARD": UCIE_STANDARD,
    "UCIE_STANDARD_256": UCIE_STANDARD_256,
    "UCIE_ADVANCED": UCIE_ADVANCED,
    "UCIE_3D_MM2": UCIE_3D_MM2,
    "GRS_PIN": GRS_PIN,
    "NVLINK_C2C": NVLINK_C2C,
    "NVLINK_4": NVLINK_4,
    "ICI_V4P": ICI_V4P,
    "ICI_V5E": ICI_V5E,
    "ICI_V5P": ICI_V5P,
    "ICI_V6E": ICI_V6E,
    "PCIE3": PCIE3,
    "PCIE4": PCIE4,
    "PCIE5": PCIE5,
    "UALINK_200G_LANE": UALINK_200G_LANE,
    "INFINIBAND_400G": INFINIBAND_400G,
    "ETHERNET_400G": ETHERNET_400G,
    "ROCE_400G": ROCE_400G,
    "ETHERNET_10G": ETHERNET_10G,
    "TCP_10G": TCP_10G,
    "OPTICS_400G": OPTICS_400G,
    "INTERNET_200M": INTERNET_200M,
    "ON_CHIP_WIRE_MM": ON_CHIP_WIRE_MM,
}
