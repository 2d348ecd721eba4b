# SPDX-License-Identifier: MIT
"""Places shared by the tests."""

import os
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[2] / "assets" / "world"
FIXTURES = Path(os.environ.get("EESTREAM_FIXTURES", Path(__file__).resolve().parents[4] / "shared/data/fixtures"))


@pytest.fixture
def assets() -> Path:
    if not (ASSETS / "clip.avi").exists():
        pytest.skip(f"no assets in {ASSETS}")
    return ASSETS


@pytest.fixture
def lgvit_fixture() -> Path:
    path = FIXTURES / "lgvit_vit_8exits"
    if not path.exists():
        pytest.skip(f"no numeric fixture in {path}; set EESTREAM_FIXTURES")
    return path
