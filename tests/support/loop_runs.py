"""Runs of a few steps of a parabola, for tests of the loop and of what ends it."""

import dataclasses

import jax
import numpy as np

from snap_jax.training.config import LanguageConfig
from snap_jax.training.loop import Programs
from snap_jax.training.loop import fit_saved as fit
from snap_jax.training.train_step import compile_step, start
from tests.support.training_jobs import run_of

CONFIG = LanguageConfig(steps=40, learning_rate=0.1, layers=2, devices=2)


def changed(**changes):
    return dataclasses.replace(CONFIG, **changes)


def begun(config, out, job=None, on_progress=lambda _: None):
    run = run_of(config, out, job, on_progress)
    state = start(run.job, config, run.optimizer)
    return run, Programs(compile_step(run.job, config, run.optimizer, state)), state


def fitted(config, out, job=None, on_progress=lambda _: None):
    run, programs, state = begun(config, out, job, on_progress)
    return fit(run, programs, state, 1.0)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
