"""Replica groups of HLO text, and the texts that are refused."""

import pytest

from snap_jax.errors import UsageError
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.hlo_text import parse_array, parse_instruction
from snap_jax.traffic.replica_groups import axes_of, replica_groups
from tests.support.hlo_text import module
from tests.support.traffic_meshes import mesh_of


def test_permute_that_differs_between_groups_counts_as_one_group():
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        %a = f32[2,16]{1,0} collective-permute(%p), source_target_pairs={{0,1},{4,5},{2,2}}
        ROOT %b = f32[2,16]{1,0} collective-permute(%p), source_target_pairs={{0,1},{1,2},{5,4}}
    """)
    found = [(t.axes, t.group_size, t.groups, t.perm, t.sent_bytes) for t in compiled_traffic(text, mesh_of())]
    uneven = ((0, 1), (1, 2), (5, 4))
    assert found == [(("x",), 4, 2, ((0, 1),), 2 * 128), (("y", "x"), 8, 1, uneven, 3 * 128)]


def test_permute_along_the_slow_axis_names_places_in_its_group():
    """Axis y of {"y": 2, "x": 4}: device k and k + 4 are places 0 and 1 of group k."""
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        ROOT %a = f32[2,16]{1,0} collective-permute(%p), source_target_pairs={{4,0},{5,1},{6,2},{7,3}}
    """)
    [t] = compiled_traffic(text, mesh_of())
    assert (t.axes, t.group_size, t.groups, t.perm) == (("y",), 2, 4, ((1, 0),))


def test_groups_of_several_sizes():
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        ROOT %r = f32[2,16]{1,0} all-reduce(%p), replica_groups={{0,1},{2,3},{4,5,6},{7}}, to_apply=%sum
    """)
    assert [(t.group_size, t.groups) for t in compiled_traffic(text)] == [(2, 2), (3, 1)]


def test_replicas_are_devices_too():
    text = module(
        """
        %p = f32[2,16]{1,0} parameter(0)
        ROOT %r = f32[2,16]{1,0} all-reduce(%p), replica_groups={}, to_apply=%sum
    """,
        header="replica_count=4",
    )
    assert [t.group_size for t in compiled_traffic(text)] == [4]


def test_not_hlo():
    with pytest.raises(UsageError, match=r"no HloModule with an ENTRY in 'module @jit_f'.*as_text"):
        compiled_traffic("module @jit_f")


@pytest.mark.parametrize(
    ("text", "dtype", "shape", "size"),
    [
        ("f32[]", "float32", (), 4),
        ("pred[3]{0}", "bool", (3,), 3),
        ("bf16[2,3]{1,0:T(8,128)(2,1)}", "bfloat16", (2, 3), 12),
        ("f8e4m3fn[5]{0}", "float8_e4m3fn", (5,), 5),
        ("s4[5]{0}", "int4", (5,), 5),
        ("u4[5]{0:E(4)}", "uint4", (5,), 3),
        ("c64[2]{0}", "complex64", (2,), 16),
        ("s64[0,4]{1,0}", "int64", (0, 4), 0),
    ],
)
def test_array_types(text, dtype, shape, size):
    array = parse_array(text)
    assert (array.dtype, array.shape, array.bytes) == (dtype, shape, size)


def test_instruction_with_awkward_attributes():
    i = parse_instruction(
        "r",
        "(f32[2]{0}, /*index=1*/u8[1]{0}) all-reduce(f32[2]{0} %a.1, /*index=1*/%b), "
        "replica_groups=mesh['y'=2,'x'=4], device_ids=([4,2]T(1,0)) {'x'}, to_apply=%sum.clone, "
        'metadata={op_name="jit(f)/a(b, \\"c\\") {/it\\\'s/psum" stack_frame_id=3}, backend_config={"a":"}"}',
    )
    assert (i.opcode, i.operands, i.called) == ("all-reduce", ("a.1", "b"), {"to_apply": ["sum.clone"]})
    assert i.attributes["device_ids"] == "([4,2]T(1,0)) {'x'}"
    assert i.op_name == """jit(f)/a(b, "c") {/it's/psum"""
    assert i.trip_count is None


X_GROUPS = ((0, 1, 2, 3), (4, 5, 6, 7))


Y_GROUPS = ((0, 4), (1, 5), (2, 6), (3, 7))


@pytest.mark.parametrize(
    ("text", "ids", "groups"),
    [
        ("{}", "", ((0, 1, 2, 3, 4, 5, 6, 7),)),
        ("{{0,1,2,3},{4,5,6,7}}", "", X_GROUPS),
        ("[2,4]<=[8]", "", X_GROUPS),
        ("[4,2]<=[2,4]T(1,0)", "", Y_GROUPS),
        ("[4,2]<=[2,2,2]T(0,2,1)", "", ((0, 2), (1, 3), (4, 6), (5, 7))),
        ("mesh['y'=2,'x'=4] {'x'}", "", X_GROUPS),
        ("mesh['y'=2,'x'=4] {'y'}", "", Y_GROUPS),
        ("mesh['y'=2,'x'=4] {'y','x'}", "", ((0, 1, 2, 3, 4, 5, 6, 7),)),
        ("mesh['y'=2,'x'=4] {'x','y'}", "", ((0, 4, 1, 5, 2, 6, 3, 7),)),
        ("mesh['a'=8,'b'=1] {'b'}", "", tuple((i,) for i in range(8))),
        # Halves of x: the one with 1 position before it holds the upper bit, the other the lower.
        ("mesh['y'=2,'x'=4] {'x':(1)2}", "", ((0, 2), (1, 3), (4, 6), (5, 7))),
        ("mesh['y'=2,'x'=4] {'x':(2)2}", "", ((0, 1), (2, 3), (4, 5), (6, 7))),
        ("mesh['y'=2,'x'=4] {'x':(2)2,'y'}", "", ((0, 4, 1, 5), (2, 6, 3, 7))),
        # The mesh of devices [[0, 4], [1, 5], [2, 6], [3, 7]], as axes of 4 and 2.
        ("mesh['a'=4,'b'=2]", "([2,4]T(1,0)) {'a'}", X_GROUPS),
        ("mesh['a'=4,'b'=2]", "([2,4]T(1,0)) {'b'}", Y_GROUPS),
        ("mesh['a'=2,'b'=2]", "(3,1,2,0) {'b'}", ((3, 1), (2, 0))),
    ],
)
def test_spellings_of_replica_groups(text, ids, groups):
    attributes = {"replica_groups": text} | ({"device_ids": ids} if ids else {})
    assert replica_groups(attributes, 8) == groups


@pytest.mark.parametrize("text", ["@mesh<x=8>", "mesh['x'=8] {'z'}", "[2,4]<=[9]"])
def test_unknown_spelling_raises(text):
    with pytest.raises(UsageError, match="is in a spelling unknown here: use collective_traffic"):
        replica_groups({"replica_groups": text}, 8)


def test_axes_are_those_along_which_members_differ():
    mesh = {"a": 2, "b": 1, "c": 4}
    assert axes_of(X_GROUPS, mesh) == ("c",)
    assert axes_of(Y_GROUPS, mesh) == ("a",)
    assert axes_of([range(8)], mesh) == ("a", "c")
    assert axes_of([(0, 1)], mesh) == ("c",)
