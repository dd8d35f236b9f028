"""The published schemas are generated from the code, and documents match them."""

import json
from typing import Any

import jsonschema
import pytest

from chunk_job.contract import JobFailure, Language, Usage
from chunk_job.document import Document
from chunk_job.kernels import CompiledKernels
from chunk_job.model_manifest import FileState, ModelFile, ModelManifest, Verified
from controller.domain.attempt_documents import AttemptResult, Attempts, AttemptTimes
from controller.domain.batches import BatchEnd, BatchEntry, BatchRecord, BatchWorker, OwnOptions
from controller.domain.command_events import CommandEvent, RecordingEnd
from controller.domain.correction_documents import Correction
from controller.domain.documents import (
    Evidence,
    Final,
    JobTime,
    KnownFile,
    LeaseRecord,
    LocalRequest,
    Outcome,
    Report,
    Round,
    SpanReport,
    Status,
    WindowCounts,
    Winner,
)
from controller.domain.output import Output
from controller.domain.playback import Playback
from controller.domain.service_documents import (
    InboxCursor,
    ReplicaRecord,
    RequestEvent,
    RequestState,
    Upload,
)
from controller.domain.usage_documents import RemovedUsage, UsageFigures
from controller.domain.waveform import WaveformHeader
from controller.domain.webhook_documents import Delivery, event_of, run_ended
from controller.domain.written_output import WrittenOutput
from controller.evaluation.documents import NotMeasured
from controller.evaluation.measure import Files, compare, evaluation
from controller.evaluation.words import Text, of_lines, of_segments
from controller.reports.cost import Prices
from controller.reports.usage import UsageDocuments, usage
from controller.reports.usage import report as ledger
from controller.runs.fetched_transcripts import FetchedTranscript, RunEnd, WordCounts
from controller.transcript.merge import merge
from controller.transcript.model import TranscriptSummary
from docs.schema import generate
from tests import fakes

