"""``/v1/audio/…`` and ``/v1/models``: the endpoints of OpenAI's API for its public clients.

Touches: the store, temporary files, the clock. The request is kept open until the run has ended, up to a limit.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from controller.domain.service_keys import AnswerEntry, RequestKey
from controller.errors import StenofleetError
from controller.service.context import Caller, Service, TheService, new_id, service_of
from controller.service.forms import FORM, form_of
from controller.service.openai_formats import Granularity, ResponseFormat, streamed, written
from controller.service.problem_types import RETRY_AFTER, problem_response
from controller.service.problems import Problem, invalid
from controller.service.request_reader import FoundRequest
from controller.service.results_api import transcript_of
from controller.service.runs_api import FORM_PROBLEMS, LOCATION, PROBLEMS, submit_file
from controller.service.tenant import Tenant

_POLL_S, _LONGEST_POLL_S = 0.1, 0.5
_AGAIN_S = 2
_OTHER_MODELS = frozenset({"whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"})
"""Models of OpenAI that clients name by default: the default model of the service is used for them."""

router = APIRouter(tags=["openai"])


def _boolean(text: object) -> bool:
    """Parse a boolean of a form, as the clients of OpenAI write it. Raises ``ValueError``."""
    if text not in ("true", "false", "True", "False"):
        raise ValueError("neither true nor false")
    return text in ("true", "True")


class _Form(BaseModel):
    """The fields of the form that have a meaning here."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(
        default="", max_length=200, description="A model of the service; whisper-1 and the like: its default model."
    )
    language: str | None = Field(default=None, max_length=40, description="Code or English name; else detected.")
    prompt: str | None = Field(default=None, max_length=64_000, description="Text before the first words.")
    response_format: ResponseFormat = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="0: the fallback of Whisper; else no fallback."
    )
    timestamp_granularities: tuple[Granularity, ...] = Field(
        default=(), description="Of verbose_json; default: segment."
    )
    stream: Annotated[bool, BeforeValidator(_boolean)] = Field(
        default=False, description="Return the text as events, a segment at a time."
    )


class Usage(BaseModel):
    """What was transcribed."""

    type: Literal["duration"]
    seconds: int


class AudioJson(BaseModel):
    """The transcript, for response_format json."""

    text: str
    usage: Usage


class AudioWord(BaseModel):
    """A word with its times in seconds."""

    word: str
    start: float
    end: float


class AudioSegment(BaseModel):
    """A segment with its times in seconds."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class AudioVerboseJson(AudioJson):
    """The transcript with times, for response_format verbose_json."""

    task: Literal["transcribe", "translate"]
    language: str = Field(description="The English name of the language.")
    duration: float = Field(description="Of the recording, in seconds.")
    words: list[AudioWord] | None = Field(default=None, description="With the granularity word.")
    segments: list[AudioSegment] | None = Field(default=None, description="With the granularity segment.")


_IGNORED = frozenset({"chunking_strategy", "include[]", "include", "known_speaker_names[]"})
_JSON = [{"$ref": f"#/components/schemas/{name}"} for name in ("AudioVerboseJson", "AudioJson")]
_TEXT = {"schema": {"type": "string"}}
_EVENTS = """\
data: {"type": "transcript.text.delta", "delta": "One."}

data: {"type": "transcript.text.delta", "delta": " Two."}

data: {"type": "transcript.text.done", "text": "One. Two."}

"""
_SHOULD_NOT_RETRY = {"x-should-retry": {"description": "For clients of OpenAI.", "schema": {"const": "false"}}}
_RESPONSES = (
    PROBLEMS
    | FORM_PROBLEMS
    | {
        200: {
            "description": "The transcript, in the format that was asked for.",
            "content": {
                "application/json": {"schema": {"anyOf": _JSON}},
                "text/plain": _TEXT,
                "application/x-subrip": _TEXT,
                "text/vtt": _TEXT,
                "text/event-stream": {"example": _EVENTS},
            },
        },
        422: problem_response("The request is not valid, or the recording cannot be transcribed."),
        503: problem_response(
            "The store does not answer, or the transcription failed for another such reason, or this process of the "
            "service ends: with Retry-After, send the request again.",
            RETRY_AFTER,
        ),
        504: problem_response(
            "It takes longer than a request is kept open. The run continues: get it, and its result when it has ended.",
            LOCATION | _SHOULD_NOT_RETRY,
        ),
    }
)


class Model(BaseModel):
    """A model that requests may name."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Not known: 0.")
    owned_by: str = "stenofleet"


