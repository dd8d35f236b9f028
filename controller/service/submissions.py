"""What a client submits, and the request that it becomes: options are checked by the types of the command line.

Touches: nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from chunk_job import glossary
from chunk_job.contract import TranscribeOptions, sha256_hex
from chunk_job.names import COMPUTE_TYPES, language_code
from chunk_job.segment import Speaker
from controller.domain.chunk_length import Device, auto_length
from controller.domain.output import Format, Output
from controller.domain.plan import MOST_CLIPS, ChannelChoice, Clip, PlanOptions
from controller.domain.service_documents import Labels, RequestId, ServiceRequest, UploadId
from controller.domain.shares import DEFAULT_PRIORITY, MOST_PRIORITY
from controller.runs.outputs import base_of
from controller.runs.run_requests import output_stem
from controller.service.field_errors import FILE_NAME_PATTERN
from controller.service.problems import invalid, parsed_as, wrong
from controller.service.tenant import Tenant

_OPERATORS = frozenset({"cpu_threads", "device", "model", "language", "temperature"})
"""Fields of the transcription's options that the operator sets, or that have another form here."""
_MEANINGS = {
    "task": "translate: to English.",
    "compute_type": "Of the weights: auto, or a type of CTranslate2.",
    "beam_size": "Hypotheses that are followed at the same time.",
    "batch_size": "Windows that are decoded at the same time; sequential (or 0): as Whisper does it.",
    "vad_filter": "Leave out what is not speech.",
    "condition_on_previous_text": "The text so far is a prompt; only with sequential.",
    "initial_prompt": "Text before the first words.",
    "hotwords": "Words to expect.",
    "vad_threshold": "Least probability of speech.",
    "vad_min_silence_duration_ms": "Shorter pauses do not end speech.",
    "no_speech_threshold": "Above this probability, a window that decodes badly has no speech.",
    "logprob_threshold": "Below this average, a window decodes badly.",
    "compression_ratio_threshold": "Above this, a window repeats itself, and decodes badly.",
    "glossary": "Terms to expect in every window, and to put in place of what they sound like.",
}
"""Of the options with the names of the documents."""
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_LONGEST_NAME = 1_024
_HOUR_S = 3_600


class _PlanFields(BaseModel):
    """Options whose form differs from that of the documents: names are those of the command line."""

    model_config = _STRICT
    model: str | None = Field(default=None, max_length=200, description="One of the models of the service.")
    language: str | None = Field(
        default=None,
        max_length=40,
        description="Code or English name; auto: detected; null: the language of the service, or detected.",
    )
    temperature: float | None = Field(default=None, ge=0, le=1, description="First temperature.")
    temperature_increment_on_fallback: float | None = Field(
        default=None, ge=0, le=1, description="Step of the fallback when a window decodes badly; 0: no fallback."
    )
    chunk_duration: Literal["auto"] | Annotated[int, Field(ge=10, le=1000 * _HOUR_S)] | None = Field(
        default=None, description="Wanted length of a chunk, in seconds."
    )
    chunking_threshold: int | None = Field(
        default=None, ge=0, le=1000 * _HOUR_S, description="Shorter recordings are not cut, in seconds."
    )
    clip_timestamps: list[Annotated[float, Field(ge=0, le=1000 * _HOUR_S)]] | None = Field(
        default=None,
        max_length=2 * MOST_CLIPS,
        description="Only these parts: start, end, start, end, … in seconds; without the last end: to the end.",
    )
    audio_track: int | None = Field(default=None, ge=0, le=9999, description="Audio stream, counted from 0.")
    channels: ChannelChoice | None = Field(
        default=None, description="mix; split: each by itself, with its own speaker; or one channel, from 1 on."
    )
    speaker_names: list[Speaker] | None = Field(default=None, max_length=1_000, description="Of channel 1, 2, …")
    on_chunk_failure: Literal["fail", "gap"] | None = Field(
        default=None, description="gap: keep the other chunks, and mark the gap."
    )
    keep_chunks: bool | None = Field(default=None, description="Keep chunk audio in the store.")
    rendition: bool | None = Field(default=None, description="Make a small audio file, which stays for players.")


