"""`compiled_traffic` on HLO that is written out here."""
# ruff: noqa: E501 (HLO lines are as long as they are)

import pytest

from snap_jax.errors import UsageError
from snap_jax.traffic import Transfer
from snap_jax.traffic.hlo import compiled_traffic
from tests.support.hlo_text import module


def test_sync_collectives_with_path_and_direction():
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        %q = u8[2,16]{1,0} convert(%p)
        %g = u8[8,16]{1,0} all-gather(%q), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, use_global_device_ids=true, metadata={op_name="jit(f)/jvp(net)/shard_map/up/all_gather" stack_frame_id=4}
        ROOT %s = f32[2,4]{0,1} reduce-scatter(%p), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={1}, to_apply=%sum, metadata={op_name="jit(f)/transpose(jvp(net))/shard_map/up/reduce_scatter"}
    """)
    gather, scatter = compiled_traffic(text)
    assert gather == Transfer("all_gather", (), 4, "uint8", 32, 1, "net/up", "forward", (2, 16), 2)
    assert scatter == Transfer("psum_scatter", (), 4, "float32", 128, 1, "net/up", "backward", (2, 16), 2)


def test_tuple_all_reduce_is_one_transfer_each():
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        %c = f32[] constant(1)
        ROOT %all-reduce = (f32[], f32[2,16]{1,0}) all-reduce(%c, /*index=1*/%p), replica_groups={}, to_apply=%sum
    """)
    assert [(t.op, t.shape, t.bytes, t.group_size) for t in compiled_traffic(text)] == [
        ("psum", (), 4, 8),
        ("psum", (2, 16), 128, 8),
    ]


def test_all_reduces_that_xla_combined_keep_their_names():
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        %c = f32[] constant(1)
        ROOT %all-reduce = (f32[2,16]{1,0}, f32[]) all-reduce(%p, /*index=1*/%c), replica_groups={}, to_apply=%sum, metadata={op_name="jit(f)/shard_map/(gradients/psum:transpose(jvp(net))/psum)"}
    """)
    assert [(t.path, t.direction, t.shape) for t in compiled_traffic(text)] == [
        ("gradients", "forward", (2, 16)),
        ("net", "backward", ()),
    ]


@pytest.mark.parametrize(("root", "op"), [("maximum", "pmax"), ("minimum", "pmin"), ("or", "pmax"), ("and", "pmin")])
def test_the_reducer_names_the_op(root, op):
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        ROOT %r = f32[2,16]{1,0} all-reduce(%p), replica_groups={}, to_apply=%sum
    """)
    assert [t.op for t in compiled_traffic(text.replace(" add(", f" {root}("))] == [op]


def test_a_product_has_no_namesake():
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        ROOT %r = f32[2,16]{1,0} all-reduce(%p), replica_groups={}, to_apply=%sum
    """)
    with pytest.raises(UsageError, match=r"all-reduce named %r reduces by .*multiply"):
        compiled_traffic(text.replace(" add(", " multiply("))


def test_start_and_done_count_once():
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        %ags = (f32[2,16]{1,0}, f32[8,16]{1,0}) all-gather-start(%p), replica_groups=[2,4]<=[8], dimensions={0}, backend_config={"collective_backend_config":{"is_sync":false}}
        %ars = f32[2,16]{1,0} all-reduce-start(%p), replica_groups=[2,4]<=[8], to_apply=%sum
        %cps = (f32[2,16]{1,0}, f32[2,16]{1,0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1},{1,0}}
        %agd = f32[8,16]{1,0} all-gather-done(%ags)
        %ard = f32[2,16]{1,0} all-reduce-done(%ars)
        ROOT %cpd = f32[2,16]{1,0} collective-permute-done(%cps)
    """)
    assert [(t.op, t.bytes) for t in compiled_traffic(text)] == [
        ("all_gather", 128),
        ("psum", 128),
        ("ppermute", 128),
    ]


