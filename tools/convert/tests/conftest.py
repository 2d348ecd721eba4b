# SPDX-License-Identifier: MIT
"""Every test runs what was converted, so the command must be there: nothing is skipped for its lack."""

import os
from pathlib import Path

import pytest
import support


def pytest_sessionstart(session):
    os.environ["EESTREAM"] = support.EESTREAM  # the exporter runs the same one
    if not Path(support.EESTREAM).exists():
        raise pytest.UsageError(f"{support.EESTREAM} is missing: build the release preset, or set EESTREAM")


def fixtures() -> list[Path]:
    """Folders of reference numbers that hold a whole model."""
    return sorted(path.parent for path in support.SHARED.glob("fixtures/*/model.safetensors"))


def pytest_generate_tests(metafunc):
    if "fixture" in metafunc.fixturenames:
        folders = fixtures() or [pytest.param(None, marks=pytest.mark.skip(f"no reference data in {support.SHARED}"))]
        metafunc.parametrize("fixture", folders, ids=lambda path: getattr(path, "name", "none"))


@pytest.fixture(scope="session")
def world() -> Path:
    """The model that is embedded in eestream: 4 exits."""
    return support.ROOT / "tools/assets/world/model"
