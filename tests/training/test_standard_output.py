"""Standard output that cannot be written ends no run, and signs that it does not know are written as escapes."""

import subprocess
import sys

import pytest

_PROGRAM = """
from snap_jax.training.standard_output import go_on_without_output
go_on_without_output()
for step in range(3):
    print("step", step, "\\u2501", flush=True)
open("done", "w").close()
"""


def run(tmp_path, shell, **variables):
    words = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "-", sys.executable, "-c", _PROGRAM]
    own = {"PYTHONPATH": ":".join(sys.path)} | variables
    done = subprocess.run(words, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
    assert (tmp_path / "done").exists()
    assert done.returncode == 0
    return done


@pytest.mark.parametrize(("shell", "why"), [("> /dev/full", "No space left on device"), ("| true", "Broken pipe")])
def test_the_program_goes_on_and_says_once_that_nobody_reads(tmp_path, shell, why):
    shell = shell.replace("true", "(exec <&-; sleep 1)")
    message = (
        f"standard output cannot be written ({why}): the run goes on without it, and its directory has all numbers"
    )
    assert run(tmp_path, shell).stderr == f"snap-jax: {message}\n"


def test_closed_output_is_no_error(tmp_path):
    assert run(tmp_path, ">&-").stderr == ""


def test_signs_that_the_terminal_does_not_know_are_escaped(tmp_path):
    assert run(tmp_path, "", PYTHONIOENCODING="ascii").stdout.splitlines()[0] == "step 0 \\u2501"


def test_another_standard_output_is_left_alone(capsys):
    from snap_jax.training.standard_output import go_on_without_output

    before = sys.stdout
    go_on_without_output()
    assert sys.stdout is before
