"""Inference with trained runs: evaluated on any data, and text that they write, divided over devices as in training."""

from snap_jax.inference.generation import Sampling as Sampling
from snap_jax.inference.generation import Written as Written
from snap_jax.inference.generation import generate as generate
from snap_jax.inference.held_out import Held as Held
from snap_jax.inference.held_out import evaluate as evaluate
from snap_jax.inference.trained_run import TrainedRun as TrainedRun
from snap_jax.inference.trained_run import load as load
