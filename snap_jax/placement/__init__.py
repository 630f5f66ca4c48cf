"""Placement: codecs and collectives around models that somebody else wrote, by rules and by cuts."""

from snap_jax.placement.average_gradients import average_gradients as average_gradients
from snap_jax.placement.budget import budget as budget
from snap_jax.placement.crossing_samples import calibrate as calibrate
from snap_jax.placement.place import place as place
from snap_jax.placement.place import place_specs as place_specs
from snap_jax.placement.place import placements as placements
from snap_jax.placement.place import unplace as unplace
from snap_jax.placement.rules import Rule as Rule
from snap_jax.placement.split_stages import split_stages as split_stages
from snap_jax.placement.unstack import restack as restack
from snap_jax.placement.unstack import unstack as unstack
from snap_jax.placement.weight_files import load_safetensors as load_safetensors
from snap_jax.placement.weight_files import save_safetensors as save_safetensors
