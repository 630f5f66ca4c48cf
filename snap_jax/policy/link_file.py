"""The link that `auto` assumes, from a file: JSON of two numbers, or the TOML that `snap-jax cost calibrate` prints."""

from pathlib import Path
from typing import Annotated, Any

from snap_jax.cost.system import NAMED
from snap_jax.errors import UsageError
from snap_jax.input_files.checked import Checked, Count, Field, check, parse_json, parse_toml, read_text

Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_ADVICE = f"use {', '.join(NAMED)}, a JSON file with latency_s and bytes_per_s, or a TOML file with a [links.mine]"


class LinkFile(Checked):
    """The JSON."""

    latency_s: Count
    bytes_per_s: Speed
    coding_bytes_per_s: Speed | None = None


def read_link(path: Path, axis: str, axis_size: int) -> dict[str, Any]:
    """Return what a TOML file of a system would hold: a switch of so many devices with that link.

    Raises:
      UsageError: names the file and the field.
    """
    where = f"link {str(path)!r}"
    text = read_text(path, _ADVICE)
    if path.suffix == ".toml":
        values = parse_toml(text, where, _ADVICE)
    else:
        values = _as_toml(check(LinkFile, parse_json(text, where, _ADVICE), where, _ADVICE), str(path))
    links = values.get("links")
    if not isinstance(links, dict) or not links:
        raise UsageError(f"{where} has no [links.mine]: {_ADVICE}")
    switch = {"topology": "Switch", "chips": axis_size, "link": next(iter(links))}
    return values | {"name": str(path), "axes": {axis: switch}}


def _as_toml(found: LinkFile, source: str) -> dict[str, Any]:
    figures = {"gbyte_per_s": found.bytes_per_s / 1e9, "latency_ns": 1e9 * found.latency_s}
    values: dict[str, Any] = {"links": {"mine": {"boundary": "as calibrated", "source": source} | figures}}
    if found.coding_bytes_per_s is not None:
        rate = found.coding_bytes_per_s / 1e9
        values["coding"] = {"encode_gbyte_per_s": rate, "decode_gbyte_per_s": rate, "source": source}
    return values
