"""`snap-jax report --json`: the numbers of the table, for programs."""

import json

from snap_jax import cli
from tests.support.report_runs import make_run


def test_runs_are_one_json_object_without_paths_of_the_user(tmp_path, capsys):
    made = make_run(tmp_path, "a", {("wire", "bits_per_element"): float("nan")}), make_run(tmp_path, "b")
    cli.main(["report", *map(str, made), "--json", "--out", str(tmp_path / "page.html")])
    shown = capsys.readouterr().out
    first, second = json.loads(shown, parse_constant=lambda name: 1 / 0)["runs"]  # no NaN
    assert (first["metric"], first["value"], first["forward_bytes"]) == ("bits_per_byte", 2.0, 1000)
    assert (first["bits"], second["bits"]) == (None, 16.0)
    assert second["costs"]["ring"]["energy_j"] == [1e-6, 2e-6]
    assert str(tmp_path) not in shown
    assert not (tmp_path / "page.html").exists()