def test_async_wrappers_count_once():
    wrapped = """
%wrapped (q: f32[2,16]) -> f32[2,4] {
  %q = f32[2,16]{1,0} parameter(0)
  ROOT %rs = f32[2,4]{1,0} reduce-scatter(%q), replica_groups=[2,4]<=[8], dimensions={1}, to_apply=%sum
}, execution_thread="parallel"
"""
    text = module(
        """
        %p = f32[2,16]{1,0} parameter(0)
        %start = ((f32[2,16]{1,0}), f32[2,4]{1,0}) async-start(%p), async_execution_thread="parallel", calls=%wrapped
        %update = ((f32[2,16]{1,0}), f32[2,4]{1,0}) async-update(%start), calls=%wrapped
        %done = f32[2,4]{1,0} async-done(%update), calls=%wrapped
        %sugar = ((f32[2,16]{1,0}), f32[2,4]{1,0}) reduce-scatter-start(f32[2,16]{1,0} %p), replica_groups=[2,4]<=[8], to_apply=%sum
        ROOT %sugared = f32[2,4]{1,0} reduce-scatter-done(%sugar)
    """,
        wrapped,
    )
    assert [(t.op, t.bytes) for t in compiled_traffic(text)] == [("psum_scatter", 128), ("psum_scatter", 128)]


LOOP = """
%body (t: (s32[], f32[2,16])) -> (s32[], f32[2,16]) {
  %t = (s32[], f32[2,16]{1,0}) parameter(0)
  %v = f32[2,16]{1,0} get-tuple-element(%t), index=1
  %i = s32[] get-tuple-element(%t), index=0
  %w = f32[2,16]{1,0} collective-permute(%v), source_target_pairs={{0,1},{1,0},{5,5}}, metadata={op_name="jit(f)/shard_map/net/while/body/closed_call/up/ppermute"}
  ROOT %o = (s32[], f32[2,16]{1,0}) tuple(%i, %w)
}
%condition (t: (s32[], f32[2,16])) -> pred[] {
  %t = (s32[], f32[2,16]{1,0}) parameter(0)
  %v = s32[] get-tuple-element(%t), index=0
  %m = s32[] all-reduce(%v), replica_groups={}, to_apply=%sum
  ROOT %c = pred[] compare(%m, %v), direction=LT
}
%outer (t: (s32[], f32[2,16])) -> (s32[], f32[2,16]) {
  %t = (s32[], f32[2,16]{1,0}) parameter(0)
  ROOT %w = (s32[], f32[2,16]{1,0}) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"},"known_init_step":{"init":"0","step":"1"}}
}
%true (t: (s32[], f32[2,16])) -> pred[] {
  %t = (s32[], f32[2,16]{1,0}) parameter(0)
  ROOT %c = pred[] constant(true)
}
"""


ENTRY = """
    %p = f32[2,16]{1,0} parameter(0)
    %z = s32[] constant(0)
    %t = (s32[], f32[2,16]{1,0}) tuple(%z, %p)
    ROOT %w = (s32[], f32[2,16]{1,0}) while(%t), condition=%true, body=%outer, metadata={op_name="jit(f)/shard_map/net/while"}, backend_config={"known_trip_count":{"n":"5"}}
"""


def test_loops_multiply_and_conditions_run_once_more():
    found = [(t.op, t.times, t.pairs, t.path) for t in compiled_traffic(module(ENTRY, LOOP))]
    assert found == [("psum", 5 * (3 + 1), 0, ""), ("ppermute", 5 * 3, 2, "net/up")]


def test_quoted_backend_config_of_older_compilers():
    quoted = LOOP.replace(
        '{"known_trip_count":{"n":"3"},"known_init_step":{"init":"0","step":"1"}}',
        '"{\\"known_trip_count\\":{\\"n\\":\\"3\\"}}"',
    )
    assert quoted != LOOP
    assert compiled_traffic(module(ENTRY, quoted)) == compiled_traffic(module(ENTRY, LOOP))


def test_unknown_trip_count_raises():
    entry = ENTRY.replace('"known_trip_count":{"n":"5"}', "")
    with pytest.raises(UsageError, match=r"while loop at 'net' holds collectives .*use lax\.scan"):
        compiled_traffic(module(entry, LOOP))


def test_unknown_trip_count_without_collectives_is_fine():
    entry = ENTRY.replace("body=%outer", "body=%true").replace('"known_trip_count":{"n":"5"}', "")
    assert not compiled_traffic(module(entry, LOOP))


