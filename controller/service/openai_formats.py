"""The formats in which OpenAI's API answers: a transcript as JSON, text, subtitles, or events.

Touches: temporary files.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from fastapi import Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from chunk_job.names import LANGUAGES
from chunk_job.segment import Segment
from controller.runs.stored_transcript import read_with
from controller.runs.transcript_files import TranscriptFiles
from controller.service.results_api import MEDIA_TYPES
from controller.transcript.model import Transcript, TranscriptSummary

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularity = Literal["word", "segment"]


def streamed(transcript: TranscriptFiles) -> Response:
    """Return the text as events, a segment at a time."""
    return StreamingResponse(_deltas(transcript.path("json"), transcript), media_type="text/event-stream")


def written(
    transcript: TranscriptFiles, form: ResponseFormat, granularities: Sequence[Granularity], task: str
) -> Response:
    """Return the transcript in the format *form*. *granularities*: what verbose_json contains; default: segments."""
    path = transcript.path("json")
    if form in ("srt", "vtt"):
        text = transcript.path(form).read_text(encoding="utf-8")
        return PlainTextResponse(text, media_type=MEDIA_TYPES[form])
    summary, segments = _read(path)
    text = "".join(segment.text for segment in segments).strip()
    if form == "text":
        return PlainTextResponse(f"{text}\n")
    seconds = math.ceil(summary.duration_ms / 1000)
    usage = {"type": "duration", "seconds": seconds}
    if form == "json":
        return JSONResponse({"text": text, "usage": usage})
    return JSONResponse(_verbose(text, summary, segments, granularities or ("segment",), task) | {"usage": usage})


def _verbose(
    text: str, summary: TranscriptSummary, segments: Sequence[Segment], granularities: Sequence[Granularity], task: str
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "task": task,
        "language": LANGUAGES.get(summary.language or "", summary.language or ""),
        "duration": summary.duration_ms / 1000,
        "text": text,
    }
    if "word" in granularities:
        body["words"] = [
            {"word": word["word"].strip(), "start": word["start_ms"] / 1000, "end": word["end_ms"] / 1000}
            for segment in segments
            for word in segment.words
        ]
    if "segment" in granularities:
        body["segments"] = [_segment(number, segment) for number, segment in enumerate(segments)]
    return body


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": segment.seek,
        "start": segment.start_ms / 1000,
        "end": segment.end_ms / 1000,
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def _read(path: Path) -> tuple[TranscriptSummary, Sequence[Segment]]:
    with path.open("rb") as file:
        return read_with(
            file,
            lambda summary, segments: (summary, [segment for some in segments for segment in some]),
            most_whole_bytes=Transcript.max_bytes,
        )


async def _deltas(path: Path, transcript: TranscriptFiles) -> AsyncIterator[str]:
    """Yield the text as events, a segment at a time."""
    _, segments = await run_in_threadpool(_read, path)
    for event in _events([segment.text for segment in segments]):
        yield f"data: {json.dumps(event)}\n\n"
    del transcript


def _events(texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    whole = "".join(texts).strip()
    for number, text in enumerate(texts):
        yield {"type": "transcript.text.delta", "delta": text.lstrip() if not number else text}
    yield {"type": "transcript.text.done", "text": whole}
