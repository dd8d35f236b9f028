"""Measures of words that only quality gates need: errors against a reference, captions against a profile.

Touches: the files of references, temporary files of the transcript.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from controller.domain.captions import PROFILES, CaptionStyle, Profile
from controller.domain.interfaces import RunOutcome
from controller.evaluation.measure import Files, compare
from controller.evaluation.normalize import NotComparable
from controller.evaluation.pairs import References
from controller.evaluation.read import of_transcript, read_text
from controller.reports.caption_check import checked_for
from controller.reports.gates import Measures
from controller.reports.run_view import CaptionFindings
from controller.runs.speaker_files import with_speakers
from controller.runs.transcript_files import TranscriptFiles


def errors_of(references: References, outcome: RunOutcome, transcript: TranscriptFiles) -> Measures:
    """How the transcript of a recording differs from the reference with its name, or why that is not known.

    Raises :class:`StoreUnavailable`.
    """
    recording = PurePath(outcome.source or outcome.name)
    try:
        # Two recordings of one stem keep their full names.
        reference = references.find(*dict.fromkeys([recording.name, recording.stem]), folders=recording.parent.parts)
        files = Files(outcome.name, outcome.name, str(reference))
        return Measures(errors=compare(read_text(reference), of_transcript(transcript), files).errors)
    except NotComparable as error:
        return Measures(why=str(error))


def captions_of(
    transcript: TranscriptFiles, style: CaptionStyle | None, speakers: Sequence[str], profile: Profile
) -> CaptionFindings:
    """Which captions in a style break the limits of a profile. Raises :class:`StoreUnavailable`."""
    return checked_for(PROFILES[profile], with_speakers(transcript, speakers), style)
