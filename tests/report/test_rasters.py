"""Rasters of the report: every pixel, every spike, and the text below."""

import base64
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from snap_jax.report.rasters import data_uri
from tests.support.report_pages import page
from tests.support.report_runs import make_run, some_spikes


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_png_keeps_every_pixel(height, width, data):
    palette = data.draw(st.lists(st.tuples(*[st.integers(0, 255)] * 4), min_size=1, max_size=256))
    flat = data.draw(st.lists(st.integers(0, len(palette) - 1), min_size=height * width, max_size=height * width))
    pixels = np.array(flat, np.uint8).reshape(height, width)
    file = base64.b64decode(data_uri(pixels, palette).removeprefix("data:image/png;base64,"))
    read = np.round(imread(io.BytesIO(file), format="png") * 255).astype(int)
    if read.shape[-1] == 3:  # a reader may drop an opacity that is full everywhere
        read = np.concatenate([read, np.full((height, width, 1), 255)], axis=-1)
    assert np.array_equal(read, np.array(palette)[pixels])


def test_the_raster_shows_each_spike_once(tmp_path):
    spikes = some_spikes()
    html = page([make_run(tmp_path, "run", spikes=spikes)], tmp_path)
    images = [attrs["href"] for tag, attrs in html.seen if tag == "image"]
    for uri, values in zip(images[::2], spikes["spikes"], strict=True):  # beside each the rates of its channels
        pixels = imread(io.BytesIO(base64.b64decode(uri.split(",")[1])), format="png")
        drawn = pixels[:, ::5]  # a column is four pixels and a gap
        red, blue, opacity = drawn[..., 0], drawn[..., 2], drawn[..., 3]
        assert np.array_equal((opacity > 0) & (red > blue), values.T > 0)
        assert np.array_equal((opacity > 0) & (blue > red), values.T < 0)
        assert not pixels[:, 4::5, 3].any()


def test_the_raster_writes_the_text_below(tmp_path):
    html = page([make_run(tmp_path, "run", spikes=some_spikes())], tmp_path)
    below = "".join(word for word in html.words if len(word) == 1)
    assert "def·f(x):⏎⇥return·x▯▯▯" * 2 in below
