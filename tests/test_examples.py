"""Each script of examples/ runs as a user starts it, and prints what its docstring promises."""

import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))


@pytest.fixture
def lines(request, capsys, monkeypatch, tmp_path):
    """Run a script in a folder of its own and return the lines that it prints."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(FOLDER / request.param), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def numbers(line):
    """The numbers of a line."""
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", line)]


@pytest.mark.parametrize("lines", ["gather_spikes.py"], indirect=True)
def test_gathered_spikes_equal_lax_and_take_fewer_bytes(lines):
    assert all(line.endswith("same as lax: True") for line in lines)
    sent = [numbers(line.split("bytes")[0])[-1] for line in lines]
    assert sent == sorted(sent, reverse=True)
    assert sent[0] == 4 * 3 * 1024 * 64  # each of four devices sends its quarter to three


@pytest.mark.parametrize("lines", ["data_parallel.py"], indirect=True)
def test_ternary_gradients_train(lines):
    (first, dense, floats), (_, sparse, spikes) = (numbers(line) for line in lines)
    assert dense < first / 4
    assert sparse < first / 4
    assert spikes < floats / 8


@pytest.mark.parametrize("lines", ["price_a_system.py"], indirect=True)
def test_prices_fall_with_the_bytes_and_what_has_no_source_says_so(lines):
    chiplets, board, hosts = lines[0:2], lines[2:4], lines[4:6]
    assert all(line.endswith("| no source") for line in board)
    for dense, spikes in (chiplets, hosts):
        more, less = (float(re.findall(r"[\d.]+", line.split("|")[1])[0]) for line in (dense, spikes))
        assert 4 < more / less < 6  # 16 bits against 3, and latency


@pytest.mark.parametrize("lines", ["pipeline_mlp.py"], indirect=True)
def test_a_pipeline_of_spikes_learns(lines):
    stages = [line for line in lines if re.match(r"\d +blocks", line)]
    assert ["coded" in line for line in stages] == [True, True, True, False]
    first, last = numbers(lines[-1])
    assert last < first / 4


@pytest.mark.parametrize("lines", ["finetune_to_budget.py"], indirect=True)
def test_fine_tuning_meets_the_budget_and_recovers_loss(lines):
    (_, dense), (_, calibrated), (bits, tuned) = (numbers(line) for line in lines)
    assert dense < tuned < calibrated
    assert abs(bits - 1) < 0.15


def test_every_script_is_listed_and_tested():
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    for script in SCRIPTS:
        assert f"`{script.name}`" in listed
        assert f'"{script.name}"' in tests
