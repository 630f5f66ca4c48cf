"""Several processes: which one writes files, and what all of them know.

Invariant: all processes run the same program on the same numbers. What depends on a file, a clock or a signal is read
by the first process and told to the others; else one would wait in a collective that another never starts.

Such messages go through the coordinator of `jax.distributed`, not over the devices. In a single process all of this
does nothing.
"""

import contextlib
import itertools
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from snap_jax._compat import coordinator
from snap_jax.errors import UsageError
from snap_jax.parallel import failure_notice

LOST_AFTER = 60  # seconds; a process that is silent for longer is lost, a pause of 20 s is not
_WAIT_MS = 3_600_000  # for the first process, which may be reading a large data set
_message = itertools.count()  # all processes exchange the same messages in the same order


def join_processes(lost_after: int = LOST_AFTER) -> None:
    """Join the other processes, if this one was started with others; call it before JAX runs anything.

    When a process has not answered for `lost_after` seconds, JAX ends the others with a message that names it.
    `snap-jax launch` says so in `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`. Under Slurm, Open
    MPI, Kubernetes and on TPU pods `jax.distributed` finds the others by itself.

    Raises:
      UsageError: if the coordinator cannot be reached, or for less than one second.
    """
    if lost_after < 1:
        raise UsageError(f"--lost-after {lost_after}: give 1 or more seconds")
    found = launched(os.environ)
    if coordinator().client is not None or found is None:
        return
    try:
        jax.distributed.initialize(**found, heartbeat_timeout_seconds=lost_after)
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"cannot join the other processes ({first}): start them all, with one JAX_COORDINATOR_ADDRESS that each "
            "can reach; or unset it to run alone"
        ) from error
    failure_notice.watch()


def launched(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the arguments of `jax.distributed.initialize` that the environment asks for; None for a single process.

    >>> launched({"JAX_COORDINATOR_ADDRESS": "host:1234", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"})
    {'coordinator_address': 'host:1234', 'num_processes': 2, 'process_id': 1}
    >>> launched({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}), launched({})
    ({}, None)

    Raises:
      UsageError: if numbers are missing.
    """
    address = environment.get("JAX_COORDINATOR_ADDRESS")
    if address and not _by_cluster(environment):
        names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
        numbers = {name: environment.get(key, "") for name, key in names.items()}
        for name, number in numbers.items():
            if not number.isdigit():
                raise UsageError(
                    f"JAX_COORDINATOR_ADDRESS is {address}, but {names[name]} is {number!r}: set it to a number, or "
                    "start the program with snap-jax launch"
                )
        return {"coordinator_address": address} | {name: int(number) for name, number in numbers.items()}
    return {} if _by_cluster(environment) else None


def _by_cluster(environment: Mapping[str, str]) -> bool:
    """Whether a cluster that `jax.distributed` knows started several processes."""
    if "JAX_PROCESS_ID" in environment:
        return False
    several = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
    if any(environment.get(name, "1") != "1" for name in several):
        return True
    return "JOB_COMPLETION_INDEX" in environment or "," in environment.get("TPU_WORKER_HOSTNAMES", "")


def count() -> int:
    """Return the number of processes; does not start the devices."""
    return coordinator().num_processes or 1


def is_first() -> bool:
    """Return whether this process is the one that writes files and talks to the user."""
    return not coordinator().process_id


def on_first(action: Callable[[], Any]) -> Any:
    """Return `action()`, run by the first process alone; its errors are raised by all.

    Args:
      action: returns what JSON can hold.

    Raises:
      UsageError: if `action` raises one.
      OSError: likewise, with its number.
      RuntimeError: for any other error of `action`, on the other processes.
    """
    if count() == 1:
        return action()
    key = f"snap_jax/{next(_message)}"
    if not is_first():
        return _opened(json.loads(coordinator().client.blocking_key_value_get(key, _WAIT_MS)))
    try:
        result = action()
    except Exception as error:
        coordinator().client.key_value_set(key, json.dumps(_closed(error)))
        raise
    coordinator().client.key_value_set(key, json.dumps({"result": result}))
    return result


def _closed(error: Exception) -> dict:
    if isinstance(error, UsageError):
        return {"usage": str(error)}
    if isinstance(error, OSError) and error.errno:
        return {"os": [error.errno, error.strerror]}
    return {"other": f"{type(error).__name__}: {error}"}


def _opened(message: dict) -> Any:
    if "usage" in message:
        raise UsageError(message["usage"])
    if "os" in message:
        raise OSError(*message["os"])
    if "other" in message:
        raise RuntimeError(f"the first process failed: {message['other']}")
    return message["result"]


def from_each(value: Any) -> list:
    """Return what each process gave, by process; JSON must be able to hold it."""
    if count() == 1:
        return [value]
    client, key = coordinator().client, f"snap_jax/{next(_message)}"
    client.key_value_set(f"{key}/{coordinator().process_id}", json.dumps(value))
    return [json.loads(client.blocking_key_value_get(f"{key}/{i}", _WAIT_MS)) for i in range(count())]


def require_same(what: str, value: str, fix: str = "start all processes with the same command") -> None:
    """Check that `value` is the same on all processes.

    Args:
      what: the value is, for the message.
      value: of this process.
      fix: what to do if it is not.

    Raises:
      UsageError: names what differs, and the values.
    """
    found = from_each(value)
    for process, other in enumerate(found):
        if other != found[0]:
            raise UsageError(f"process {process} has another {what} than process 0: {other!r}, not {found[0]!r}: {fix}")


@contextlib.contextmanager
def ended_on_failure() -> Iterator[None]:
    """End one of several processes at once when an exception comes, with exit code 2 for a `UsageError`, else 1.

    An ordinary exit would wait for the others, which may wait for this process in a collective. They are told, and end.
    """
    try:
        yield
    except Exception as error:
        if count() == 1:
            raise
        expected = isinstance(error, UsageError)
        if expected:
            print(f"snap-jax: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        failure_notice.tell_others(str(error) if expected else f"{type(error).__name__}: {error}", code := 1 + expected)
        sys.stdout.flush()
        sys.stderr.flush()
        failure_notice.wait_for_others()
        os._exit(code)


def devices_here(devices: int) -> int:
    """Return how many of so many devices each process has.

    Raises:
      UsageError: if they cannot be divided.
    """
    if devices % count():
        raise UsageError(f"--devices {devices} cannot be divided over {count()} processes: use a multiple of {count()}")
    return devices // count()


def on_host(tree: PyTree) -> PyTree:
    """Return the arrays as whole numpy arrays on every process; all processes must call it."""

    def one(array: Any) -> np.ndarray:
        everywhere = not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated
        return np.asarray(array if everywhere else multihost_utils.process_allgather(array, tiled=True))

    return jax.tree.map(one, tree)


def placed(tree: PyTree, mesh: Mesh, spec: PartitionSpec) -> PyTree:
    """Return arrays that every process holds as arrays on the mesh; each process keeps its own part.

    In a single process they stay as they are.
    """
    if count() == 1:
        return tree

    def one(array: Any) -> jax.Array:
        rows = np.asarray(array)
        return jax.make_array_from_callback(rows.shape, NamedSharding(mesh, spec), rows.__getitem__)

    return jax.tree.map(one, tree)


def require_all_devices(need: int) -> None:
    """Check that a mesh of `need` devices has some of every process.

    Raises:
      UsageError: says how many there are.
    """
    if count() > 1 and need != len(jax.devices()):
        raise UsageError(
            f"a mesh of {need} devices, but {count()} processes have {len(jax.devices())} together: "
            f"start {math.gcd(need, count())} processes, or use all devices"
        )
