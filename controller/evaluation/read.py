"""Reads what is compared: transcripts of stenofleet or Whisper, captions, plain text.

Touches: files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from chunk_job.errors import DocumentInvalid
from chunk_job.segment import Segment
from controller.evaluation.normalize import NotComparable
from controller.evaluation.words import Text, of_cues, of_lines, of_segments
from controller.runs.opened_files import open_file
from controller.runs.stored_transcript import read_with
from controller.runs.transcript_files import TranscriptFiles, disk_errors
from controller.runs.whisper_json import rendered_whisper
from controller.transcript.captions.read import CaptionsInvalid, decoded, file_cues
from controller.transcript.model import Transcript, TranscriptSummary

SUFFIXES = (".json", ".vtt", ".srt", ".txt")
"""The files that are read. Of several with one name, the first kind is used: it says most."""
_MOST_TEXT_BYTES = 64 << 20


def read_text(path: Path) -> Text:
    """The words of a file, by its suffix. Raises :class:`NotComparable`, which says what is wrong with it."""
    kind = path.suffix.lower()
    try:
        if kind == ".json":
            with open_file(path, max_bytes=Transcript.max_bytes) as file:
                return _json(file)
        with open_file(path, max_bytes=_MOST_TEXT_BYTES) as file:
            text = decoded(file.read())
        return Text(words=of_lines(text) if kind == ".txt" else of_cues(file_cues(text)))
    except (CaptionsInvalid, DocumentInvalid) as error:
        raise NotComparable(str(error)) from error
    except OSError as error:
        raise NotComparable(f"it cannot be read: {error.strerror}") from error


def of_transcript(transcript: TranscriptFiles) -> Text:
    """The words of a transcript that was written before. Raises :class:`StoreUnavailable`."""
    with disk_errors(), transcript.path("json").open("rb") as file:
        return read_with(file, _text, most_whole_bytes=Transcript.max_bytes)


def _json(file: BinaryIO) -> Text:
    try:
        return read_with(file, _text, most_whole_bytes=Transcript.max_bytes)
    except DocumentInvalid as error:
        try:
            whisper = rendered_whisper(file)
        except DocumentInvalid:
            raise error from None
        with disk_errors(), whisper.path("json").open("rb") as rendered:
            return read_with(rendered, _words_alone, most_whole_bytes=Transcript.max_bytes)


def _text(summary: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> Text:
    return Text(words=of_segments(segments), language=summary.language, chunks=summary.chunks)


def _words_alone(summary: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> Text:
    """Whisper's JSON does not say how the recording was cut."""
    return Text(words=of_segments(segments), language=summary.language)
