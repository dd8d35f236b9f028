"""The demonstration: a small model, three minutes of speech, and the text of that speech.

Touches: only its own files. README.md in this folder describes the model and its limits.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

MODEL = _HERE / "model"
SAMPLE = _HERE / "sample.m4a"
SAMPLE_TEXT = _HERE / "sample.txt"