class ModelList(BaseModel):
    """The models that requests may name, the default one first. OpenAI's names mean the default one."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", responses=PROBLEMS, operation_id="listModels")
async def list_models(service: TheService, tenant: Caller) -> ModelList:
    """List the models that requests may name, the default one first."""
    del tenant
    return ModelList(data=[Model(id=name) for name in service.defaults.models])


def _form_body(*, translates: bool) -> dict[str, Any]:
    schema = _Form.model_json_schema()["properties"]
    if translates:
        schema.pop("language")
    granularities = schema.pop("timestamp_granularities")
    recording = {"type": "string", "format": "binary", "description": "The recording."}
    properties = {"file": recording, **schema, "timestamp_granularities[]": granularities}
    form = {"schema": {"type": "object", "required": ["file"], "properties": properties}}
    return {"requestBody": {"required": True, "content": {FORM: form}}}


@router.post(
    "/v1/audio/transcriptions",
    responses=_RESPONSES,
    response_class=Response,
    openapi_extra=_form_body(translates=False),
    operation_id="createTranscription",
)
async def transcribe(request: Request, tenant: Caller) -> Response:
    """Transcribe a recording, and wait for the transcript."""
    return await _answer(request, tenant, "transcribe")


@router.post(
    "/v1/audio/translations",
    responses=_RESPONSES,
    response_class=Response,
    openapi_extra=_form_body(translates=True),
    operation_id="createTranslation",
)
async def translate(request: Request, tenant: Caller) -> Response:
    """Translate a recording to English, and wait for the text."""
    return await _answer(request, tenant, "translate")


async def _answer(request: Request, tenant: Tenant, task: Literal["transcribe", "translate"]) -> Response:
    service = service_of(request)
    # Before the recording is received: too many that wait are refused then.
    with service.streams.begin(tenant.prefix):
        with service.receiving.one(tenant.prefix):
            async with form_of(request, service.most_form_bytes) as (form, file):
                wanted = _parsed(form)
                raw = _submission(tenant, wanted, task)
                entry = await run_in_threadpool(_submit, service, tenant, file, raw)
        found = await _ended(request, service, entry)
    try:
        _check_transcribed(found)
        transcript = await run_in_threadpool(transcript_of, service, found)
        if wanted.stream:
            return streamed(transcript)
        given = wanted.response_format, wanted.timestamp_granularities
        return await run_in_threadpool(written, transcript, *given, task)
    finally:
        await run_in_threadpool(service.answers.remove, entry, found)


def _submit(service: Service, tenant: Tenant, file: UploadFile, raw: bytes) -> AnswerEntry:
    """Submit the recording. Nobody knows its id: whatever happens to this process, nothing of it must stay."""
    until_ms = service.now_ms() + round(service.answer_within_s * 1000)
    entry = service.answers.begin(RequestKey(tenant.prefix, new_id()), until_ms)
    try:
        submit_file(service, tenant, file, raw, None, request_id=entry.request.id)
    except (Problem, StenofleetError):
        service.answers.release(entry)
        raise
    return entry


def _parsed(form: FormData) -> _Form:
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in ("timestamp_granularities[]", "timestamp_granularities"):
            fields.setdefault("timestamp_granularities", []).append(value)
        elif name != "file" and name not in _IGNORED and value:
            fields[name] = value
    try:
        return _Form.model_validate(fields)
    except ValidationError as error:
        raise invalid(error, body=fields, model=_Form) from None


def _submission(tenant: Tenant, wanted: _Form, task: str) -> bytes:
    options: dict[str, Any] = {"task": task, "language": wanted.language, "initial_prompt": wanted.prompt}
    options["rendition"] = False  # nothing is kept of a run that was answered
    if wanted.model and wanted.model not in _OTHER_MODELS:
        options["model"] = wanted.model
    if wanted.temperature:  # 0 means the fallback of Whisper, in OpenAI's API
        options |= {"temperature": wanted.temperature, "temperature_increment_on_fallback": 0}
    return json.dumps({"options": options, "priority": tenant.max_priority}).encode()


async def _ended(request: Request, service: Service, entry: AnswerEntry) -> FoundRequest:
    """Wait for the end of the run. Raises :class:`Problem` if it takes too long, or if nobody waits any more."""
    began_s = time.monotonic()
    pause_s = _POLL_S
    while time.monotonic() - began_s < service.answer_within_s:
        found = await run_in_threadpool(_found_settled, service, entry.request)
        if found:
            return found
        if await request.is_disconnected():
            await run_in_threadpool(service.requests.cancel, entry.request)
            raise Problem(409, "ended", "the client has closed the connection")
        if why := service.problem():
            # The client sends the recording again, to another replica, which knows nothing of this run.
            await run_in_threadpool(service.requests.cancel, entry.request)
            raise _interrupted(why)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.1, _LONGEST_POLL_S)
    if not await run_in_threadpool(service.answers.hand_over, entry):
        raise _interrupted("this process was suspended")
    place = f"/v1/runs/{entry.request.id}"
    raise Problem(
        504,
        "still-running",
        f"it is not transcribed after {service.answer_within_s:.2g} s; the run continues as {place}",
        f"get {place}, and its result when it has ended; for long recordings use POST /v1/runs",
        # OpenAI's clients would send the recording again.
        headers={"Location": place, "x-should-retry": "false"},
    )


def _interrupted(why: str) -> Problem:
    headers = {"Retry-After": str(_AGAIN_S), "x-should-retry": "true"}
    return Problem(503, "interrupted", f"the transcription was interrupted: {why}", "send it again", headers=headers)


def _check_transcribed(found: FoundRequest) -> None:
    """Raises :class:`Problem` if there is no transcript. OpenAI's clients would send the recording again after 409."""
    end = found.end
    if end and end.status not in ("complete", "partial"):
        status, name = (503, "not-possible-now") if end.environment else (422, "not-transcribed")
        raise Problem(
            status, name, end.summary or f"the run is {end.status}", end.advice, headers={"x-should-retry": "false"}
        )


def _found_settled(service: Service, key: RequestKey) -> FoundRequest | None:
    # One small read while the run continues: many clients may wait.
    if service.requests.ended(key, 0) is None:
        return None
    found = service.requests.find(key)
    return found if found and service.requests.is_settled(found) else None
