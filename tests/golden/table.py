"""The recorded values: one key a line, sorted."""

import json
from pathlib import Path

RECORDED_WITH = "0.10."
"""The versions of JAX whose order of summation the inexact keys were recorded with."""

_FILE = Path(__file__).with_name("table.json")


def load():
    return json.loads(_FILE.read_text(encoding="utf-8"))


def save(table):
    lines = [f"{json.dumps(key)}: {json.dumps(table[key])}" for key in sorted(table)]
    _FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def differences(recorded, found):
    """One line for each key that is missing, new, or of another value."""
    keys = sorted(recorded.keys() | found.keys())
    pairs = [(key, recorded.get(key, "not recorded"), found.get(key, "not found")) for key in keys]
    return [f"{key}: was {before}, is {now}" for key, before, now in pairs if before != now]