RECORD = fakes.record()
TASK = fakes.task(RECORD, 0)
RESULT = fakes.result(TASK, fakes.segment((" one", 1000, 1400), (" two", 1500, 1900)))
PLAN = fakes.plan(10_000, 20_000, cuts={0: "forced"}, offset_ms=5)
TRANSCRIPT = merge(PLAN, RECORD, [RESULT.model_copy(update={"audio_ms": 12_000})])
SPOKEN = Text(words=of_segments([TRANSCRIPT.segments]), language="en", chunks=TRANSCRIPT.chunks)
EVALUATED = evaluation(
    [compare(Text(words=of_lines("one too")), SPOKEN, Files("talk", "talk.json", "talk.txt"), worst=1)],
    [NotMeasured(name="other.json", why="there is no reference")],
)
REQUESTED = fakes.service_request()
USED = usage(UsageDocuments(run=fakes.RUN, name="talk.mp4", tenant="news", state="interrupted"))
EXAMPLES: dict[str, Document] = {
    "task": TASK,
    "result": RESULT,
    "language": Language(language="pt", probability=0.5, speech_ms=3000, span=0),
    "failure": JobFailure(code=80, summary="full", advice="wait"),
    "kernels": CompiledKernels(
        gpu="NVIDIA H100 80GB HBM3",
        driver="580.65.06",
        ctranslate2="4.8.5",
        compute_types=("int8_float16",),
        compiled_ms=12_000,
        files={"index": "ab" * 32},
    ),
    "model": ModelManifest(
        source="Systran/faster-whisper-small",
        revision="0123456789abcdef0123456789abcdef01234567",
        converter="ctranslate2 4.8.5",
        quantization="int8_float16",
        files={"model.bin": ModelFile(sha256="ab" * 32, size_bytes=245_000_000)},
    ),
    "verified": Verified(
        manifest="cd" * 32,
        files={"model.bin": FileState(size_bytes=245_000_000, modified_ns=1_764_288_000_000_000_000, inode=12)},
    ),
    "run": RECORD,
    "request": fakes.request(RECORD).model_copy(update={"outputs": ()}),
    "known-file": KnownFile(source=fakes.request(RECORD).source, device=1, inode=2, ctime_ns=1),
    "local-request": LocalRequest(run=fakes.RUN, store="file:///store", record=RECORD, request=fakes.request(RECORD)),
    "written": WrittenOutput(base="file:///out/talk", sha256={"txt": ("ab" * 32,), "json": ("cd" * 32, "ef" * 32)}),
    "fetched": FetchedTranscript(
        run=RunEnd(id="0" * 26, ended_at="2025-11-28T00:00:00+00:00"),
        version="0.3.0",
        output=Output(base="file:///out/talk", formats=("txt",)),
        sha256={"txt": "ab" * 32},
        summary=TRANSCRIPT.summary(),
        words=WordCounts(words=(2,), unsure=(0,), judged=2, probability=1.5),
    ),
    "round": Round(id="0000cafe"),
    "lead": LeaseRecord(owner="0123456789abcdef", lock_domain="cd", renew_count=3),
    "evidence": Evidence(
        round="0000cafe",
        span=None,
        attempt=1,
        failure="UNKNOWN",
        summary="odd",
        advice="",
        details=("a line",),
        ended_ms=fakes.START_MS,
    ),
    "attempts": Attempts(
        run=fakes.RUN,
        began_ms=fakes.START_MS,
        done_before_ms=0,
        attempts=(
            AttemptTimes(span=None, attempt=1, phase="ended", submitted_ms=1, running_ms=2, ended_ms=3),
            AttemptTimes(span=0, attempt=2, phase="queued", waits_for="no GPU is free", node="gpu-1"),
            AttemptTimes(
                span=1,
                attempt=1,
                phase="ended",
                job="u",
                ready_ms=1,
                pull_ms=0,
                ran_ms=10,
                gpu=False,
                result=AttemptResult(
                    audio_ms=1_000,
                    speech_ms=900,
                    device="cpu",
                    usage=Usage(fetch_ms=1, load_ms=2, transcribe_ms=3, cpu_threads=1),
                ),
            ),
        ),
    ),
    "plan": PLAN,
    "final": Final(
        run=fakes.RUN,
        verdict="partial",
        winners=(Winner(span=0, key="work/r/results/00000/a1-u.json", sha256="ab" * 32),),
        lost=(1,),
        outputs={"txt": "cd" * 32},
    ),
    "outcome": Outcome(run=fakes.RUN, verdict="failed", round="0000cafe", summary="odd", advice=""),
    "report": Report(
        run=fakes.RUN,
        verdict="complete",
        elapsed_s=1.5,
        audio_s=30.0,
        speech_s=15.0,
        compute_s=3.0,
        realtime_factor=10.0,
        time=JobTime(decode_s=1.0, total_s=3.0),
        useful_share=0.333,
        windows=WindowCounts(decoded=3, decoded_again=1),
        batch_sizes=(0, 8),
        stored_types=("float16",),
        compute_types=("int8",),
        advice=("convert it once",),
        spans=(
            SpanReport(
                span=0,
                attempts=2,
                failures=("UNKNOWN",),
                audio_s=10.0,
                speech_s=5.0,
                fetch_s=0.1,
                load_s=0.2,
                transcribe_s=1.0,
            ),
        ),
    ),
    "status": Status(
        run=fakes.RUN,
        name="talk.mp4",
        state="running",
        percent=42.5,
        spans_done=1,
        spans_known=3,
        planned=False,
        failures=0,
        updated_ms=fakes.START_MS,
    ),
    "removed-usage": RemovedUsage(
        run=fakes.RUN,
        log="",
        tenant="news",
        submitted_ms=fakes.START_MS,
        observed_ms=None,
        removed_ms=fakes.START_MS,
        **{name: getattr(USED, name) for name in UsageFigures.model_fields},
    ),
    "usage": ledger(
        [USED],
        Prices(gpu_hour=2.5),
    ),
    "waveform": WaveformHeader(run=fakes.RUN, overview=2, detail=26),
    "playback": Playback(run=fakes.RUN, media_type="video/mp4", rendition=True),
    "transcript": TRANSCRIPT,
    "evaluation": EVALUATED,
    "service-request": REQUESTED,
    "service-state": RequestState(
        id=REQUESTED.id,
        name="talk.mp4",
        labels={"a": "b"},
        priority=5,
        created_ms=fakes.START_MS,
        updated_ms=fakes.START_MS,
        status="running",
        run_id=fakes.RUN,
    ),
    "service-end": fakes.service_end(REQUESTED),
    "service-event": RequestEvent(
        type="ended",
        time_ms=fakes.START_MS,
        text="done",
        status="complete",
        run_id=None,
        retries=1,
        happened=("retried", "ended"),
    ),
    "service-upload": Upload(
        id=REQUESTED.id,
        tenant="news",
        name="talk.mp4",
        size_bytes=1000,
        created_ms=fakes.START_MS,
        complete=False,
    ),
    "inbox-cursor": InboxCursor(path="c9gm8bjk"),
    "replica": ReplicaRecord(replica="0123456789abcdef", renew_count=1, requests=(REQUESTED.id,), runs=(fakes.RUN,)),
    "command-event": CommandEvent(
        type="recording",
        time_ms=fakes.START_MS,
        recording=RecordingEnd(
            name="talk.mp4",
            run=fakes.RUN,
            uri="s3://media/talk.mp4",
            verdict="complete",
            summary="transcribed",
            advice="",
            uris=("file:///out/talk.txt",),
            warnings=(),
        ),
    ),
    "batch": BatchRecord(
        id="a" * 16,
        created_ms=1,
        entries=1,
        pages=("b" * 64,),
        output="out",
        formats=("txt",),
        plan=RECORD.plan,
        options=RECORD.options,
    ),
    "batch-entry": BatchEntry(
        number=0,
        name="talk.mp4",
        output="talk",
        size_bytes=1000,
        options=OwnOptions(language="pt", glossary=("MinIO",)),
        labels={"show": "news"},
    ),
    "batch-end": BatchEnd(
        number=0,
        verdict="failed",
        run_id=fakes.RUN,
        failure="BAD_INPUT",
        summary="no media",
        advice="check it",
        warnings=("quiet",),
    ),
    "batch-worker": BatchWorker(host="one", shard="1/2", updated_ms=1),
    "correction": Correction(
        run=RECORD.run,
        number=2,
        id="a" * 20,
        segment=0,
        start_ms=1_000,
        end_ms=1_900,
        channel=None,
        machine_text=" one two",
        text="one too",
        based_on=(1,),
        author="Ana",
        created_ms=1,
    ),
    "webhook-delivery": Delivery(
        id="0f" * 16,
        prefix="news",
        event=event_of("0f" * 16, run_ended(REQUESTED, fakes.service_end(REQUESTED)), fakes.START_MS),
        url="https://receiver.example/",
        created_ms=fakes.START_MS,
        since_ms=fakes.START_MS,
        next_ms=fakes.START_MS,
        last_error="HTTP 500",
    ),
}


