"""What a compiled program moves: the collectives of its HLO, as this backend sends them.

These are the bytes on the wire (invariant 4). They differ from what `collective_traffic` reports where the backend
widens a type (XLA:CPU sends bfloat16 as float32), where the compiler adds collectives for arrays sharded outside
`shard_map`, and where it merges, splits or drops some.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterator

import jax

from snap_jax.errors import UsageError
from snap_jax.traffic.branch_choice import choose
from snap_jax.traffic.hlo_text import Array, Instruction, Module, parse_instruction, parse_module
from snap_jax.traffic.name_stack import direction, each_name, op_scope, op_scopes
from snap_jax.traffic.program_text import program_text
from snap_jax.traffic.replica_groups import axes_of, id_lists, place_along, replica_groups
from snap_jax.traffic.stage_occupancy import StageSchedule, executions
from snap_jax.traffic.transfer import Pairs, Traffic, Transfer, join

_OPS = {
    "all-gather": "all_gather",
    "all-reduce": "psum",
    "reduce-scatter": "psum_scatter",
    "all-to-all": "all_to_all",
    "collective-permute": "ppermute",
    "collective-broadcast": "pbroadcast",
}
# Booleans are reduced by `or` and `and`.
_REDUCERS = {"add": "psum", "maximum": "pmax", "or": "pmax", "minimum": "pmin", "and": "pmin"}
_ONCE = ("call", "fusion", "async-start")
# A line without any of these words moves nothing and calls nothing, and is not parsed.
_WORDS = (*_OPS, "calls=", "to_apply=", "body=", "_computation", "send(", "recv(")


def compiled_traffic(
    compiled: jax.stages.Compiled | jax.stages.Lowered | str,
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh | None = None,
    *,
    schedule: StageSchedule | None = None,
) -> Traffic:
    """Return what a compiled program, or the text of its HLO, moves between devices.

    With the mesh of the program, transfers name its axes. Without it, `axes` is empty and a `ppermute` counts as one
    group of all devices. `schedule` is that of the pipeline in the program, as in `collective_traffic`.

    Raises:
      UsageError: bytes that only the run decides (a collective in a `while` of unknown trip count, ragged),
        a mesh of another size than the program, an unknown form of HLO, what is not compiled, or a program that may
        come from JAX's persistent compilation cache with the names of another one (a text is taken as it is).

    >>> text = '''HloModule m, num_partitions=2
    ... ENTRY %main (p: u8[4]) -> u8[8] {
    ...   %p = u8[4]{0} parameter(0)
    ...   ROOT %g = u8[8]{0} all-gather(%p), replica_groups={{0,1}}, dimensions={0}
    ... }'''
    >>> compiled_traffic(text).sent_bytes
    8
    """
    module = parse_module(program_text(compiled))
    if mesh is not None and mesh.size != module.devices:
        raise UsageError(
            f"compiled_traffic: the mesh has {mesh.size} devices, the program {module.devices}: "
            "pass the mesh that it was compiled for"
        )
    axes = dict(mesh.shape) if mesh is not None else {}
    return _Program(module, axes, schedule).walk(module.entry, 1)


@dataclasses.dataclass(frozen=True)
class _Program:
    module: Module
    mesh: dict[str, int]
    schedule: StageSchedule | None

    def walk(self, computation: str, times: int) -> Traffic:
        lines = self.module.computations[computation].items()
        found = (parse_instruction(n, rest) for n, rest in lines if any(w in rest for w in _WORDS))
        return join(self.visit(i, computation, times) for i in found)

    def visit(self, i: Instruction, computation: str, times: int) -> Traffic:
        # -done and -update close what -start began, and name the same computation again.
        if i.opcode.endswith(("-done", "-update")):
            return Traffic()
        if i.opcode.removesuffix("-start") in _OPS:
            return Traffic(tuple(self.transfers(i, computation, times)))
        _refuse(i)
        if i.opcode == "while":
            return self.loop(i, times)
        called = [self.walk(name, times) for names in i.called.values() for name in names]
        if i.opcode == "conditional":
            by_stage = self.schedule is not None and op_scopes(i.op_name)[-1:] == [self.schedule.branch_scope]
            return join(called) if by_stage else choose(op_scope(i.op_name), called)
        if i.opcode not in _ONCE and any(called):
            raise UsageError(
                f"compiled_traffic: {i.opcode} {_place(i)} calls a computation with a collective, how often "
                "is not known here: use collective_traffic"
            )
        return join(called)

    def loop(self, i: Instruction, times: int) -> Traffic:
        rounds = None if i.wraps else i.trip_count
        [condition], [body] = i.called["condition"], i.called["body"]
        if rounds is None and (self.walk(condition, 1) or self.walk(body, 1)):
            raise UsageError(
                f"compiled_traffic: a while loop {_place(i)} holds collectives and only the run decides how "
                "often it runs: use lax.scan or lax.fori_loop with static bounds, or compile its body alone"
            )
        # The condition is evaluated once more than the body.
        rounds = rounds or 0
        return join((self.walk(condition, times * (rounds + 1)), self.walk(body, times * rounds)))

    def transfers(self, i: Instruction, computation: str, times: int) -> Iterator[Transfer]:
        op, perm = self.op(i), ()
        if op == "ppermute":
            axes, sizes, perm = self.permuted(i)
        else:
            groups = replica_groups(i.attributes, self.module.devices)
            axes, sizes = axes_of(groups, self.mesh) if self.mesh else (), Counter(map(len, groups))
        arrays = self.operands(i, computation)
        for array, name in zip(arrays, each_name(i.op_name, len(arrays)), strict=True):
            for members, count in sizes.items():
                if members > 1 and array.bytes and times and (perm or op != "ppermute"):
                    shown = Transfer(
                        op,
                        axes,
                        group_size=members,
                        dtype=array.dtype,
                        bytes=array.bytes,
                        times=times,
                        path=op_scope(name),
                        direction=direction(name),
                        shape=array.shape,
                        groups=count,
                        pairs=len(perm),
                        perm=perm,
                    )
                    yield from executions(shown, op_scopes(name), self.schedule)

    def op(self, i: Instruction) -> str:
        op = _OPS[i.opcode.removesuffix("-start")]
        if "to_apply" not in i.attributes:
            return op
        reducer = self.module.computations[i.called["to_apply"][0]]
        codes = {parse_instruction(name, rest).opcode for name, rest in reducer.items()}
        named = [_REDUCERS[code] for code in codes if code in _REDUCERS]
        if len(named) != 1 or (op == "psum_scatter" and named != ["psum"]):
            raise UsageError(
                f"compiled_traffic: {i.opcode} {_place(i)} reduces by {sorted(codes)}: only sum, maximum and "
                "minimum have a counterpart in jax.lax"
            )
        return named[0] if op == "psum" else op

    def operands(self, i: Instruction, computation: str) -> list[Array]:
        names = i.operands
        if i.attributes.get("has_dynamic_root") == "true":
            # The second half numbers the sources, which every device has already.
            names = names[: len(names) // 2]
        arrays = [self.module.array(computation, name) for name in names]
        if i.opcode.startswith("all-to-all") and len(arrays) > 1:
            # XLA:CPU splits the operand of one all_to_all into a piece for each member.
            first, pieces = arrays[0], len(arrays)
            return [Array(first.dtype, (pieces, *first.shape), sum(a.bytes for a in arrays))]
        return arrays

    def permuted(self, i: Instruction) -> tuple[tuple[str, ...], Counter[int], Pairs]:
        """Return (axes, group size -> groups, pairs of one group); HLO lists the pairs of all groups together."""
        if "slice_sizes" in i.attributes:
            raise UsageError(f"compiled_traffic: {i.opcode} {_place(i)} sends slices in place: use collective_traffic")
        listed = id_lists(i.attributes["source_target_pairs"])
        pairs = tuple((source, target) for source, target in listed if source != target)
        axes = axes_of(pairs, self.mesh) if self.mesh else ()
        place = functools.partial(place_along, axes, self.mesh)
        times = Counter((place(source), place(target)) for source, target in pairs if axes)
        members = math.prod(self.mesh[axis] for axis in axes)
        groups = self.module.devices // members
        if set(times.values()) != {groups}:
            return tuple(self.mesh), Counter({self.module.devices: 1}), pairs
        return axes, Counter({members: groups}), tuple(times)


def _refuse(i: Instruction) -> None:
    """Raise UsageError for an instruction that moves data in a way that is not counted here."""
    if i.opcode.startswith("ragged-all-to-all"):
        raise UsageError(
            f"compiled_traffic: ragged-all-to-all {_place(i)} moves as many bytes as the run decides: "
            "pad to a fixed size and use lax.all_to_all"
        )
    if i.opcode in ("send", "recv") and i.attributes.get("is_host_transfer") != "true":
        raise UsageError(
            f"compiled_traffic: {i.opcode} {_place(i)} is half of a transfer that the compiler split: "
            "use collective_traffic"
        )


def _place(i: Instruction) -> str:
    return f"at {op_scope(i.op_name)!r}" if op_scope(i.op_name) else f"named %{i.name}"
