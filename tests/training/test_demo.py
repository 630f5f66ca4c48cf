"""What the demo concludes follows from its numbers."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from snap_jax.errors import UsageError
from snap_jax.training import demo


def result(link, losses, nbytes):
    """Seconds are those of the bytes on three networks."""
    seconds = {name: sum(nbytes) / rate for name, rate in zip(demo.NETWORKS, (25e6, 1.25e9, 1e11), strict=True)}
    return demo.LinkResult(link, (Path(link),), losses, 32 * nbytes[0] / 2_000_000, nbytes, seconds)


DENSE = result("fp32", (2.50, 2.52), (2_000_000, 2_000_000))
GOOD = result("int3+rans", (2.52, 2.53), (200_000, 500_000))
LEAN = result("ternary+rans", (2.70, 2.71), (100_000, 500_000))
NEAR = result("int8", (2.50, 2.51), (500_000, 500_000))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        # 4 MB over 0.7 MB; 0.7 MB at 25 MB/s; (2.525 / 2.51 - 1) and 0.02 / 2.51
        (
            (GOOD, LEAN, NEAR),
            "int3+rans trains about as well as float32 (loss +0.6 %; seeds differ by 0.8 %) and sends 5.7",
        ),
        ((GOOD, LEAN, NEAR), "Over 200 Mb/s, the bytes of one step take 28 ms instead of 160 ms."),
        ((LEAN, NEAR), "int8 trains about as well as float32 (loss -0.2 %; seeds differ by 0.8 %) and sends 4.0 times"),
        ((LEAN,), "no link is as good as float32 here: ternary+rans comes closest, with a loss +7.8 %."),
    ],
)
def test_the_leanest_link_that_is_as_good_is_named(others, said):
    assert said in " ".join(demo.conclusion([DENSE, *others]).split())


def test_the_table_fits_a_terminal():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(demo.table([DENSE, GOOD, LEAN]))
    text = console.export_text()
    assert "2.525 ±0.005" in text
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert max(map(len, (demo.INTRODUCTION + demo.LEGEND).splitlines())) <= 80


def test_a_demo_replaces_only_a_demo(tmp_path):
    demo.check_free(tmp_path / "new", overwrite=False)
    (tmp_path / "report.html").write_text("of somebody else")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"holds report.html, but no demo that wrote it: choose another --out"):
            demo.check_free(tmp_path, overwrite)
    folder = demo.folders_of(tmp_path, "int8")[0]
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    demo.check_free(tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="already holds a demo: choose another --out, or pass --overwrite"):
        demo.check_free(tmp_path, overwrite=False)
