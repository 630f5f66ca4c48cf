"""What processes tell each other, without starting any: two threads share a coordinator made of a dictionary."""

import errno
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from snap_jax.errors import UsageError
from snap_jax.parallel import failure_notice, processes
from snap_jax.parallel.same_arrays import require_same_arrays


class _Messages:
    """The two calls of the coordinator's client."""

    def __init__(self):
        self._values, self._changed = {}, threading.Condition()

    def key_value_set(self, key, value):
        with self._changed:
            assert key not in self._values
            self._values[key] = value
            self._changed.notify_all()

    def blocking_key_value_get(self, key, timeout_in_ms):
        assert timeout_in_ms >= 60_000
        with self._changed:
            assert self._changed.wait_for(lambda: key in self._values, timeout=10), f"nobody set {key}"
            return self._values[key]

    def key_value_dir_get(self, folder):
        return [(key, value) for key, value in list(self._values.items()) if key.startswith(f"{folder}/")]


def _in_each(monkeypatch, action, several=2):
    """Return what `action(process)` returns, or the error that it raises, in each of several processes."""
    client, here = _Messages(), threading.local()
    for module in (processes, failure_notice):
        monkeypatch.setattr(
            module,
            "coordinator",
            lambda: SimpleNamespace(client=client, num_processes=several, process_id=here.number),
        )
    monkeypatch.setattr(processes, "_message", SimpleNamespace(__next__=None))
    monkeypatch.setattr(processes, "next", lambda _: next(here.messages), raising=False)

    def run(number):
        here.number, here.messages = number, itertools.count()
        try:
            return action(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(several) as pool:
        return list(pool.map(run, range(several)))


def test_the_first_process_acts_and_all_get_its_result(monkeypatch):
    """Invariant: one process runs the action."""
    ran = []

    def action(number):
        return [processes.on_first(lambda: (ran.append(number), [number, "a"])[1]) for _ in range(2)]

    assert _in_each(monkeypatch, action) == [[[0, "a"]] * 2] * 2
    assert ran == [0, 0]


@pytest.mark.parametrize(
    ("raised", "kinds", "text"),
    [
        (UsageError("use another --out"), (UsageError, UsageError), "use another --out"),
        (OSError(errno.ENOSPC, "No space left on device"), (OSError, OSError), "No space left on device"),
        (ZeroDivisionError("by zero"), (ZeroDivisionError, RuntimeError), "by zero"),
    ],
)
def test_an_error_of_the_first_process_is_raised_by_all(monkeypatch, raised, kinds, text):
    """No process waits for one that failed."""

    def fail():
        raise raised

    found = _in_each(monkeypatch, lambda _: processes.on_first(fail))
    assert tuple(map(type, found)) == kinds
    assert all(text in str(error) for error in found)


def test_each_process_hears_all(monkeypatch):
    """Values come by process."""
    assert _in_each(monkeypatch, lambda number: processes.from_each(10 * number), 3) == [[0, 10, 20]] * 3


def test_processes_with_other_commands_are_named(monkeypatch):
    """All processes refuse, and say which one differs."""
    found = _in_each(monkeypatch, lambda number: processes.require_same("command", f"--steps {1 + number // 2}"), 3)
    for error in found:
        with pytest.raises(UsageError, match=r"process 2 has another command than process 0: '--steps 2', not '--s"):
            raise error


def test_parameters_that_differ_are_named(monkeypatch):
    """By all processes, before they train."""

    def compare(number):
        head = {"kernel": np.array([1.0, 2.0 + number // 2]), "bias": jnp.zeros((), jnp.bfloat16)}
        require_same_arrays("first parameter", {"head": head})

    for error in _in_each(monkeypatch, compare, 3):
        with pytest.raises(UsageError, match=r"process 2 has another first parameter head.kernel than process 0: use"):
            raise error
    assert _in_each(monkeypatch, lambda _: require_same_arrays("first parameter", {"w": np.ones(3)})) == [None, None]


def test_devices_are_divided_over_processes(monkeypatch):
    """Four devices over two processes are two each; three are refused."""
    assert _in_each(monkeypatch, lambda _: processes.devices_here(4)) == [2, 2]
    (error, _) = _in_each(monkeypatch, lambda _: processes.devices_here(3))
    with pytest.raises(UsageError, match=r"--devices 3 cannot be divided over 2 processes: use a multiple of 2"):
        raise error


def test_a_mesh_covers_all_processes(monkeypatch):
    """Eight emulated devices here: a mesh of four leaves some process without any."""
    (error, _) = _in_each(monkeypatch, lambda _: processes.require_all_devices(4))
    with pytest.raises(UsageError, match="a mesh of 4 devices, but 2 processes have 8 together"):
        raise error


def test_a_single_process_asks_nobody():
    """All of it works without a coordinator."""
    assert (processes.count(), processes.is_first(), processes.devices_here(3)) == (1, True, 3)
    assert processes.on_first(lambda: object) is object
    assert processes.from_each(None) == [None]
    processes.require_same("command", "a")


@pytest.mark.parametrize("number", ["", "two"])
def test_an_address_without_numbers_is_refused(number):
    """The message names the variable."""
    found = {"JAX_COORDINATOR_ADDRESS": "host:1", "JAX_PROCESS_ID": number, "JAX_NUM_PROCESSES": "2"}
    with pytest.raises(UsageError, match="JAX_COORDINATOR_ADDRESS is host:1, but JAX_PROCESS_ID is"):
        processes.launched(found)


@pytest.mark.parametrize(
    ("environment", "joins"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_ID": "1"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "1"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"JOB_COMPLETION_INDEX": "0"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
    ],
)
def test_clusters_are_joined_where_there_are_several_processes(environment, joins):
    """`jax.distributed` then finds the numbers by itself."""
    assert processes.launched(environment) == ({} if joins else None)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(UsageError("use another"), 2, "use another"), (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero")],
)
def test_a_process_that_fails_tells_the_others_why(monkeypatch, error, code, said):
    """With the exit code; it does not hear itself."""
    monkeypatch.setattr(processes.os, "_exit", lambda _: None)
    monkeypatch.setattr(failure_notice, "_LOOK_SECONDS", 0.01)

    def act(number):
        if number == 0:
            return failure_notice.told(seconds=10.0)
        with processes.ended_on_failure():
            raise error
        return failure_notice.told()

    assert _in_each(monkeypatch, act) == [(f"process 1 failed: {said}", code), None]


def test_the_first_process_waits_until_the_others_have_said_that_they_end(monkeypatch):
    """It holds the coordinator; the others need not wait, and a process that says nothing is not waited for long."""
    monkeypatch.setattr(failure_notice, "_LOOK_SECONDS", 0.01)
    first_waits, order = threading.Event(), []

    def act(number):
        if number == 0:
            failure_notice.tell_others("no space left", 2)
            first_waits.set()
        else:
            first_waits.wait(10)
            order.append("second")
            failure_notice.tell_others("no space left", 2)
        failure_notice.wait_for_others(seconds=10.0)
        order.append(number)

    assert _in_each(monkeypatch, act) == [None, None]
    assert order[0] == "second"
    assert set(order[1:]) == {0, 1}
    alone = lambda number: failure_notice.wait_for_others(seconds=0.1) if number == 0 else None
    assert _in_each(monkeypatch, alone) == [None, None]


def test_who_hears_of_a_failure_ends_with_its_message(monkeypatch, capsys):
    """Unless it ends by itself in the meantime."""
    ended, done = [], threading.Event()
    monkeypatch.setattr(failure_notice.os, "_exit", lambda code: (ended.append(code), done.set()))
    monkeypatch.setattr(failure_notice, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(failure_notice, "_OWN_MESSAGE_SECONDS", 0.01)

    def act(number):
        if number == 1:
            return failure_notice.tell_others("no space left", 2)
        return failure_notice._look(done)

    assert _in_each(monkeypatch, act) == [None, None]
    assert ended == [2]
    assert capsys.readouterr().err == "snap-jax: process 1 failed: no space left\n"


def test_a_silence_of_no_time_is_refused():
    """Every process would be lost at once."""
    with pytest.raises(UsageError, match="--lost-after 0: give 1 or more"):
        processes.join_processes(0)


@pytest.mark.parametrize(("error", "code"), [(UsageError("use another"), 2), (ZeroDivisionError("by zero"), 1)])
def test_a_process_that_fails_does_not_wait_for_the_others(monkeypatch, capsys, error, code):
    """It says why and ends; alone, it raises as usual."""
    ended = []
    monkeypatch.setattr(processes.os, "_exit", ended.append)

    def fail(_):
        with processes.ended_on_failure():
            raise error

    assert _in_each(monkeypatch, fail, 1) == [error]
    assert ended == []
    assert _in_each(monkeypatch, fail) == [None, None]
    assert ended == [code, code]
    assert str(error) in capsys.readouterr().err
