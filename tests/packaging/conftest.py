"""What tests of the installed distribution share."""

from __future__ import annotations

import importlib.metadata

import pytest


@pytest.fixture(scope="session")
def metadata() -> importlib.metadata.PackageMetadata:
    """The metadata of the installed distribution."""
    try:
        return importlib.metadata.metadata("redunet")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("redunet is not installed here, only on the path")
