"""Files of captions in a style, made from a transcript's JSON a few segments at a time.

Touches: temporary files, next to those of the transcript. The store has only files without a style.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from chunk_job.contract import sha256_hex
from chunk_job.segment import Segment
from controller.domain.captions import CaptionStyle
from controller.domain.output import Format
from controller.runs.stored_transcript import read_with
from controller.runs.transcript_files import TranscriptFiles, disk_errors
from controller.transcript.captions.formats import CAPTION_FORMATS, first_cues
from controller.transcript.captions.stream import Caption, CaptionStream, SegmentCaptions
from controller.transcript.formats import FORMATS
from controller.transcript.model import Transcript, TranscriptSummary


def captioned(transcript: TranscriptFiles, extension: Format, style: CaptionStyle | None) -> Path:
    """The file of one format in a style; None: one cue for each segment.

    Raises :class:`StoreUnavailable` if temporary files cannot be written.
    """
    styled = extension in CAPTION_FORMATS and (style is not None or extension not in FORMATS)
    path = transcript.path(extension)
    if not styled:
        return path
    kind = sha256_hex(style.encode())[:16] if style else "segments"
    path = path.with_name(f"{extension}.{kind}")
    if not path.exists():
        with disk_errors(), transcript.path("json").open("rb") as file:
            read_with(
                file,
                lambda summary, segments: _write(path, extension, style, summary, segments),
                most_whole_bytes=Transcript.max_bytes,
            )
    return path


def _write(
    path: Path,
    extension: Format,
    style: CaptionStyle | None,
    summary: TranscriptSummary,
    segments: Iterable[Sequence[Segment]],
) -> None:
    form, count = CAPTION_FORMATS[extension], 1
    stream = CaptionStream(summary.gaps, style) if style else SegmentCaptions(summary.gaps, summary.duration_ms)
    highlight = bool(style and style.highlight_words)
    unfinished = path.with_name(f"{path.name}.new")

    def body(captions: Sequence[Caption]) -> bytes:
        nonlocal count
        text = form.body(captions, count, highlight)
        count += first_cues(captions, highlight=highlight)
        return text.encode()

    with unfinished.open("wb") as file:
        file.write(form.start.encode())
        for some in segments:
            file.write(body(stream.add(some)))
        file.write(body(stream.finish()))
    unfinished.replace(path)