def _same_fields() -> dict[str, Any]:
    """Return the fields of the transcription's options with the same names, types and limits; null: the default."""
    fields: dict[str, Any] = {}
    for name, field in TranscribeOptions.model_fields.items():
        if name not in _OPERATORS:
            kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            if name == "compute_type":
                kind = Literal[COMPUTE_TYPES]
            if name == "glossary":
                kind = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=1_000)]
            fields[name] = (kind | None, Field(default=None, description=_MEANINGS[name]))
    return fields


RunOptions: Any = create_model("RunOptions", __base__=_PlanFields, **_same_fields())
RunOptions.__doc__ = """Options of a run, as on the command line. What is left out or null has the service's default."""


class Submission(BaseModel):
    """A transcription that is requested: a recording, how it is transcribed, and what is done with the transcript."""

    model_config = _STRICT
    source: str | None = Field(
        default=None, max_length=4_096, description="s3://bucket/key of a recording that this tenant may name."
    )
    upload: UploadId | None = Field(default=None, description="The id of a complete upload, instead of a source.")
    name: str | None = Field(
        default=None, min_length=1, max_length=_LONGEST_NAME, pattern=FILE_NAME_PATTERN,
        description="A file name for lists and outputs; default: that of the source.",
    )  # fmt: skip
    options: RunOptions = Field(default_factory=RunOptions)
    output: str | None = Field(
        default=None, max_length=4_096, description="s3://bucket/folder/: the transcript is also written there."
    )
    output_formats: list[Format] = Field(default=["txt", "srt", "vtt", "tsv", "json"], min_length=1, max_length=10)
    callback_url: str | None = Field(default=None, max_length=4_096, description="Receives an event at the end.")
    labels: Labels = Field(default_factory=dict)
    priority: int | None = Field(
        default=None, ge=0, le=MOST_PRIORITY, description="Among the tenant's runs: higher ones first; default: 5."
    )

    @model_validator(mode="after")
    def _one_recording(self) -> Submission:
        if (self.source is None) == (self.upload is None):
            raise ValueError("give either source or upload, or send the recording itself in a form, as file")
        return self

    def digest(self) -> str:
        """Return a digest of what was requested: equal for equal requests."""
        return sha256_hex(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode())


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What the operator has chosen for all runs."""

    options: TranscribeOptions
    plan: PlanOptions
    models: Mapping[str, str]
    """The models that requests may name, and the reference of each: a folder or a published name."""
    temperature_step: float
    auto_chunks: bool
    """Whether the length of chunks is chosen automatically."""
    device: Device
    jobs: int
    cluster: bool
    rendition: bool = False
    """Whether a small audio file is made of each recording."""


def parsed(raw: bytes) -> Submission:
    """Parse a body. Raises :class:`Problem`."""
    return parsed_as(Submission, raw)


def request_of(
    submission: Submission,
    *,
    tenant: Tenant,
    request_id: RequestId,
    body_sha256: str,
    source: str,
    name: str,
    defaults: Defaults,
    now_ms: int,
) -> ServiceRequest:
    """Return the request that *submission* becomes; its addresses are checked already. Raises :class:`Problem`.

    *body_sha256*: the digest of what the client sent. *source*: the URI of the recording. *name*: its file name.
    """
    given = submission.options
    try:
        options = _options(given, defaults)
        return ServiceRequest(
            id=request_id,
            tenant=tenant.prefix,
            created_ms=now_ms,
            body_sha256=body_sha256,
            name=name,
            source=source,
            upload=submission.upload,
            audio_track=given.audio_track,
            plan=_plan(given, options, defaults),
            options=options,
            speaker_names=_speakers(given),
            on_chunk_failure=given.on_chunk_failure or "fail",
            keep_chunks=bool(given.keep_chunks),
            rendition=defaults.rendition if given.rendition is None else given.rendition,
            output=_output(submission, name),
            callback_url=submission.callback_url or "",
            labels=submission.labels,
            priority=_priority(submission, tenant),
        )
    except ValidationError as error:
        raise invalid(error, where="/options", body=given.model_dump()) from None


def _priority(submission: Submission, tenant: Tenant) -> int:
    if submission.priority is None:
        return min(DEFAULT_PRIORITY, tenant.max_priority)
    if submission.priority > tenant.max_priority:
        raise wrong("#/priority", f"this tenant may use up to {tenant.max_priority}")
    return submission.priority


def _options(given: Any, defaults: Defaults) -> TranscribeOptions:
    changes = {
        name: value
        for name, value in given.model_dump(exclude_none=True).items()
        if name in TranscribeOptions.model_fields and name not in _OPERATORS
    }
    if "glossary" in changes:
        changes["glossary"] = _glossary(changes["glossary"])
    if given.batch_size == 0:
        changes["batch_size"] = "sequential"
    if given.model is not None:
        if given.model not in defaults.models:
            known = ", ".join(sorted(defaults.models))
            raise wrong("#/options/model", f"this service has no model called {given.model!r}; it has: {known}")
        changes["model"] = defaults.models[given.model]
    if given.language is not None:
        # The service may have a language of its own.
        code = None if given.language.lower() == "auto" else language_code(given.language)
        if code is None and given.language.lower() != "auto":
            raise wrong("#/options/language", "not a language that Whisper knows: use a code like pt, or its name")
        changes["language"] = code
    if given.temperature is not None or given.temperature_increment_on_fallback is not None:
        changes["temperature"] = _temperatures(given, defaults)
    return TranscribeOptions.model_validate(defaults.options.model_dump() | changes)


def _glossary(lines: list[str]) -> tuple[str, ...]:
    terms: list[str] = []
    for index, line in enumerate(lines):
        try:
            terms.append(glossary.checked(line))
        except ValueError as error:
            raise wrong(f"#/options/glossary/{index}", str(error)) from None
    return glossary.distinct(terms)


def _temperatures(given: Any, defaults: Defaults) -> tuple[float, ...]:
    step = given.temperature_increment_on_fallback
    step = defaults.temperature_step if step is None else step
    if 0 < step < 0.01:
        raise wrong("#/options/temperature_increment_on_fallback", "below 0.01: use 0 for no fallback")
    first = given.temperature if given.temperature is not None else defaults.options.temperature[0]
    found = [first]
    while step and found[-1] + step <= 1.0 + 1e-6:
        found.append(round(found[-1] + step, 6))
    return tuple(found)


def _plan(given: Any, options: TranscribeOptions, defaults: Defaults) -> PlanOptions:
    changes: dict[str, Any] = {}
    length = given.chunk_duration
    if length == "auto" or (length is None and defaults.auto_chunks):
        changes["auto"] = auto_length(options, device=defaults.device, jobs=defaults.jobs, cluster=defaults.cluster)
    elif length is not None:
        changes |= {"chunk_ms": length * 1000, "auto": None}
    if given.chunking_threshold is not None:
        changes["threshold_ms"] = given.chunking_threshold * 1000
    if given.clip_timestamps is not None:
        changes["clips"] = _clips(given.clip_timestamps)
    if given.channels is not None:
        changes["channels"] = given.channels
    return PlanOptions.model_validate(defaults.plan.model_dump() | changes)


def _clips(times: list[float]) -> tuple[Clip, ...]:
    marks = [round(seconds * 1000) for seconds in times]
    pairs = [(marks[at], marks[at + 1] if at + 1 < len(marks) else None) for at in range(0, len(marks), 2)]
    clips: list[Clip] = []
    for start_ms, end_ms in pairs:
        if end_ms is not None and end_ms <= start_ms:
            raise wrong("#/options/clip_timestamps", f"a clip does not end after its start at {start_ms / 1000:g} s")
        before_ms = clips[-1].end_ms if clips else None
        if before_ms is not None and start_ms < before_ms:
            raise wrong("#/options/clip_timestamps", "the clips overlap, or are not in order")
        touches = clips and before_ms == start_ms
        clips.append(Clip(start_ms=clips.pop().start_ms if touches else start_ms, end_ms=end_ms))
    return () if clips == [Clip(start_ms=0, end_ms=None)] else tuple(clips)


def _speakers(given: Any) -> tuple[str, ...]:
    names = tuple(given.speaker_names or ())
    if names and given.channels != "split":
        raise wrong("#/options/speaker_names", "only with channels: split; else speakers are not told apart")
    return names


def _output(submission: Submission, name: str) -> Output | None:
    if submission.output is None:
        return None
    base = base_of(submission.output, output_stem(f"s3://x/{name}"))
    return Output(
        base=base, formats=tuple(dict.fromkeys(submission.output_formats)), speakers=_speakers(submission.options)
    )
