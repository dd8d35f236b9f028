"""``/v1/runs/{id}/corrections``: what people write in place of the model's text, its history, and terms for glossaries.

Touches: the store, temporary files.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from chunk_job.segment import Word
from controller.domain import stored_documents
from controller.domain.correction_documents import (
    CORRECTION_ID_PATTERN,
    MOST_CHARACTERS,
    MOST_CORRECTIONS,
    MOST_HEADS,
    MOST_MACHINE_CHARACTERS,
    Author,
    Correction,
    CorrectionNumber,
)
from controller.domain.documents import RunRecord
from controller.domain.keys import RunKeys
from controller.domain.service_documents import iso
from controller.runs.corrected_files import CorrectedRun, TooManyCorrections
from controller.service.context import Caller, Service, TheService, new_id, service_of
from controller.service.forms import json_of
from controller.service.problem_types import problem_response
from controller.service.problems import Problem, not_found, parsed_as, wrong
from controller.service.request_reader import FoundRequest
from controller.service.runs_api import FORM_PROBLEMS, STATE, RunId, conflict, ended_run, required
from controller.service.views import Time
from controller.transcript.corrections import CorrectedLine, Corrections, MachineLine, typed
from controller.transcript.glossary_suggestions import suggestions
from controller.transcript.word_times import one_line, with_text

MOST_ON_PAGE = 200
_BODY: dict[int | str, dict[str, Any]] = {status: FORM_PROBLEMS[status] for status in (408, 413, 415)}

router = APIRouter(tags=["corrections"])


class NewCorrection(BaseModel):
    """A text that a person writes in place of a segment's."""

    model_config = ConfigDict(extra="forbid", strict=True)
    segment: int = Field(ge=0, le=1 << 53, description="The `id` of the segment in the transcript.")
    text: str = Field(
        max_length=MOST_CHARACTERS,
        description="The whole text of the segment; white space becomes one space. Empty: nothing is said there.",
    )
    machine_text: str | None = Field(
        default=None,
        max_length=MOST_MACHINE_CHARACTERS,
        description="The text of the model that the person saw: a segment that has another one now is not corrected.",
    )
    based_on: list[CorrectionNumber] = Field(
        default_factory=list,
        max_length=MOST_HEADS,
        description="The corrections of this segment that the person saw, and that this one replaces: `valid` of the "
        "line. Empty: the text of the model.",
    )
    author: Author = Field(default="", description="Who writes it, for the other people. Nothing proves it.")
    id: Annotated[str, Field(pattern=CORRECTION_ID_PATTERN)] | None = Field(
        default=None, description="Drawn by the client: the same id sent again is the same correction."
    )


class CorrectionView(BaseModel):
    """A correction. It never changes."""

    number: int = Field(description="Its place in the history, and the version of the transcript that it makes.")
    id: str
    state: Literal["valid", "replaced", "older"] = Field(
        description="valid: it is used, or contradicts the one that is; replaced: by a later one; older: it is of a "
        "transcript with other text there, and is not used."
    )
    segment: int
    start_s: float
    end_s: float
    machine_text: str = Field(description="As the model wrote it.")
    text: str
    based_on: list[int] = Field(description="The corrections that it replaces.")
    author: str
    created_at: Time


class WordView(BaseModel):
    """A word of a line."""

    word: str = Field(description="With the space before it.")
    start_s: float
    end_s: float
    probability: float | None = Field(description="Of the model; null: a person wrote the word.")


class LineView(BaseModel):
    """A segment with corrections."""

    segment: int
    start_s: float
    end_s: float
    machine_text: str = Field(description="As the model wrote it.")
    text: str = Field(description="The text that is used: that of the last valid correction.")
    words: list[WordView] = Field(description="Of this text; empty if the transcript has no times of words there.")
    is_conflict: bool = Field(description="Whether people wrote different texts at the same time: see `valid`.")
    valid: list[CorrectionView] = Field(description="The corrections that no other one replaces, the last one last.")