BRANCHES = """
%none (v: f32[2,16]) -> f32[2,16] {
  ROOT %v = f32[2,16]{1,0} parameter(0)
}
%little (v: f32[2,16]) -> f32[2,16] {
  %v = f32[2,16]{1,0} parameter(0)
  ROOT %w = f32[2,16]{1,0} collective-permute(%v), source_target_pairs={{0,1}}
}
%much (v: f32[2,16]) -> f32[2,16] {
  %v = f32[2,16]{1,0} parameter(0)
  ROOT %f = f32[2,16]{1,0} fusion(%v), kind=kLoop, calls=%inside
}
%inside (v: f32[2,16]) -> f32[2,16] {
  %v = f32[2,16]{1,0} parameter(0)
  ROOT %w = f32[2,16]{1,0} all-reduce(%v), replica_groups={}, to_apply=%sum
}
"""


@pytest.mark.parametrize(
    "branches",
    ["branch_computations={%none, %little, %much}", "true_computation=%little, false_computation=%much"],
)
def test_conditional_counts_the_costliest_branch(branches):
    text = module(
        f"""
        %p = f32[2,16]{{1,0}} parameter(0)
        %i = s32[] constant(0)
        ROOT %c = f32[2,16]{{1,0}} conditional(%i, %p, %p, %p), {branches}, metadata={{op_name="jit(f)/net/cond"}}
    """,
        BRANCHES,
    )
    traffic = compiled_traffic(text)
    assert [t.op for t in traffic] == ["psum"]
    [choice] = traffic.choices
    assert choice.path == "net"
    assert [b.sent_bytes for b in choice.branches][-2:] == [128, 2 * 7 * 128]
    assert traffic.least_sent_bytes == (0 if "none" in branches else 128)


def test_calls_are_followed():
    text = module(
        """
        %p = f32[2,16]{1,0} parameter(0)
        ROOT %c = f32[2,16]{1,0} call(%p), to_apply=%much
    """,
        BRANCHES,
    )
    assert [t.op for t in compiled_traffic(text)] == ["psum"]


def test_unknown_caller_of_a_collective_raises():
    text = module(
        """
        %p = f32[2,16]{1,0} parameter(0)
        ROOT %c = f32[2,16]{1,0} custom-call(%p), custom_call_target="x", called_computations={%none, %much}
    """,
        BRANCHES,
    )
    with pytest.raises(UsageError, match="custom-call named %c calls a computation with a collective"):
        compiled_traffic(text)


RAGGED = "ROOT %r = f32[2,16]{1,0} ragged-all-to-all(%p, %p, %p, %p, %p, %p), replica_groups={}"


SEND = "ROOT %s = (f32[2,16]{1,0}, u32[], token[]) send(%p, %p), channel_id=1"


SLICES = "ROOT %c = f32[2] collective-permute(%p, %p, %p, %p), source_target_pairs={{0,1}}, slice_sizes={{2}}"


DYNAMIC = "%d = f32[<=4]{0} bitcast(%p)\nROOT %r = f32[<=4]{0} all-reduce(%d), replica_groups={}, to_apply=%sum"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (RAGGED, r"ragged-all-to-all named %r .*use lax\.all_to_all"),
        (SEND, r"send named %s is half of a transfer .*use collective_traffic"),
        (SLICES, r"collective-permute named %c sends slices in place: use collective_traffic"),
        (DYNAMIC, r"a collective sends 'f32\[<=4\]\{0\}'.*static shape"),
    ],
)
def test_what_cannot_be_counted_raises(line, message):
    text = module("%p = f32[2,16]{1,0} parameter(0)\n" + line)
    with pytest.raises(UsageError, match=message):
        compiled_traffic(text)


def test_transfer_to_the_host_does_not_cross_devices():
    text = module("%p = f32[2,16]{1,0} parameter(0)\n" + SEND + ", is_host_transfer=true")
    assert not compiled_traffic(text)


def test_collective_broadcast():
    text = module("""
        %p = f32[2,16]{1,0} parameter(0)
        %s = s32[1]{0} constant({0})
        %b = f32[2,16]{1,0} collective-broadcast(%p), replica_groups={{1,0},{2,3}}
        ROOT %d = f32[2,16]{1,0} collective-broadcast(%p, %s), replica_groups={{0,1,2}}, has_dynamic_root=true
    """)
    found = [(t.op, t.bytes, t.group_size, t.groups, t.sent_bytes) for t in compiled_traffic(text)]
    assert found == [("pbroadcast", 128, 2, 2, 2 * 128), ("pbroadcast", 128, 3, 1, 2 * 128)]
