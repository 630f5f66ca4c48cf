"""A spike raster: what crossed each boundary while a text was read, a column a byte, a row a channel."""

import numpy as np
from numpy.typing import NDArray

from snap_jax.report import number_format, svg
from snap_jax.report.png import Colour, data_uri
from snap_jax.report.run_data import Run, TextSpikes

MOST = 104  # bytes of text shown: as wide as the page
_POSITIVE, _NEGATIVE = (
    (222, 103, 10),
    (36, 132, 194),
)  # apart for every kind of colour vision, on light and on dark
_OPACITY = (110, 180, 255)  # of small, middling and large spikes
_COLUMN, _HEAD, _FOOT = 9.0, 22.0, 40.0
_SIGNS = {"\n": "⏎", "\t": "⇥", " ": "·"}


def raster(run: Run) -> str:
    """Draw a panel for each boundary with the text below it; "" if the run kept no spikes."""
    kept = run.spikes
    if not isinstance(kept, TextSpikes) or not kept.spikes.size:
        return ""
    text, spikes = kept.text[:MOST].tobytes(), kept.spikes[:, :MOST]
    width, height = _COLUMN * len(text), min(max(2.0 * spikes.shape[2], 72.0), 256.0)
    parts, top = [], 0.0
    for n, values in enumerate(spikes):
        cells = np.repeat(shades(values).T, 5, axis=1)
        cells[:, 4::5] = 0  # a gap between columns leads the eye to the letter below
        parts += [svg.text(0.0, top + 13, title(n, values), "name"), panel(cells, top + _HEAD, width, height)]
        parts += _characters(text, top + _HEAD + height + 14)
        top += _HEAD + height + _FOOT
    label = f"Spikes of {run.label} while it reads: {text.decode('utf-8', 'replace')}"
    return svg.picture(width, top - _FOOT + 22, label, parts, least=width)


def title(n: int, values: NDArray[np.integer]) -> str:
    """Name a boundary, and say how busy it is; values are `[..., channels]`."""
    return f"boundary {n + 1}: {number_format.percent(float(np.mean(values != 0)))} of {values.shape[-1]} channels fire"


def panel(cells: NDArray[np.uint8], top: float, width: float, height: float) -> str:
    """Draw shades `[channels, columns]` over a pale ground."""
    palette: list[Colour] = [(0, 0, 0, 0)]
    palette += [(*rgb, opacity) for rgb in (_POSITIVE, _NEGATIVE) for opacity in _OPACITY]
    return svg.box(0.0, top, width, height, "panel") + (
        f'<image x="0" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="{data_uri(cells, palette)}"/>'
    )


def shades(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Index into the palette of a panel: 0 is silence, 1 to 3 positive spikes by size, 4 to 6 negative ones.

    >>> shades(np.array([0, 1, 3, -3])).tolist()
    [0, 1, 3, 6]
    """
    size = np.abs(values.astype(np.int64))
    shade = -(-3 * size // max(int(size.max()), 1))
    return np.where(values < 0, shade + 3, shade).astype(np.uint8)


def _characters(text: bytes, y: float) -> list[str]:
    signs = [chr(byte) if 32 < byte < 127 else _SIGNS.get(chr(byte), "▯") for byte in text]
    kinds = ["letter" if 32 < byte < 127 else "letter quiet" for byte in text]
    places = [_COLUMN * (i + 0.45) for i in range(len(text))]
    return [svg.text(x, y, sign, kind, "middle") for x, sign, kind in zip(places, signs, kinds, strict=True)]