class CorrectionList(BaseModel):
    """The next corrections of a transcript, and the lines that they are of."""

    version: int = Field(description="The number of the last correction; 0: there is none.")
    changed: int = Field(description="Lines with another text than the model wrote.")
    conflicts: list[int] = Field(description="Segments with corrections that contradict each other.")
    corrections: list[CorrectionView]
    lines: list[LineView] = Field(description="The lines of these corrections, as they are now.")
    next_after: int | None = Field(description="For the next page; null: this is the last one so far.")


class SavedCorrection(BaseModel):
    """A correction that is stored, and the line that it is of."""

    version: int = Field(description="The number of the last correction of the transcript.")
    correction: CorrectionView
    line: LineView


class SuggestedTerm(BaseModel):
    """A term that people wrote in place of what the model heard."""

    term: str
    heard: str
    segments: int = Field(description="In how many of them.")
    is_name: bool = Field(description="It has capital letters inside a sentence, or digits.")
    line: str = Field(description="The line for a glossary.")


class SuggestedTerms(BaseModel):
    """Terms for the glossary of the next run: names first, then the most frequent."""

    terms: list[SuggestedTerm]


@router.get("/v1/runs/{run_id}/corrections", responses=STATE, operation_id="listCorrections")
def list_corrections(
    service: TheService,
    tenant: Caller,
    run_id: RunId,
    after: Annotated[int, Query(ge=0, le=MOST_CORRECTIONS, description="Only those with a higher number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ON_PAGE, description="Most corrections of a page.")] = MOST_ON_PAGE,
) -> CorrectionList:
    """List the corrections of a transcript in the order in which they came, and what they make of their lines."""
    run = _corrected(service, _record(service, required(service, tenant, run_id)))
    found = run.corrections
    some = [one for one in found.all if one.number > after]
    page = some[:limit]
    places = {line.segment: found.lines[line.segment] for one in page if (line := found.line_of(one))}
    return CorrectionList(
        version=found.version,
        changed=found.facts().segments,
        conflicts=sorted(segment for segment, line in found.lines.items() if line.is_conflict),
        corrections=[_view(found, one) for one in page],
        lines=[_line_view(run, line) for line in places.values()],
        next_after=page[-1].number if len(some) > limit else None,
    )


@router.post(
    "/v1/runs/{run_id}/corrections",
    status_code=201,
    responses=STATE
    | _BODY
    | {
        201: {"description": "It is stored."},
        409: problem_response("The run has no transcript, another text there, or as many corrections as it can have."),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewCorrection"}}},
        }
    },
    operation_id="addCorrection",
)
async def add_correction(request: Request, tenant: Caller, run_id: RunId) -> SavedCorrection:
    """Write a text in place of a segment's. The transcript of the model stays: see `version` of getResult."""
    service = service_of(request)
    found = await run_in_threadpool(required, service, tenant, run_id)
    body = parsed_as(NewCorrection, await json_of(request))
    return await run_in_threadpool(_add, service, found, body)


@router.get("/v1/runs/{run_id}/corrections/glossary", responses=STATE, operation_id="suggestGlossary")
def suggest_glossary(service: TheService, tenant: Caller, run_id: RunId) -> SuggestedTerms:
    """Suggest terms for the glossary of the next run: what people wrote in place of other words."""
    run = _corrected(service, _record(service, required(service, tenant, run_id)))
    found = suggestions(run.corrections.lines.values())
    terms = [SuggestedTerm(**one._asdict(), line=one.line) for one in found]
    return SuggestedTerms(terms=terms)


def _record(service: Service, found: FoundRequest) -> RunRecord:
    run = ended_run(found)
    record = stored_documents.valid(service.store, RunRecord, RunKeys(run).record)
    if record is None or not found.end or found.end.status not in ("complete", "partial"):
        raise _no_transcript()
    return record


def _no_transcript() -> Problem:
    return conflict("no-transcript", "the run has no transcript that can be corrected", "try the run again")


def _corrected(service: Service, record: RunRecord) -> CorrectedRun:
    found = service.corrections.find(record)
    if found is None:
        raise _no_transcript()
    return found


def _add(service: Service, request: FoundRequest, body: NewCorrection) -> SavedCorrection:
    record = _record(service, request)
    line = _checked(body, _corrected(service, record))
    try:
        added = service.corrections.add(record, partial(_made, service, record, body, line, body.id or new_id()))
    except TooManyCorrections:
        advice = "export the transcript, and edit it in a program for texts"
        raise conflict("too-many-corrections", f"the run has {MOST_CORRECTIONS} corrections", advice) from None
    if service.requests.request(request.key) is None:
        # It was deleted meanwhile: nothing of it must remain.
        service.store.delete(RunKeys(record.run).correction(added.number))
        raise not_found()
    run = _corrected(service, record)
    after = run.corrections
    place = after.line_of(added)
    if place is None:
        raise conflict("no-transcript", "the run was tried again meanwhile, with another text", "read it again")
    return SavedCorrection(
        version=after.version, correction=_view(after, added), line=_line_view(run, after.lines[place.segment])
    )


def _checked(body: NewCorrection, run: CorrectedRun) -> MachineLine:
    """Return the line that the client means. Raises :class:`Problem` if it cannot be corrected as the client wants."""
    line = run.lines.get(body.segment)
    if line is None:
        raise wrong("#/segment", "the transcript has no such segment")
    if len(line.text) > MOST_MACHINE_CHARACTERS:
        raise wrong("#/segment", f"has more than {MOST_MACHINE_CHARACTERS} characters: it cannot be corrected")
    if body.machine_text is not None and one_line(body.machine_text) != one_line(line.text):
        advice = "load the transcript again: the run was tried again since"
        raise conflict("other-text", "the segment has another text of the model than the one that was seen", advice)
    places = {one.number: run.corrections.line_of(one) for one in run.corrections.all}
    for number in body.based_on:
        place = places.get(number)
        if place is None or place.segment != body.segment:
            raise wrong("#/based_on", f"the segment has no correction {number}")
    return line


def _made(
    service: Service, record: RunRecord, body: NewCorrection, line: MachineLine, new: str, number: int
) -> Correction:
    return Correction(
        run=record.run,
        number=number,
        id=new,
        segment=body.segment,
        start_ms=line.start_ms,
        end_ms=line.end_ms,
        channel=line.channel,
        machine_text=line.text,
        text=typed(body.text),
        based_on=tuple(sorted(set(body.based_on))),
        author=body.author.strip(),
        created_ms=service.now_ms(),
    )


def _view(of: Corrections, one: Correction) -> CorrectionView:
    line = of.line_of(one)
    valid = line is not None and one.number in of.lines[line.segment].numbers
    return CorrectionView(
        number=one.number,
        id=one.id,
        state="older" if line is None else "valid" if valid else "replaced",
        segment=line.segment if line else one.segment,
        start_s=one.start_ms / 1000,
        end_s=one.end_ms / 1000,
        machine_text=one_line(one.machine_text),
        text=one.text,
        based_on=list(one.based_on),
        author=one.author,
        created_at=iso(one.created_ms),
    )


def _line_view(run: CorrectedRun, line: CorrectedLine) -> LineView:
    segment = with_text(run.segment(line.line.segment), line.text)
    return LineView(
        segment=line.line.segment,
        start_s=line.line.start_ms / 1000,
        end_s=line.line.end_ms / 1000,
        machine_text=one_line(line.line.text),
        text=line.text,
        words=[_word_view(word) for word in segment.words],
        is_conflict=line.is_conflict,
        valid=[_view(run.corrections, one) for one in line.valid],
    )


def _word_view(word: Word) -> WordView:
    return WordView(
        word=word["word"],
        start_s=word["start_ms"] / 1000,
        end_s=word["end_ms"] / 1000,
        probability=None if word.get("corrected") else word["probability"],
    )