def published(name: str) -> dict[str, Any]:
    schema = json.loads((generate.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(schema, dict)
    return schema


def check(name: str, raw: object) -> None:
    schema = published(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(raw)


def test_every_document_is_published_and_nothing_else() -> None:
    names = {generate.name_of(document) for document in generate.DOCUMENTS}
    assert names == EXAMPLES.keys() == {path.stem for path in generate.FOLDER.glob("*.json")}
    carriers = {kind for kind in subclasses(Document) if "schema_" in kind.model_fields}
    assert set(generate.DOCUMENTS) == carriers - {TranscriptSummary}, "TranscriptSummary is a part of the transcript"


def subclasses(of: type[Document]) -> set[type[Document]]:
    ours = {kind for kind in of.__subclasses__() if kind.__module__.partition(".")[0] in ("chunk_job", "controller")}
    return ours.union(*(subclasses(kind) for kind in ours))


@pytest.mark.parametrize("document", generate.DOCUMENTS, ids=generate.name_of)
def test_a_published_schema_is_generated_from_the_code(document: type[Document]) -> None:
    path = generate.FOLDER / f"{generate.name_of(document)}.json"
    assert path.read_text(encoding="utf-8") == generate.schema_of(document), "run: python docs/schema/generate.py"


@pytest.mark.parametrize("name", EXAMPLES)
def test_documents_match_their_published_schema(name: str) -> None:
    raw = json.loads(EXAMPLES[name].encode())
    assert raw["schema"] == f"stenofleet.{name}/1"
    check(name, raw)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_schema_is_as_strict_as_the_code(name: str) -> None:
    raw = json.loads(EXAMPLES[name].encode())
    needed = next(key for key in published(name)["required"] if key != "schema")
    for wrong in (
        {**raw, "surprise": 1},
        {**raw, "schema": f"stenofleet.{name}/2"},
        {key: value for key, value in raw.items() if key != "schema"},
        {key: value for key, value in raw.items() if key != needed},
    ):
        with pytest.raises(jsonschema.ValidationError):
            check(name, wrong)


@pytest.mark.parametrize("name", ["result", "transcript"])
def test_times_are_published_as_seconds(name: str) -> None:
    definitions = published(name)["$defs"]
    for kind in ("Segment", "Word"):
        assert {"start", "end"} <= definitions[kind]["properties"].keys()
        assert definitions[kind]["properties"]["start"] == {"maximum": 3603600.0, "minimum": 0, "type": "number"}
    assert "start_ms" not in json.dumps(published(name))
