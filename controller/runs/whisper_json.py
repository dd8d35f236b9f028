"""Reads the JSON that Whisper and its relatives write: for ``render``, which makes the text formats of it.

Touches: files that the caller opens. Only times, texts and words are used. Segments need no words, and fields that are
not known are ignored: each of these programs writes others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chunk_job.contract import TranscribeOptions
from chunk_job.document import MAX_AUDIO_MS, Score
from chunk_job.errors import DocumentInvalid
from chunk_job.names import language_code
from chunk_job.segment import Segment, Word
from controller.runs.transcript_files import TranscriptFiles, written
from controller.transcript.model import (
    UNKNOWN_IDENTITY,
    Chunk,
    ModelInfo,
    SourceInfo,
    TranscriptSummary,
    cleaned_segments,
)

_LONGEST_S = MAX_AUDIO_MS / 1000
_LONGEST_NAME = 200


class _Timed(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    start: float = Field(ge=0, le=_LONGEST_S)
    end: float = Field(ge=0, le=_LONGEST_S)


class _Word(_Timed):
    word: str = Field(max_length=8_000)
    probability: Score = 0.0
    speaker: Any = None


class _Segment(_Timed):
    text: str = Field(max_length=1_000_000)
    words: Any = None
    speaker: Any = None


class _Whisper(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    segments: list[_Segment] = Field(max_length=10_000_000)
    language: Any = None


_WORDS = TypeAdapter(Annotated[list[_Word], Field(max_length=100_000)])


class NotJson(DocumentInvalid):
    """A file without any JSON."""


class NotWhispers(DocumentInvalid):
    """JSON of another kind than Whisper's."""


def rendered_whisper(file: BinaryIO) -> TranscriptFiles:
    """The transcript in *file*, in every format. Its json has facts that are not known: only the others are of use.

    Raises :class:`NotJson`, :class:`NotWhispers` for an object with a schema or no object, and :class:`DocumentInvalid`
    if Whisper's segments with times and texts are not valid.
    """
    found = _parsed(file)
    segments = sorted(_segments(found.segments), key=lambda segment: segment.start_ms)
    end_ms = max((segment.end_ms for segment in segments), default=0)
    clean, _ = cleaned_segments([one.model_copy(update={"id": number}) for number, one in enumerate(segments)])
    language = language_code(found.language) if isinstance(found.language, str) else None
    return written(_summary(language, max(1, end_ms)), [clean] if clean else [])


def _parsed(file: BinaryIO) -> _Whisper:
    file.seek(0)
    try:
        document = json.load(file)
        if not isinstance(document, dict) or "schema" in document:
            raise NotWhispers("it is not Whisper's JSON")
        return _Whisper.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise DocumentInvalid(f"{path}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise NotJson("it is not JSON") from error


def _segments(found: list[_Segment]) -> Iterator[Segment]:
    for one in found:
        start_ms, end_ms = _ms(one)
        yield Segment(
            id=0, seek=0, start_ms=start_ms, end_ms=end_ms, text=one.text, tokens=(), temperature=0.0, avg_logprob=0.0,
            compression_ratio=0.0, no_speech_prob=0.0, words=tuple(_words(one)), speaker=_speaker(one.speaker),
        )  # fmt: skip


def _speaker(name: object) -> str | None:
    """The name of a speaker as whisperX writes it; None if it is none."""
    text = " ".join(name.split()) if isinstance(name, str) else ""
    return text if text and text.isprintable() and len(text) <= _LONGEST_NAME else None


def _words(segment: _Segment) -> list[Word]:
    """The words of a segment. None if they are not complete, as where a program could not give times to all."""
    try:
        found = _WORDS.validate_python(segment.words)
    except ValidationError:
        return []
    if "".join(word.word for word in found).strip() != segment.text.strip():
        return []
    start_ms, end_ms = _ms(segment)
    words, at_ms = [], start_ms
    for word in found:
        begin_ms, stop_ms = _ms(word)
        at_ms = min(max(at_ms, begin_ms), end_ms)
        stop_ms = min(max(at_ms, stop_ms), end_ms)
        words.append(Word(word=word.word, start_ms=at_ms, end_ms=stop_ms, probability=word.probability))
        if speaker := _speaker(word.speaker):
            words[-1]["speaker"] = speaker
    return words


def _ms(timed: _Timed) -> tuple[int, int]:
    start_ms = round(timed.start * 1000)
    return start_ms, max(start_ms, round(timed.end * 1000))


def _summary(language: str | None, duration_ms: int) -> TranscriptSummary:
    """A summary with placeholders for what Whisper's JSON does not say."""
    return TranscriptSummary(
        language=language,
        duration_ms=duration_ms,
        language_probability=0.0,
        success=True,
        status="complete",
        source=SourceInfo(name="unknown", identity=UNKNOWN_IDENTITY),
        model=ModelInfo(name="unknown", digest=None),
        options=TranscribeOptions(),
        chunks=(Chunk(start_ms=0, end_ms=duration_ms, cut="end", quality="ok"),),
        gaps=(),
    )
