"""Which captions of a run break the limits of their profile, for the lines of its transcript.

Touches: the store, temporary files.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.domain.captions import PROFILES, Profile
from controller.reports.words import Block
from controller.runs.caption_files import captioned
from controller.runs.transcript_files import TranscriptFiles
from controller.transcript.captions.check import SENTENCES, Violation, violations
from controller.transcript.captions.read import decoded, file_cues


@dataclass(frozen=True)
class Marks:
    """What is said about lines, in the order of time."""

    starts_ms: Sequence[int] = ()
    texts: Sequence[str] = ()

    def of(self, block: Block) -> Mapping[int, Sequence[str]]:
        """Return what is said about lines of a block, by their number: what begins in a line, or after it."""
        if not self.texts:
            return {}
        ends_ms = [line.start_ms for line in block.lines[1:]] + [_end_of(block)]
        found = {}
        for line, end_ms in zip(block.lines, ends_ms, strict=True):
            begin, end = bisect_left(self.starts_ms, line.start_ms), bisect_left(self.starts_ms, end_ms)
            if begin < end:
                found[line.number] = tuple(dict.fromkeys(self.texts[begin:end]))
        return found


NO_MARKS = Marks()


def checked(transcript: TranscriptFiles, profile: Profile) -> Marks:
    """Return what is wrong with the captions of a profile. Raises :class:`StoreUnavailable`."""
    style = PROFILES[profile]
    path = captioned(transcript, "srt", style)
    found = sorted(violations(file_cues(decoded(path.read_bytes())), style), key=lambda one: one.start_ms)
    return Marks([one.start_ms for one in found], [_text(one) for one in found])


def _text(of: Violation) -> str:
    return SENTENCES[of.rule].format(value=of.value, limit=of.limit)


def _end_of(block: Block) -> int:
    """Return until when captions belong to the last line of a block."""
    return max(block.lines[-1].end_ms, block.lines[-1].start_ms + 1) if block.lines else block.end_ms
