"""Packages of others that only some tests need."""

import importlib.util

import pytest


def require(package):
    """Skip where this package is not installed; nothing of it is imported."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"no package {package}: make outside-models")
