"""The few lines of protobuf that the export writes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.cost.protobuf import varint
from tests.support.chakra_x import NODE


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_are_those_of_protobuf(value):
    attr = NODE().attr.add(name="x", int64_val=value)
    assert attr.SerializeToString().endswith(b"\x48" + varint(value))
