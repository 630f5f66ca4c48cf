"""Rasters: what crossed each boundary for a text or an image.

A text has a column for each byte and a row for each channel. An image has a column for each position, row by row, and a
row for each channel. Where most values are zero, the others are drawn. Where most are not, drawing them all would show
nothing: then the deviation from the mean of the channel is drawn.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snap_jax.errors import requires_extra
from snap_jax.report import number_format, svg
from snap_jax.report.run_data import ImageSpikes, RunData, TextSpikes

Color = tuple[int, int, int, int]  # red, green, blue, opacity, each 0 .. 255

MOST_BYTES = 98  # bytes of text shown: with the rates beside them as wide as the page
DENSE = 0.5  # share of values that are not zero from which on deviations are drawn
MOST_COLUMNS = 200  # positions of an image shown: of a figure 400 wide, so that a phone shows each
# Distinct for every kind of color vision, on light and on dark pages.
_POSITIVE, _NEGATIVE = (222, 103, 10), (36, 132, 194)
_OPACITY = (110, 180, 255)  # of small, medium and large spikes
_COLUMN, _HEAD, _FOOT = 9.0, 22.0, 40.0
_WIDTH, _STRIP, _RATES = 400.0, 12.0, 52.0
_IN_ROW, _CELL = 3, (136.0, 112.0)  # histograms: how many side by side, width and height of one
_SIGNS = {"\n": "⏎", "\t": "⇥", " ": "·"}
_BARS: list[Color] = [(0, 0, 0, 0), (128, 132, 138, 190)]
_GREYS: list[Color] = [(level, level, level, 255) for level in range(256)]


def text_raster(run: RunData) -> str:
    """Return a panel for each boundary with the text below it; "" if the run kept no spikes of text."""
    kept = run.spikes
    if not isinstance(kept, TextSpikes) or not kept.spikes.size:
        return ""
    text, spikes = kept.text[:MOST_BYTES].tobytes(), kept.spikes[:, :MOST_BYTES]
    width, height = _COLUMN * len(text), min(max(2.0 * spikes.shape[2], 72.0), 256.0)
    parts, top, full = [], 0.0, max(width + _RATES, 300.0)
    for n, values in enumerate(spikes):
        cells = np.repeat(shades(values).T, 5, axis=1)
        cells[:, 4::5] = 0  # a gap between columns leads to the character below
        parts += [svg.text(0.0, top + 13, _title(n, values), "name"), _panel(cells, top + _HEAD, width, height)]
        parts += [_rates(values, width + 8, top + _HEAD, _RATES - 8, height)]
        parts += _characters(text, top + _HEAD + height + 14)
        top += _HEAD + height + _FOOT
    label = f"What {run.label} sends while it reads: {text.decode('utf-8', 'replace')}"
    return svg.figure(full, top - _FOOT + 22, label, parts, least=full)


def _title(n: int, values: NDArray[np.integer]) -> str:
    """Return the number of a boundary, and how many of its values `[..., channels]` are not zero."""
    share = number_format.percent(float(np.mean(values != 0)))
    return f"boundary {n + 1}: {share} of values not zero"


def explained(run: RunData) -> str:
    """Return what the colors of the rasters of a run mean."""
    kept = run.spikes
    several = [] if kept is None else list(kept.spikes)
    dense = any(is_dense(values) for values in several)
    if dense and not all(is_dense(values) for values in several):
        return (
            "Color: where most values are zero, the value (orange positive, blue negative); elsewhere, how far a value "
            "is above (orange) or below (blue) the mean of its channel."
        )
    return (
        "Color: how far a value is above (orange) or below (blue) the mean of its channel; blank: less than half a "
        "standard deviation."
        if dense
        else "Orange values are positive, blue ones negative, blank ones zero."
    )


def is_dense(values: NDArray[np.integer]) -> bool:
    """Return whether most values are not zero."""
    return bool(values.size) and float(np.mean(values != 0)) > DENSE


def _rates(values: NDArray[np.integer], x: float, y: float, width: float, height: float) -> str:
    """Return a gray bar for each channel: the share of its values `[..., channels]` that are not zero."""
    rates = np.mean(values != 0, axis=tuple(range(values.ndim - 1)))
    filled = (np.arange(40) + 0.5)[None, :] / 40 < rates[:, None]
    return svg.box(x, y, width, height, "panel") + _image(filled.astype(np.uint8), _BARS, x, y, width, height)


def _panel(cells: NDArray[np.uint8], top: float, width: float, height: float) -> str:
    """Return shades `[channels, columns]` over a pale background."""
    palette: list[Color] = [(0, 0, 0, 0)]
    palette += [(*rgb, opacity) for rgb in (_POSITIVE, _NEGATIVE) for opacity in _OPACITY]
    return svg.box(0.0, top, width, height, "panel") + _image(cells, palette, 0.0, top, width, height)


def shades(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return indices into the palette of a panel for values `[..., channels]`: 1 to 3 above, 4 to 6 below, by size.

    Above and below zero where most values are zero; else above and below the mean of the channel, in steps of 1/2, 1
    and 2 standard deviations of all deviations.

    >>> shades(np.array([[0, 1], [0, 3], [0, -3]])).tolist()
    [[0, 1], [0, 3], [0, 6]]
    >>> shades(np.array([[5, 5], [5, 8], [5, 1], [5, 6]])).tolist()
    [[0, 0], [0, 2], [0, 6], [0, 1]]
    """
    if is_dense(values):
        off = values - values.mean(axis=tuple(range(values.ndim - 1)))
        shade = np.digitize(np.abs(off), np.array([0.5, 1.0, 2.0]) * (float(off.std()) or 1.0))
    else:
        off = values.astype(np.int64)
        shade = -(-3 * np.abs(off) // max(int(np.abs(off).max(initial=0)), 1))
    return np.where(off < 0, np.where(shade == 0, 0, shade + 3), shade).astype(np.uint8)


def histograms(run: RunData) -> str:
    """Return how often each value occurs at each boundary, three in a row; "" if the run kept none."""
    kept = run.spikes
    several = [] if kept is None else [values for values in kept.spikes if values.size]
    if not several:
        return ""
    parts = [part for n, values in enumerate(several) for part in _histogram(n, values)]
    rows = -(-len(several) // _IN_ROW)
    label = f"How often each value crosses in {run.label}"
    return svg.figure(_WIDTH, rows * _CELL[1], label, parts)


def _histogram(n: int, values: NDArray[np.integer]) -> list[str]:
    left, top = (n % _IN_ROW) * _CELL[0], (n // _IN_ROW) * _CELL[1]
    low, high = int(values.min()), int(values.max())
    edges = np.linspace(low - 0.5, high + 0.5, min(high - low + 1, 33) + 1)
    share = np.histogram(values, edges)[0] / values.size
    each, full = (_CELL[0] - 20) / len(share), _CELL[1] - 52
    bars = [
        svg.box(left + i * each, top + 20 + full * (1 - s / share.max()), 0.8 * each, full * s / share.max(), "count")
        for i, s in enumerate(share)
    ]
    right, peak = left + _CELL[0] - 20, number_format.percent(float(share.max()))
    foot, middle = top + _CELL[1] - 16, (edges[:-1] + edges[1:]) / 2
    ends = [(left, low, "start"), (right, high, "end")][: 2 if high > low else 1]
    words = [svg.text(x, foot, str(v).replace("-", "−"), "tick", anchor) for x, v, anchor in ends]
    if low < 0 < high:
        zero = int(np.argmin(np.abs(middle)))
        words.append(svg.text(left + (zero + 0.4) * each, foot, "0", "tick", "middle"))
    head = [svg.text(left, top + 13, f"boundary {n + 1}", "tick"), svg.text(right, top + 13, peak, "tick", "end")]
    return [*head, svg.line(left, top + 20, right, top + 20, "grid"), *bars, *words]


def _characters(text: bytes, y: float) -> list[str]:
    signs = [chr(byte) if 32 < byte < 127 else _SIGNS.get(chr(byte), "▯") for byte in text]
    kinds = ["letter" if 32 < byte < 127 else "letter quiet" for byte in text]
    places = [_COLUMN * (i + 0.45) for i in range(len(text))]
    return [svg.text(x, y, sign, kind, "middle") for x, sign, kind in zip(places, signs, kinds, strict=True)]


def image(run: RunData) -> str:
    """Return the image itself, small, with marks at the rows that the first raster shows; "" if there is none."""
    kept = run.spikes
    if not isinstance(kept, ImageSpikes) or not kept.spikes:
        return ""
    rows, columns = kept.spikes[0].shape[1:3]
    there, side, each = shown_rows(rows, columns), 100.0, 100.0 / rows
    marks = [svg.box(0.0, each * (row + 0.2), 4.0, 0.6 * each, "mark") for row in there if len(there) < rows]
    grey = kept.image.mean(-1).astype(np.uint8)
    label = f"The held-out image that {run.label} sends spikes of: class {kept.label}"
    return svg.figure(side + 8, side, label, [*marks, _grey(grey, 8.0, 0.0, side, side)])


def image_rasters(run: RunData) -> list[str]:
    """Return a figure for each boundary: a panel for each time step, and below them the gray levels of the image."""
    kept = run.spikes
    if not isinstance(kept, ImageSpikes):
        return []
    return [_raster(run, kept, n) for n in range(len(kept.spikes))]


def shown_rows(rows: int, columns: int) -> NDArray[np.integer]:
    """Return the rows that a raster shows, evenly spread; all rows of a small image.

    >>> shown_rows(8, 8).tolist(), shown_rows(28, 28).tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7], [2, 7, 11, 16, 21, 25])
    """
    count = min(rows, max(1, MOST_COLUMNS // (columns + 1)))
    return ((np.arange(count) + 0.5) * rows / count).astype(int)


def _raster(run: RunData, kept: ImageSpikes, n: int) -> str:
    values = kept.spikes[n]
    steps, rows, columns, channels = values.shape
    there = shown_rows(rows, columns)
    height = min(max(2.0 * channels, 72.0), 256.0) if steps == 1 else min(max(1.5 * channels, 40.0), 96.0)
    parts, top = [svg.text(0.0, 13.0, _title(n, values), "name")], 0.0
    all_shades = shades(values[:, there])
    for step in range(steps):
        if steps > 1:
            words = f"time step {step + 1}: {number_format.percent(float(np.mean(values[step] != 0)))}"
            parts.append(svg.text(0.0, top + _HEAD + 11, words, "tick"))
            top += 16.0
        parts.append(_panel(_in_a_row(all_shades[step]).T, top + _HEAD, _WIDTH, height))
        top += height + 6.0
    below = _grid(kept.image, rows, columns)[there]
    parts.append(_grey(_in_a_row(below[..., None])[:, 0][None], 0.0, top + _HEAD, _WIDTH, _STRIP))
    label = f"Spikes of {run.label} at boundary {n + 1} for a held-out image of class {kept.label}"
    return svg.figure(_WIDTH, top + _HEAD + _STRIP, label, parts)


def _in_a_row(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return rows `[rows, columns, channels]` one after another, with a gap after each: `[positions, channels]`."""
    return np.pad(values, ((0, 0), (0, 1), (0, 0))).reshape(-1, values.shape[-1])


def _grid(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the gray levels of the image at the resolution of the spikes."""
    height, width = image.shape[:2]
    at = np.ix_(np.arange(rows) * height // rows, np.arange(columns) * width // columns)
    return image.mean(-1).astype(np.uint8)[at]


def _grey(levels: NDArray[np.uint8], x: float, y: float, width: float, height: float) -> str:
    return _image(levels, _GREYS, x, y, width, height)


def _image(pixels: NDArray[np.uint8], palette: Sequence[Color], x: float, y: float, width: float, height: float) -> str:
    return (
        f'<image x="{x:g}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="{data_uri(pixels, palette)}"/>'
    )


def data_uri(pixels: NDArray[np.uint8], palette: Sequence[Color]) -> str:
    """Return a PNG image as a `data:` URI; pixels [height, width] are indices into at most 256 colors.

    >>> data_uri(np.zeros((1, 1), np.uint8), [(0, 0, 0, 255)])[:30]
    'data:image/png;base64,iVBORw0K'
    """
    with requires_extra("report", "the report"):
        from PIL import Image  # slow to import, and only needed here

    image = Image.frombytes("P", pixels.shape[::-1], pixels.tobytes())
    image.putpalette([part for color in palette for part in color[:3]])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=bytes(color[3] for color in palette), optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
