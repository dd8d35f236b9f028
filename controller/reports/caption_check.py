"""Which captions of a run break the limits of a style, for the lines of its transcript.

Touches: temporary files, next to those of the transcript. It takes ten seconds and more for ten hours, unless these
captions were made before.
"""

from __future__ import annotations

from collections import Counter

from controller.domain.captions import PROFILES, CaptionStyle, Profile
from controller.domain.documents import Request
from controller.reports.run_view import CaptionFindings
from controller.runs.caption_files import captioned
from controller.runs.transcript_files import TranscriptFiles, disk_errors
from controller.transcript.captions.check import SENTENCES, SHORT, violations
from controller.transcript.captions.read import decoded, file_cues

DEFAULT: Profile = "netflix"
"""The profile of a check if none is given: that of ``captions check``."""
MOST_MARKS = 3_000
"""Most places that are marked in the text; all are counted."""


def checked(transcript: TranscriptFiles, style: CaptionStyle) -> CaptionFindings:
    """What is wrong with the captions of a transcript in a style. Raises :class:`StoreUnavailable`."""
    return checked_for(style, transcript, style)


def checked_for(limits: CaptionStyle, transcript: TranscriptFiles, style: CaptionStyle | None) -> CaptionFindings:
    """Which captions of a transcript in a style break the *limits* of another one. Raises :class:`StoreUnavailable`.

    *style*: None: a caption for each segment.
    """
    path = captioned(transcript, "srt", style)
    with disk_errors():
        cues = file_cues(decoded(path.read_bytes()))
    found = sorted(violations(cues, limits), key=lambda one: one.start_ms)
    shown = found[:MOST_MARKS]
    return CaptionFindings(
        profile=_name(limits),
        captions=len(cues),
        broken=len({one.cue for one in found}),
        rules=tuple((SHORT[rule], count) for rule, count in Counter(one.rule for one in found).most_common()),
        starts_ms=tuple(one.start_ms for one in shown),
        texts=tuple(SENTENCES[one.rule].format(value=one.value, limit=one.limit) for one in shown),
        left_out=len(found) - len(shown),
    )


def submitted_style(request: Request | None) -> CaptionStyle | None:
    """The style of the captions that were asked for with a run; None: none."""
    return next((one.captions for one in request.outputs if one.captions), None) if request else None


def _name(style: CaptionStyle) -> str:
    plain = style.model_copy(update={"highlight_words": False})
    return next((name for name, limits in PROFILES.items() if limits == plain), "with limits of its own")
