"""Rasters of images: every spike once, where and when it crossed, and the image below."""

import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread
from test_report import page

from snap_jax.report.rasters import MOST_COLUMNS
from tests.support.report_runs import image_spikes, make_run, some_spikes


def pixels(uri):
    found = np.round(imread(io.BytesIO(base64.b64decode(uri.split(",")[1])), format="png") * 255).astype(int)
    return found if found.shape[-1] == 4 else np.pad(found, ((0, 0), (0, 0), (0, 1)), constant_values=255)


def drawn(tmp_path, kept):
    """The image, and for each boundary the panels of its time steps and the strip below."""
    html = page([make_run(tmp_path, "run", spikes=kept)], tmp_path)
    whole, *rest = [pixels(attrs["href"]) for tag, attrs in html.seen if tag == "image"]
    each = kept["spikes"].shape[1] + 1
    return html, whole, [rest[i : i + each] for i in range(0, len(rest), each)]


def test_each_spike_is_drawn_once(tmp_path):
    """A column per position, row by row, and a row per channel: column = row * (columns + 1) + column."""
    kept = image_spikes(steps=2, rows=3, columns=4)
    html, _, boundaries = drawn(tmp_path, kept)
    assert len(boundaries) == 2
    for values, (*panels, _) in zip(kept["spikes"], boundaries, strict=True):
        for now, cells in zip(values, panels, strict=True):
            opacity = cells[..., 3].reshape(16, 3, 5)
            orange = (cells[..., 0] > cells[..., 2]).reshape(16, 3, 5) & (opacity > 0)
            np.testing.assert_array_equal(orange[..., :4], (now > 0).transpose(2, 0, 1))
            np.testing.assert_array_equal((opacity > 0)[..., :4], (now != 0).transpose(2, 0, 1))
            # Three sizes of spikes, three opacities, in order.
            assert [set(opacity[..., :4][np.abs(now).transpose(2, 0, 1) == n]) for n in (1, 2, 3)] == [
                {110},
                {180},
                {255},
            ]
            assert not opacity[..., 4].any()
    words = " ".join(html.words)
    for step, now in enumerate(kept["spikes"].swapaxes(0, 1)):
        assert f"time step {step + 1}: {(now[0] != 0).mean():.1%}".replace("%", " %") in words
    assert "Gray: how often" not in words


def test_the_image_stands_below_its_spikes(tmp_path):
    """The stream has a place for 2 x 2 pixels: the first of these, in grey."""
    kept = image_spikes()
    _, whole, boundaries = drawn(tmp_path, kept)
    grey = kept["image"].mean(-1).astype(int)
    np.testing.assert_array_equal(whole[..., 0], grey)
    for *_, strip in boundaries:
        np.testing.assert_array_equal(strip[0, :, 0].reshape(3, 5)[:, :4], grey[::2, ::2])


@pytest.mark.parametrize(("rows", "shown"), [(8, 8), (28, 6)])
def test_of_a_large_image_some_rows_are_shown_and_marked(tmp_path, rows, shown):
    """A row of 28 places and a gap: 200 // 29 = 6 rows fit."""
    kept = image_spikes(steps=1, rows=rows, columns=rows, scale=1)
    html, _, boundaries = drawn(tmp_path, kept)
    ((cells, _), _) = boundaries
    assert cells.shape[1] == shown * (rows + 1) <= MOST_COLUMNS
    marks = [attrs for tag, attrs in html.seen if tag == "rect" and attrs["class"] == "mark"]
    assert len(marks) == (shown if shown < rows else 0)
    first = int((rows / shown) / 2)  # the middle of the first of as many parts as rows are shown
    np.testing.assert_array_equal(cells[:, :rows, 3] > 0, kept["spikes"][0, 0, first].T != 0)
    assert not any(word.startswith("time step") for word in html.words)


def test_texts_and_images_stand_in_one_section_and_ask_nothing_of_the_network(tmp_path):
    runs = [make_run(tmp_path, "text", spikes=some_spikes()), make_run(tmp_path, "seen", spikes=image_spikes())]
    html = page(runs, tmp_path)
    assert html.open == []
    assert html.words.count("What crosses each boundary") == 2  # in the contents, and as a heading
    assert all(attrs["href"].startswith("data:") for tag, attrs in html.seen if tag == "image")
    labels = [attrs.get("aria-label", "") for tag, attrs in html.seen if tag == "svg"]
    assert sum("for a held-out image of class 7" in label for label in labels) == 2


def test_boundaries_of_different_shapes_are_drawn_apart(tmp_path):
    first, second = (image_spikes(steps=1, rows=n, columns=n, channels=c, scale=1) for n, c in ((4, 8), (2, 16)))
    kept = {"image": first["image"], "label": first["label"], "spikes_1": first["spikes"][0]}
    html = page([make_run(tmp_path, "run", spikes=kept | {"spikes_2": second["spikes"][0]})], tmp_path)
    _, *drawn = [pixels(attrs["href"]) for tag, attrs in html.seen if tag == "image"]
    for values, cells in zip((first["spikes"][0, 0], second["spikes"][0, 0]), drawn[::2], strict=True):
        rows, columns, channels = values.shape
        fired = (cells[..., 3] > 0).reshape(channels, rows, columns + 1)
        np.testing.assert_array_equal(fired[..., :columns], (values != 0).transpose(2, 0, 1))
