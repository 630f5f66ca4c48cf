"""`snap-jax launch`: output, exit codes, and no process left behind. The commands are small programs without JAX."""

import os
import signal
import subprocess
import sys
import time

import pytest

from snap_jax import cli
from snap_jax.errors import UsageError
from snap_jax.parallel.launch import launch

_WHO = "import os; print(*(os.environ[n] for n in ('JAX_PROCESS_ID', 'JAX_NUM_PROCESSES', 'JAX_NUM_CPU_DEVICES')))"


def _python(code):
    return [sys.executable, "-c", code]


def _launched(code, processes=2, **options):
    lines = []
    return launch(_python(code), processes, say=lines.append, **options), sorted(lines)


def test_each_process_is_told_its_number_and_its_lines_carry_it():
    """Three processes of four devices each."""
    code, lines = _launched(_WHO, 3, devices_per_process=4)
    assert (code, lines) == (0, [f"[{n}] {n} 3 4" for n in range(3)])


def test_each_process_has_its_cores_and_keeps_its_memory(monkeypatch):
    """The cores there are, divided over two processes; a setting of the user stays as it is."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    cores, names = sorted(os.sched_getaffinity(0)), ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_")
    code = f"import os; print(*sorted(os.sched_getaffinity(0)), *(os.environ[n] for n in {names}))"
    _, lines = _launched(code, own_cores=True)
    mine = [cores[n::2] or cores[:1] for n in range(2)]
    assert lines == [f"[{n}] {' '.join(map(str, mine[n]))} 2 0" for n in range(2)]


def test_all_processes_get_one_address_of_the_loopback_interface():
    """And the first listens nowhere else."""
    names = "JAX_COORDINATOR_ADDRESS", "JAX_COORDINATOR_BIND_ADDRESS"
    _, lines = _launched(f"import os; print(*(os.environ[n] for n in {names}))")
    (where,) = {line.partition("] ")[2] for line in lines}
    address, bound = where.split()
    assert address == bound
    assert address.startswith("127.0.0.1:")


def test_one_failure_ends_all(tmp_path):
    """The exit code is that of the process that failed; the other, which would sleep for an hour, is gone."""
    code = f"""
import os, sys, time
if os.environ["JAX_PROCESS_ID"] == "1":
    sys.exit(7)
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
time.sleep(3600)
"""
    code, lines = _launched(code)
    assert (code, lines) == (7, ["snap-jax: process 1 ended with exit code 7: the others are ended too"])
    assert not (tmp_path / "pid").exists() or not _runs(int((tmp_path / "pid").read_text()))


def test_a_killed_process_is_named():
    """As a shell would, 128 and the number of the signal."""
    code, lines = _launched("import os; os.kill(os.getpid(), 9) if os.environ['JAX_PROCESS_ID'] == '0' else None")
    assert code == 128 + signal.SIGKILL
    assert lines == ["snap-jax: process 0 was killed by SIGKILL: the others are ended too"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_launch_is_stopped(tmp_path, number):
    """SIGTERM and SIGINT are passed on; of SIGKILL the kernel tells the processes."""
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells them")
    sleep = f"import os, time; open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w').close(); time.sleep(3600)"
    command = [sys.executable, "-m", "snap_jax", "launch", "-n", "2", "--", *_python(sleep)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        _until(lambda: len(os.listdir(tmp_path)) == 2)
        started.send_signal(number)
        assert started.wait(timeout=60) != 0
    _until(lambda: not any(_runs(int(pid)) for pid in os.listdir(tmp_path)))


def _until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # a process that nobody waited for has ended, too
        return stat.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "2"], "launch: no command: give it after --"),
        (["-n", "0", "--", "true"], "launch: -n 0: use 1 or more"),
        (["-n", "2", "--", "no-such-program"], "launch: 'no-such-program' is no program"),
        (["-n", "2", "--devices-per-process", "0", "--", "true"], "launch: --devices-per-process 0"),
        (["-n", "2", "--coordinator", "host", "--", "true"], "launch: --coordinator 'host': give HOST:PORT"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    """Exit code 2, and nothing is started."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["launch", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_line_passes_the_exit_code_on(capsys):
    """And every option of the command, also those that look like its own."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["launch", "-n", "1", "--", *_python("import sys; print(sys.argv[1:]); sys.exit(3)"), "-n", "--", "x"])
    assert stopped.value.code == 3
    assert capsys.readouterr().out.splitlines()[0] == "[0] ['-n', '--', 'x']"


def test_a_launch_needs_a_command():
    """As a function, too."""
    with pytest.raises(UsageError, match="launch: no command"):
        launch([], 1)
