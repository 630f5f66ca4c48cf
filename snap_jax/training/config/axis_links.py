"""Links per axis of a layout: `pipeline=count:3,data=ternary`. Axes that are not named send floats."""

import difflib

from snap_jax.errors import UsageError
from snap_jax.training.tasks.layout import WORDS, Layout

FLOATS = "fp32"


def by_axis(spec: str, flag: str) -> dict[str, str] | None:
    """Return the codec of each axis that a spec names; None for one codec for all axes.

    >>> by_axis("pipeline=count:3, data=ternary", "--link"), by_axis("count:3", "--link")
    ({'pipeline': 'count:3', 'data': 'ternary'}, None)

    Raises:
      UsageError: for an axis that is not known or comes twice, or a codec without one.
    """
    if "=" not in spec:
        return None
    found: dict[str, str] = {}
    for part in spec.split(","):
        axis, equals, link = (word.strip() for word in part.partition("="))
        if not equals or not link:
            raise UsageError(
                f"{flag} {spec}: {part.strip()!r} is no AXIS=CODEC: write pipeline=count:3,data=ternary, or one codec "
                "for all axes"
            )
        if axis not in WORDS:
            close = difflib.get_close_matches(axis, WORDS, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"{flag} {spec}: there is no axis {axis!r}{hint}: use {', '.join(WORDS)}")
        if axis in found:
            raise UsageError(f"{flag} {spec}: {axis} comes twice: leave one out")
        found[axis] = link
    return found


def check_axes(spec: str, flag: str, layout: Layout, written: str) -> None:
    """Check that something is sent along each axis that a spec names; `written` is the layout as typed.

    Raises:
      UsageError: names the axis.
    """
    for axis in by_axis(spec, flag) or {}:
        if getattr(layout, axis) == 1:
            raise UsageError(
                f"{flag} {spec} with --layout {written}: there is one device along {axis}, so nothing is sent: leave "
                f"{axis}= out, or use --layout {axis}:2 and others"
            )


def along(spec: str, flag: str, axis: str) -> str:
    """Return the codec of one axis.

    >>> along("data=ternary", "--link", "pipeline"), along("count:3", "--link", "pipeline")
    ('fp32', 'count:3')
    """
    found = by_axis(spec, flag)
    return spec if found is None else found.get(axis, FLOATS)
