"""What a run would take, known before a step is trained: sizes, memory, bytes per step."""

import dataclasses

import jax

from snap_jax.traffic import Traffic
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.traffic.program_text import names_in_cache_key
from snap_jax.training.config import Settings
from snap_jax.training.config.settings import from_scratch
from snap_jax.training.optimizer import optimizer
from snap_jax.training.result_json import wire_section
from snap_jax.training.starting import prepare
from snap_jax.training.train_step import compile_exchange, compile_step, start


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run would take.

    Attributes:
      parameters: numbers that are trained.
      axes: devices along each axis of the mesh.
      elements: that cross forward in one step.
      device_bytes: memory of one device in a step: the state, and what is computed beside it; None where the compiler
        does not say.
      traffic: of one step of the compiled program.
      exchange: of the end of a round of local steps; None without them.
      wire: the section of `result.json` on what is sent, without what only a run can measure.
    """

    parameters: int
    axes: dict[str, int]
    elements: int
    device_bytes: int | None
    traffic: Traffic
    exchange: Traffic | None
    wire: dict


@names_in_cache_key()
def plan(config: Settings) -> Plan:
    """Load the data, divide the model and compile a step; train nothing, and write nothing.

    Of a budget from scratch it is the budgeted phase, with boundaries that are not calibrated.

    Raises:
      UsageError: as `prepare`.
    """
    if from_scratch(config):  # the dense phase that teaches is not there yet
        config = dataclasses.replace(config, distill=None, teacher=None)
    job = prepare(config)
    rule = job.optimizer(optimizer(config, job.decayed))
    state = start(job, config, rule)
    step, exchange = compile_step(job, config, rule, state), compile_exchange(job, state)
    traffic = compiled_traffic(step, job.mesh, schedule=job.schedule)
    elements = config.accumulate * job.crossing_elements
    return Plan(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(job.params)),
        axes=dict(job.mesh.shape),
        elements=elements,
        device_bytes=_memory(step),
        traffic=traffic,
        exchange=exchange and compiled_traffic(exchange, job.mesh),
        wire=wire_section(traffic, job.mesh.shape, elements),
    )


def _memory(step: jax.stages.Compiled) -> int | None:
    found = step.memory_analysis()
    if found is None:
        return None
    parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return sum(getattr(found, part) for part in parts) - found.alias_size_in_bytes
