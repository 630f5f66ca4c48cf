"""A spike raster of a picture: what crossed a boundary for it, a column a place, row by row, a row a channel."""

import numpy as np
from numpy.typing import NDArray

from snap_jax.report import number_format, svg
from snap_jax.report.png import Colour, data_uri
from snap_jax.report.raster import panel, shades, title
from snap_jax.report.run_data import PictureSpikes, Run

MOST = 200  # columns: of a figure 400 wide, so that a phone shows each
_WIDTH, _HEAD, _STRIP = 400.0, 22.0, 12.0
_GREYS: list[Colour] = [(level, level, level, 255) for level in range(256)]


def picture(run: Run) -> str:
    """Draw the picture itself, small; "" if there is none. Marks stand where the first raster shows some rows only."""
    kept = run.spikes
    if not isinstance(kept, PictureSpikes) or not kept.spikes:
        return ""
    rows, columns = kept.spikes[0].shape[1:3]
    there, side, each = shown_rows(rows, columns), 100.0, 100.0 / rows
    marks = [svg.box(0.0, each * (row + 0.2), 4.0, 0.6 * each, "mark") for row in there if len(there) < rows]
    grey = kept.image.mean(-1).astype(np.uint8)
    label = f"The held-out picture that {run.label} sends spikes of: class {kept.label}"
    return svg.picture(side + 8, side, label, [*marks, _grey(grey, 8.0, 0.0, side, side)])


def rasters(run: Run) -> list[str]:
    """Draw a figure for each boundary, a panel for each tick, and below them what stands in the picture there."""
    kept = run.spikes
    if not isinstance(kept, PictureSpikes):
        return []
    return [_raster(run, kept, n) for n in range(len(kept.spikes))]


def shown_rows(rows: int, columns: int) -> NDArray[np.integer]:
    """Rows of the stream that a raster shows, evenly spread; all of a small picture.

    >>> shown_rows(8, 8).tolist(), shown_rows(28, 28).tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7], [2, 7, 11, 16, 21, 25])
    """
    count = min(rows, max(1, MOST // (columns + 1)))
    return ((np.arange(count) + 0.5) * rows / count).astype(int)


def _raster(run: Run, kept: PictureSpikes, n: int) -> str:
    values = kept.spikes[n]
    ticks, rows, columns, channels = values.shape
    there = shown_rows(rows, columns)
    height = min(max(2.0 * channels, 72.0), 256.0) if ticks == 1 else min(max(1.5 * channels, 40.0), 96.0)
    parts, top = [svg.text(0.0, 13.0, title(n, values), "name")], 0.0
    all_shades = shades(values[:, there])
    for tick in range(ticks):
        if ticks > 1:
            words = f"tick {tick + 1}: {number_format.percent(float(np.mean(values[tick] != 0)))}"
            parts.append(svg.text(0.0, top + _HEAD + 11, words, "tick"))
            top += 16.0
        parts.append(panel(_in_a_row(all_shades[tick]).T, top + _HEAD, _WIDTH, height))
        top += height + 6.0
    below = _grid(kept.image, rows, columns)[there]
    parts.append(_grey(_in_a_row(below[..., None])[:, 0][None], 0.0, top + _HEAD, _WIDTH, _STRIP))
    label = f"Spikes of {run.label} at boundary {n + 1} for a held-out picture of class {kept.label}"
    return svg.picture(_WIDTH, top + _HEAD + _STRIP, label, parts)


def _in_a_row(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows of places `[rows, columns, channels]` one behind the other, a gap behind each: `[places, channels]`."""
    return np.pad(values, ((0, 0), (0, 1), (0, 0))).reshape(-1, values.shape[-1])


def _grid(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """The picture in grey, as finely as the stream is divided."""
    height, width = image.shape[:2]
    at = np.ix_(np.arange(rows) * height // rows, np.arange(columns) * width // columns)
    return image.mean(-1).astype(np.uint8)[at]


def _grey(levels: NDArray[np.uint8], x: float, y: float, width: float, height: float) -> str:
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="{data_uri(levels, _GREYS)}"/>'
    )
