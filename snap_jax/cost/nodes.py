"""Preset compute units: energies of operations on several silicon nodes, each with its source.

Figures of single operations leave out memory, control and leakage. Those of whole chips are their power divided by
their peak rate: all of that is in them, and they hold only at full use.
"""

from collections.abc import Mapping

from snap_jax.cost.compute import ComputeUnit
from snap_jax.cost.units import Number, Range
from snap_jax.traffic.operations import Kind

_FP8 = ("float8_e4m3fn", "float8_e5m2")


def _arithmetic(
    add: Mapping[str, Number], multiply: Mapping[str, Number], sums: Mapping[str, str]
) -> dict[tuple[Kind, str], Range]:
    """Return energies by kind and dtype; a product is summed in its own dtype at best, as a rule in that of `sums`.

    Unsigned integers cost the same as signed ones.
    """
    figures: dict[tuple[Kind, str], Range] = {}
    for dtype in add:
        total = add[sums.get(dtype, dtype)]
        for name in (dtype, f"u{dtype}") if dtype.startswith("int") else (dtype,):
            figures["add", name] = Range.exactly(add[dtype])
            figures["accumulate", name] = Range(add[dtype], total)
            if dtype in multiply:
                figures["multiply", name] = Range.exactly(multiply[dtype])
                figures["mac", name] = Range(multiply[dtype] + add[dtype], multiply[dtype] + total)
    return figures


def _of_chip(watts: Range, tera_flops: Mapping[str, Number]) -> dict[tuple[Kind, str], Range]:
    """Return the energy of a multiply-accumulate (two operations of a data sheet) by dtype: power / peak rate."""
    return {("mac", dtype): Range(2 * watts.low / rate, 2 * watts.high / rate) for dtype, rate in tera_flops.items()}


HOROWITZ_45NM = ComputeUnit(
    name="Horowitz 45 nm",
    process_node="45 nm",
    source="M. Horowitz, Computing's energy problem, ISSCC 2014",
    pj_per_op=_arithmetic(
        {"int8": 0.03, "int32": 0.1, "float16": 0.4, "float32": 0.9},
        {"int8": 0.2, "int32": 3.1, "float16": 1.1, "float32": 3.7},
        {"int8": "int32"},
    ),
)
JOUPPI_7NM = ComputeUnit(
    name="Jouppi 7 nm",
    process_node="7 nm",
    source="N. Jouppi et al., Ten lessons from three generations shaped Google's TPUv4i, ISCA 2021, table 2, as quoted",
    pj_per_op=_arithmetic(
        {"int8": 0.007, "int32": 0.03, "bfloat16": 0.11, "float16": 0.16, "float32": 0.38},
        {"int8": 0.07, "bfloat16": 0.21, "float16": 0.34, "float32": 1.31},
        {"int8": "int32", "bfloat16": "float32", "float16": "float32"},
    ),
)
IBM_7NM_FP8 = ComputeUnit(
    name="IBM four-core chip, 7 nm",
    process_node="7 nm",
    source="A. Agrawal et al., JSSC 2022: 3.58 TFLOPS/W at FP8, 16.9 TOPS/W at int4, peak efficiency of the chip",
    pj_per_op=_of_chip(Range.exactly(1.0), {**dict.fromkeys(_FP8, 3.58), "int4": 16.9}),
    whole_chip=True,
)
TPU_V4 = ComputeUnit(
    name="TPU v4",
    process_node="7 nm",
    source="docs.cloud.google.com/tpu/docs/v4: 90 to 192 W measured (mean 170), 275 tera-operations/s in bf16 or int8",
    pj_per_op=_of_chip(Range(90.0, 192.0), {"bfloat16": 275.0, "int8": 275.0}),
    tera_ops_per_s=Range.exactly(275 / 2),
    whole_chip=True,
)
H100 = ComputeUnit(
    name="H100 SXM",
    process_node="TSMC 4N",
    source="G. Lockwood, after NVIDIA: 700 W at most; TFLOPS without sparsity 989 (bf16, fp16), 1979 (fp8, int8)",
    pj_per_op=_of_chip(
        Range.exactly(700.0),
        {"bfloat16": 989.4, "float16": 989.4, "int8": 1978.9, **dict.fromkeys(_FP8, 1978.9)},
    ),
    tera_ops_per_s=Range.exactly(989.4 / 2),
    whole_chip=True,
)
LOIHI = ComputeUnit(
    name="Loihi",
    process_node="14 nm",
    source="M. Davies et al., IEEE Micro 2018: 23.6 pJ per synaptic operation, as quoted; neurons not included",
    pj_per_op={("accumulate", "int8"): Range.exactly(23.6)},
)

UNITS: dict[str, ComputeUnit] = {
    "HOROWITZ_45NM": HOROWITZ_45NM,
    "JOUPPI_7NM": JOUPPI_7NM,
    "IBM_7NM_FP8": IBM_7NM_FP8,
    "TPU_V4": TPU_V4,
    "H100": H100,
    "LOIHI": LOIHI,
}
