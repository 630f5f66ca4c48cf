"""Compressed collectives for JAX: spike-coded, bit-packed, trainable, and priced.

Every public name is listed here. Importing the package is fast, because each name is loaded when it is first used;
`snap_jax.cost` never loads JAX.
"""

import pkgutil
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Where each public name is defined. A test compares this with the imports that type checkers read below.
_SOURCES = {
    "Bitmap": "wires:Bitmap",
    "Bitplanes": "wires:Bitplanes",
    "Boundary": "boundary:Boundary",
    "Cast": "encodings:Cast",
    "Codec": "codecs:Codec",
    "Count": "encodings:Count",
    "Events": "wires:Events",
    "Exact": "encodings:Exact",
    "Int": "encodings:Int",
    "Ladder": "wires:Ladder",
    "Latency": "encodings:Latency",
    "LearnedTransform": "boundary:LearnedTransform",
    "Outliers": "encodings:Outliers",
    "Packed": "wires:Packed",
    "Phase": "encodings:Phase",
    "Rans": "wires:Rans",
    "Rate": "encodings:Rate",
    "RateController": "boundary:RateController",
    "RowRans": "wires:RowRans",
    "Rule": "placement:Rule",
    "Scaled": "encodings:Scaled",
    "Ternary": "encodings:Ternary",
    "Threshold": "boundary:Threshold",
    "TopK": "encodings:TopK",
    "Traffic": "traffic:Traffic",
    "Transfer": "traffic:Transfer",
    "Transform": "boundary:Transform",
    "UsageError": "errors:UsageError",
    "all_gather": "collectives:all_gather",
    "all_to_all": "collectives:all_to_all",
    "assert_no_deadlocks": "traffic.deadlocks:assert_no_deadlocks",
    "assert_no_float_collectives": "traffic.check:assert_no_float_collectives",
    "average_gradients": "placement:average_gradients",
    "budget": "placement:budget",
    "calibrate": "placement:calibrate",
    "choose": "policy:choose",
    "codec": "codecs.link_spec:codec",
    "collective_traffic": "traffic.jaxpr:collective_traffic",
    "compiled_traffic": "traffic.hlo:compiled_traffic",
    "compressed_mean": "parallel.data_parallel:compressed_mean",
    "cost": "cost",
    "decay_mask": "boundary:decay_mask",
    "emulate_devices": "parallel.mesh:emulate_devices",
    "error_feedback": "parallel.error_feedback:error_feedback",
    "island": "parallel.island:island",
    "join_processes": "parallel.processes:join_processes",
    "load_safetensors": "placement:load_safetensors",
    "local_steps": "parallel.local_steps:local_steps",
    "place": "placement:place",
    "place_specs": "placement:place_specs",
    "placements": "placement:placements",
    "pmean": "collectives:pmean",
    "ppermute": "collectives:ppermute",
    "psum": "collectives:psum",
    "psum_scatter": "collectives:psum_scatter",
    "restack": "placement:restack",
    "save_safetensors": "placement:save_safetensors",
    "split_stages": "placement:split_stages",
    "training": "training",
    "unplace": "placement:unplace",
    "unstack": "placement:unstack",
}
__all__ = ["__version__", *_SOURCES]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from snap_jax import cost as cost
    from snap_jax import training as training
    from snap_jax.boundary import Boundary as Boundary
    from snap_jax.boundary import LearnedTransform as LearnedTransform
    from snap_jax.boundary import RateController as RateController
    from snap_jax.boundary import Threshold as Threshold
    from snap_jax.boundary import Transform as Transform
    from snap_jax.boundary import decay_mask as decay_mask
    from snap_jax.codecs import Codec as Codec
    from snap_jax.codecs.link_spec import codec as codec
    from snap_jax.collectives import all_gather as all_gather
    from snap_jax.collectives import all_to_all as all_to_all
    from snap_jax.collectives import pmean as pmean
    from snap_jax.collectives import ppermute as ppermute
    from snap_jax.collectives import psum as psum
    from snap_jax.collectives import psum_scatter as psum_scatter
    from snap_jax.encodings import Cast as Cast
    from snap_jax.encodings import Count as Count
    from snap_jax.encodings import Exact as Exact
    from snap_jax.encodings import Int as Int
    from snap_jax.encodings import Latency as Latency
    from snap_jax.encodings import Outliers as Outliers
    from snap_jax.encodings import Phase as Phase
    from snap_jax.encodings import Rate as Rate
    from snap_jax.encodings import Scaled as Scaled
    from snap_jax.encodings import Ternary as Ternary
    from snap_jax.encodings import TopK as TopK
    from snap_jax.errors import UsageError as UsageError
    from snap_jax.parallel.data_parallel import compressed_mean as compressed_mean
    from snap_jax.parallel.error_feedback import error_feedback as error_feedback
    from snap_jax.parallel.island import island as island
    from snap_jax.parallel.local_steps import local_steps as local_steps
    from snap_jax.parallel.mesh import emulate_devices as emulate_devices
    from snap_jax.parallel.processes import join_processes as join_processes
    from snap_jax.placement import Rule as Rule
    from snap_jax.placement import average_gradients as average_gradients
    from snap_jax.placement import budget as budget
    from snap_jax.placement import calibrate as calibrate
    from snap_jax.placement import load_safetensors as load_safetensors
    from snap_jax.placement import place as place
    from snap_jax.placement import place_specs as place_specs
    from snap_jax.placement import placements as placements
    from snap_jax.placement import restack as restack
    from snap_jax.placement import save_safetensors as save_safetensors
    from snap_jax.placement import split_stages as split_stages
    from snap_jax.placement import unplace as unplace
    from snap_jax.placement import unstack as unstack
    from snap_jax.policy import choose as choose
    from snap_jax.traffic import Traffic as Traffic
    from snap_jax.traffic import Transfer as Transfer
    from snap_jax.traffic.check import assert_no_float_collectives as assert_no_float_collectives
    from snap_jax.traffic.deadlocks import assert_no_deadlocks as assert_no_deadlocks
    from snap_jax.traffic.hlo import compiled_traffic as compiled_traffic
    from snap_jax.traffic.jaxpr import collective_traffic as collective_traffic
    from snap_jax.wires import Bitmap as Bitmap
    from snap_jax.wires import Bitplanes as Bitplanes
    from snap_jax.wires import Events as Events
    from snap_jax.wires import Ladder as Ladder
    from snap_jax.wires import Packed as Packed
    from snap_jax.wires import Rans as Rans
    from snap_jax.wires import RowRans as RowRans
else:

    def __getattr__(name: str):
        """Load a public name on first use."""
        if name not in _SOURCES:
            raise AttributeError(f"module 'snap_jax' has no attribute {name!r}; dir(snap_jax) lists the public names")
        globals()[name] = value = pkgutil.resolve_name(f"snap_jax.{_SOURCES[name]}")
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_SOURCES})
