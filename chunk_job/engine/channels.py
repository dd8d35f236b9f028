"""Segments and windows of several channels → one order: by start, of equal ones in the order of the channels.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chunk_job.segment import DecodedWindow, Segment


def segments_in_order(channels: Mapping[int, Sequence[Segment]]) -> tuple[Segment, ...]:
    """The segments of all channels, which are by their number: each with that number, and with a new id."""
    numbered = [one.model_copy(update={"channel": number}) for number, found in channels.items() for one in found]
    numbered.sort(key=lambda segment: segment.start_ms)
    return tuple(segment.model_copy(update={"id": place}) for place, segment in enumerate(numbered))


def windows_in_order(channels: Mapping[int, Sequence[DecodedWindow]]) -> tuple[DecodedWindow, ...]:
    """The windows of all channels, which are by their number: each with that number."""
    numbered = [one.model_copy(update={"channel": number}) for number, found in channels.items() for one in found]
    return tuple(sorted(numbered, key=lambda window: window.start_ms))
