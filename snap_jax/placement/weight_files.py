"""Weights of any NNX model in a safetensors file, by the paths of its parameters."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from snap_jax.errors import UsageError, requires_extra

_MOST_NAMED = 3


def save_safetensors(file: str | PathLike, model: nnx.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write all variables of a model but keys of random numbers, each by its path with dots.

    `unplace` the model first for a file without what codecs learned, as programs without this library read it.

    Args:
      file: written, or overwritten.
      model: any NNX model.
      metadata: texts that go into the head of the file.

    Raises:
      UsageError: if safetensors is not installed.
    """
    arrays = {name: jax.device_get(variable[...]) for name, (_, variable) in _named(model).items()}
    _library("save_safetensors").save_file(arrays, file, metadata=dict(metadata or {}))


def load_safetensors(file: str | PathLike, model: nnx.Module, *, strict: bool = True) -> None:
    """Read the variables of a model from a file; their types stay those of the model.

    Args:
      file: with tensors by the paths of the variables of the model.
      model: changed in place. A placed model takes a file of the model without codecs, if not strict.
      strict: whether the file must hold every variable, except for keys of random numbers.

    Raises:
      UsageError: if safetensors is not installed; for a tensor that the model lacks or has in another shape; if strict,
        for a variable that the file lacks.
    """
    arrays, named = _library("load_safetensors").load_file(file), _named(model)
    if unknown := sorted(set(arrays) - set(named)):
        raise UsageError(f"load_safetensors: {file}: the model has no {', '.join(unknown[:_MOST_NAMED])}: rename them")
    if strict and (missing := sorted(set(named) - set(arrays))):
        raise UsageError(
            f"load_safetensors: {file}: no {', '.join(missing[:_MOST_NAMED])}: give strict=False to keep the model's"
        )
    for name, array in arrays.items():
        _, variable = named[name]
        if array.shape != variable.shape:
            raise UsageError(
                f"load_safetensors: {file}: {name} has shape {list(array.shape)}, that of the model is "
                f"{list(variable.shape)}: build the model with the sizes of the file"
            )
    new = {path: v.replace(jnp.asarray(arrays[name], v.dtype)) for name, (path, v) in named.items() if name in arrays}
    nnx.update(model, nnx.from_flat_state(new))


def _library(function: str) -> Any:
    with requires_extra("hub", function):
        from safetensors import numpy as numpy_files
    return numpy_files


def _named(model: nnx.Module) -> dict[str, tuple[tuple, Any]]:
    flat = nnx.to_flat_state(nnx.state(model))
    return {
        ".".join(map(str, path)): (path, variable)
        for path, variable in flat
        if not jnp.issubdtype(variable.dtype, jax.dtypes.prng_key)
    }
