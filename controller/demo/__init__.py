"""The demonstration: a small model, three minutes of its speech, and the words that are spoken.

Touches: nothing but its own files. See README.md here for what the model is, and is not.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

MODEL = _HERE / "model"
SAMPLE = _HERE / "sample.m4a"
SAMPLE_TEXT = _HERE / "sample.txt"
