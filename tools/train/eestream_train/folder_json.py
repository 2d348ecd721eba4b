# SPDX-License-Identifier: MIT
"""JSON files of a model's folder."""

from __future__ import annotations

import json
import re
from pathlib import Path


def write_json(path: Path, value) -> None:
    """Indented JSON, but lists of plain values on one line."""
    text = json.dumps(value, indent=2)
    path.write_text(re.sub(r"\[[^][{}]*\]", lambda m: " ".join(m[0].split())
                           .replace("[ ", "[").replace(" ]", "]"), text) + "\n")
