"""Draw the figures of the README and of docs/results.md from the published numbers.

Source: the tables of docs/results.md, printed by `python -m experiments.pareto --show --task text` (three seeds),
`... --task noisy` (four seeds) and `python -m experiments.ablations --show` (seed 0). Each point is a mean over seeds.
An error bar is one standard deviation of the held-out loss over seeds; it is drawn only where the table has one.

Run from the root of the repository: `python docs/make_figures.py`.
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt


def increase(dense, rows):
    """Return (bits, loss increase in percent, standard deviation in percent or None) of each (bits, loss, s.d.)."""
    return [(bits, 100 * (loss / dense - 1), sd and 100 * sd / dense) for bits, loss, sd in rows]


TEXT_SPREAD = 100 * 0.0151 / 2.2997  # of the dense model itself
TEXT_SPIKES = increase(
    2.2997,
    [
        (0.502, 2.5348, 0.0107),
        (1.001, 2.3903, 0.0160),
        (1.495, 2.3444, 0.0165),
        (1.995, 2.3252, 0.0154),
        (3.006, 2.2988, 0.0180),
    ],
)
TEXT_BASELINE = increase(
    2.2997,
    [
        (0.500, 2.6097, 0.0064),
        (1.000, 2.4813, 0.0189),
        (1.500, 2.4184, 0.0235),
        (2.000, 2.3923, 0.0232),
        (3.000, 2.3614, 0.0162),
    ],
)
# Seed 0 only: the baseline with the token prediction of our method, against the dense model of the same seed.
TEXT_BASELINE_WITH_PREDICTION = increase(2.3236, [(1.013, 2.4746, None), (2.013, 2.3643, None)])

DIGITS_SPREAD = 100 * 0.0126 / 0.1311
DIGITS_SPIKES = increase(0.1311, [(0.5, 0.1733, 0.0230), (1.0, 0.1484, None), (1.5, 0.1525, None), (2.0, 0.1404, None)])
DIGITS_BASELINE = increase(
    0.1311, [(0.5, 0.1972, 0.0178), (1.0, 0.1713, None), (1.5, 0.1713, None), (2.0, 0.1638, None)]
)
# The points at three bits ran on another machine, where the dense model had a loss of 0.1306.
DIGITS_SPIKES += increase(0.1306, [(2.935, 0.1436, 0.0168)])
DIGITS_BASELINE += increase(0.1306, [(3.0, 0.1430, 0.0072)])

OURS, OTHER, GREY = "#1b6ca8", "#c8553d", "#777777"


def curve(axes, points, color, style, label):
    """Plot points with error bars; a dotted line has hollow markers."""
    bits, loss, spread = zip(*points, strict=True)
    face = "white" if ":" in style else color
    axes.plot(bits, loss, style, color=color, markerfacecolor=face, label=label, markersize=6, lw=1.8)
    for x, y, sd in zip(bits, loss, spread, strict=True):
        if sd is not None:
            axes.errorbar(x, y, yerr=sd, color=color, capsize=3, lw=1)


def figure(name, title, spread, top, curves):
    """Save one figure as SVG, without a date, so that it is the same each time."""
    _, axes = plt.subplots(figsize=(7.2, 3.9), layout="constrained")
    axes.axhline(0, color=GREY, lw=1.2, ls="--")
    axes.axhspan(-spread, spread, color=GREY, alpha=0.12, lw=0)
    axes.text(0.33, 0, "not compressed", color=GREY, fontsize=9, va="bottom")
    for one in curves:
        curve(axes, *one)
    axes.set(xlabel="bits per element on the wire (bf16: 16)", ylabel="increase of held-out loss (%)")
    axes.set(xlim=(0.3, 3.3), ylim=(-spread * 2.2, top))
    axes.set_title(title, fontsize=10.5, loc="left")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9, frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.savefig(Path(__file__).parent / name, metadata={"Date": None})


def main():
    """Write both figures beside this file."""
    mpl.rcParams.update({"svg.hashsalt": "snap_jax", "font.size": 10})
    ours = "snap_jax: spike counts, trained to a bit budget"
    figure(
        "loss-vs-bits-text.svg",
        "Language model (RWKV, width 64), three pipeline boundaries; mean ± s.d. of 3 seeds",
        TEXT_SPREAD,
        15,
        [
            (TEXT_BASELINE, OTHER, "s-", "best baseline: low-rank bottleneck, fixed-size int4"),
            (TEXT_BASELINE_WITH_PREDICTION, OTHER, "D:", "the same with our token prediction (1 seed)"),
            (TEXT_SPIKES, OURS, "o-", ours),
        ],
    )
    figure(
        "loss-vs-bits-noisy-digits.svg",
        "Noisy 8x8 digits (MS-ResNet, width 32), three pipeline boundaries; mean of 4 seeds",
        DIGITS_SPREAD,
        70,
        [
            (DIGITS_BASELINE, OTHER, "s-", "best baseline: fixed-size integers"),
            (DIGITS_SPIKES, OURS, "o-", ours),
        ],
    )


if __name__ == "__main__":
    main()
