"""Whoever may write to the bucket changes one document after the other: the run is finished right, or that run fails.

No other run is touched, nothing is written outside the output folder, and the command ends by itself.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from chunk_job.contract import ChunkResult, ChunkTask, Document, ExitCode, Language
from chunk_job.store import FileStore
from controller.edges import Ticket
from controller.plan import Plan
from controller.records import Evidence, Final, Lead, Outcome, Output, Request, Round, RunRecord, Status
from controller.transcript import Transcript
from tests import fakes
from tests.fakes import CRASH, DONE, Deed
from tests.tamper.scene import KEYS, OTHER, Scene

RESULT = f"{KEYS.results_of(0)}a1-u.json"
DOCUMENTS: dict[str, type[Document]] = {
    KEYS.record: RunRecord,
    KEYS.request: Request,
    KEYS.round: Round,
    KEYS.lead: Lead,
    KEYS.plan: Plan,
    KEYS.status: Status,
    KEYS.final: Final,
    KEYS.marker("complete"): Outcome,
    KEYS.transcript("json"): Transcript,
    KEYS.task(0): ChunkTask,
    KEYS.language: Language,
    KEYS.language_note(1): Language,
    RESULT: ChunkResult,
    KEYS.failure(1, 1, "0000cafe"): Evidence,
}
"""Every document of a run that a controller reads, by where it lies."""


@pytest.fixture
def whole(scene: Scene) -> dict[str, bytes]:
    """A run that is complete, with one failed attempt, and a neighbour that is complete too."""
    scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)))
    objects = scene.objects()
    evidence = Evidence(
        run=fakes.RUN, round="0000cafe", span=1, attempt=1, failure="NATIVE_CRASH", summary="", advice="", details=(),
        ended_ms=1,
    )  # fmt: skip
    language = Language(language="pt", probability=0.5, speech_ms=1, span=1)
    objects[KEYS.failure(1, 1, "0000cafe")] = evidence.encode()
    objects[KEYS.language] = language.encode()
    objects[KEYS.language_note(1)] = language.encode()
    objects[KEYS.lead] = Lead(run=fakes.RUN, owner="0" * 16, place="here", beat=1).encode()
    assert objects.keys() >= DOCUMENTS.keys()
    return objects


def unfinished(whole: dict[str, bytes]) -> dict[str, bytes]:
    """The run without its end: what a command works on."""
    ended = [
        KEYS.marker("complete"),
        KEYS.final,
        *(KEYS.transcript(one) for one in ("txt", "srt", "vtt", "tsv", "json")),
    ]
    return {key: data for key, data in whole.items() if key not in ended}


def huge(kind: type[Document]) -> bytes:
    return b" " * (min(kind.max_bytes, 2 << 20) + 1)


def of_another_run(scene: Scene, key: str, data: bytes) -> bytes:
    there = key.replace(fakes.RUN, OTHER.run)
    return scene.store.get(there) if scene.store.stat(there) else data.replace(fakes.RUN.encode(), OTHER.run.encode())


FAULTS = ["nothing", "half", "a list", "400 digits", "another run", "huge", "traversal"]


def spoiled(scene: Scene, key: str, data: bytes, fault: str) -> bytes:
    match fault:
        case "nothing":
            return b""
        case "half":
            return data[: len(data) // 2]
        case "a list":
            return b"[" * 5_000
        case "400 digits":
            return b'{"schema": 1' + b"0" * 400 + b"}"
        case "another run":
            return of_another_run(scene, key, data)
        case "traversal":
            return data.replace(fakes.RUN.encode(), b"q/../../scratch/x")
        case _:
            return huge(DOCUMENTS[key])


@pytest.mark.parametrize("ended", [True, False], ids=["a complete run", "a run half done"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_changed_document_costs_that_run_at_most(
    scene: Scene, whole: dict[str, bytes], fault: str, *, ended: bool
) -> None:
    right = scene.outputs()
    begun = whole if ended else unfinished(whole)
    for key in begun.keys() & DOCUMENTS.keys():
        neighbour = {key: data for key, data in begun.items() if OTHER.run in key}
        scene.lay(begun)
        scene.store.put(key, spoiled(scene, key, begun[key], fault))
        settled = scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)))
        assert [one.verdict for one in settled] == ["complete", "complete"], (key, settled)
        assert scene.outputs() == right, key
        now = scene.objects()
        assert {name: now.get(name) for name in neighbour} == neighbour, key
        assert all(name.split("/")[1] in (fakes.RUN, OTHER.run) for name in now), key


def changed(data: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(data) | changes).encode()


EVIL = "file:///tmp/stenofleet-evil/transcript"


@pytest.mark.parametrize(
    "changes",
    [
        {"audio_key": OTHER.audio(0)},
        {"result_prefix": OTHER.results_of(0)},
        {"result_prefix": KEYS.results_of(2)},
        {"language_key": OTHER.language},
        {"language_note_key": KEYS.language_note(2)},
        {"options": json.loads(fakes.record().options.encode()) | {"model": "/tmp/other-model"}},
        {"language_min_speech_ms": 1},
        {"seed": 1},
        {"audio_ms": 10**9},
        {"span": 1},
    ],
    ids=str,
)
def test_a_task_that_no_intake_of_this_run_writes_is_never_given_to_a_job(
    scene: Scene, whole: dict[str, bytes], changes: dict[str, Any]
) -> None:
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.results_of(0))}
    begun[KEYS.task(0)] = changed(whole[KEYS.task(0)], **changes)
    begun[KEYS.audio(0)] = b"flac"
    scene.lay(begun)
    given: list[bytes] = []

    def script(job: Any) -> Deed:
        given.append(scene.store.get(job.task_key))
        return DONE

    (settled,) = scene.command(script=script)
    assert settled.verdict == "complete"
    assert whole[KEYS.task(0)] in given
    assert begun[KEYS.task(0)] not in given
    assert scene.reporter.said(f"{KEYS.task(0)} is not believed and removed")


@pytest.mark.parametrize(
    "change",
    ["doubled", "many more", "a hole", "a shorter end", "another run", "no span"],
)
def test_a_plan_that_is_none_is_made_again(scene: Scene, whole: dict[str, bytes], change: str) -> None:
    right = scene.outputs()
    plan = json.loads(whole[KEYS.plan])
    spans = plan["spans"]
    match change:
        case "doubled":
            plan["spans"] = spans + spans
        case "many more":
            extra = [
                spans[2] | {"index": 3 + n, "start_ms": 30_000 + n, "end_ms": 30_001 + n, "audio_start_ms": 30_000 + n,
                            "audio_end_ms": 30_001 + n}
                for n in range(5_000)
            ]  # fmt: skip
            plan |= {"spans": spans + extra, "duration_ms": 35_000}
        case "a hole":
            plan["spans"] = [spans[0], spans[2]]
        case "a shorter end":
            plan |= {"spans": spans[:2], "duration_ms": 20_000}
        case "another run":
            plan["run"] = OTHER.run
        case _:
            plan["spans"] = []
    begun = unfinished(whole)
    begun[KEYS.plan] = json.dumps(plan).encode()
    scene.lay(begun)
    (settled,) = scene.command()
    assert (settled.verdict, scene.outputs()) == ("complete", right)
    assert scene.store.get(KEYS.plan) == whole[KEYS.plan]
    assert [job.span for job in scene.runner.submitted] == [None], "cut again, and nothing transcribed again"


@pytest.mark.parametrize(
    "changes",
    [
        {"audio_ms": 10**9},
        {"attempt": 2},
        {"uid": "other"},
        {"speech_ms": 10**6},
        {"text": "x" * 100_000},
        {"usage": {"fetch_ms": 10**400, "load_ms": 0, "transcribe_ms": 0, "cpu_threads": 1}},
        {"run": OTHER.run},
        {"span": 1},
        {"task_sha256": "0" * 64},
        {"language": "\x1b[31m"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_result_that_is_none_is_computed_again(
    scene: Scene, whole: dict[str, bytes], changes: dict[str, Any]
) -> None:
    right = scene.outputs()
    begun = unfinished(whole)
    begun[RESULT] = changed(whole[RESULT], **changes)
    scene.lay(begun)
    (settled,) = scene.command()
    assert (settled.verdict, scene.outputs()) == ("complete", right)
    assert (0, 2) in [(job.span, job.attempt) for job in scene.runner.submitted]


def test_where_outputs_go_is_never_read_from_the_store(scene: Scene, whole: dict[str, bytes]) -> None:
    right = scene.outputs()
    request = Request.decode(whole[KEYS.request])
    evil = request.model_copy(update={"outputs": (Output(base=EVIL, formats=("txt",)),)})
    scene.lay(whole)
    scene.store.put(KEYS.request, evil.encode())
    scene.store.put(KEYS.transcript("sh"), b"#!/bin/sh")
    scene.store.put(KEYS.transcript("txt"), b"not what the transcript says")
    (settled,) = scene.command()
    assert settled.verdict == "complete"
    assert scene.outputs() == right, "rendered from the transcript, not copied"
    assert not any("stenofleet-evil" in path for path in settled.files)


def test_a_transcript_of_another_recording_is_not_handed_out(scene: Scene, whole: dict[str, bytes]) -> None:
    right = scene.outputs()
    other = changed(whole[KEYS.transcript("json")], source={"name": "x", "identity": "0" * 64})
    scene.lay({key: data for key, data in whole.items() if key != KEYS.final} | {KEYS.transcript("json"): other})
    (settled,) = scene.command()
    assert (settled.verdict, scene.outputs()) == ("complete", right)


def test_a_transcript_that_may_be_changed_holds_no_controls_all_the_same(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = unfinished(whole)
    hostile = " \x1b]0;owned\x07\x00\x9b31m\u202eback\u2066"
    result = ChunkResult.decode(whole[RESULT])
    segment = result.segments[0]
    words = tuple({**word, "word": hostile} for word in segment.words)
    said = segment.model_copy(update={"text": hostile, "words": words})
    begun[RESULT] = result.model_copy(update={"text": hostile, "segments": (said,)}).encode()
    scene.lay(begun)
    (settled,) = scene.command()
    assert settled.verdict == "complete"
    for data in scene.outputs().values():
        assert not set("\x1b\x07\x00\x9b\u202e") & set(data.decode())
        assert "\\u001b" not in data.decode()
    assert "control characters removed from the text" in " ".join(settled.warnings)
    assert "]0;owned31mback" in scene.outputs()[f"{fakes.RUN}.txt"].decode()


def test_a_result_that_is_changed_again_and_again_ends_the_run_and_no_other(scene: Scene) -> None:
    def meanwhile(_: int) -> None:
        for entry in list(scene.store.list(KEYS.results)):
            if scene.store.get(entry.key) != b"{":
                scene.store.put(entry.key, b"{")

    settled = scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)), meanwhile=meanwhile)
    assert [one.verdict for one in settled] == ["failed", "complete"]
    assert "RESULT_INVALID" in settled[0].summary


def test_failures_that_were_written_by_somebody_else_stop_that_run_alone(scene: Scene, whole: dict[str, bytes]) -> None:
    """Whoever may write to the store may stop a run; docs/security.md says so."""
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.results_of(1))}
    round_id = Round.decode(begun[KEYS.round]).id
    evidence = Evidence(
        run=fakes.RUN, round=round_id, span=1, attempt=1, failure="CONFIG", summary="\x1b[31mso", advice="", details=(),
        ended_ms=1,
    )  # fmt: skip
    begun[KEYS.failure(1, 1, round_id)] = evidence.encode()
    scene.lay(begun)
    settled = scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)), script=lambda _: CRASH)
    assert [one.verdict for one in settled] == ["failed", "complete"]


# ---------------------------------------------------------------- valid documents that do not fit together


def test_a_number_that_no_run_reaches_fails_that_run_alone(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.results_of(0))}
    begun[f"{KEYS.results_of(0)}a999999-x.json"] = b"{}"
    begun[KEYS.audio(0)] = b"flac"
    scene.lay(begun)
    settled = scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)))
    assert [one.verdict for one in settled] == ["failed", "complete"]
    assert "no number is left for another attempt" in settled[0].summary


def test_a_number_beyond_all_is_no_attempt(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.results_of(0))}
    begun[f"{KEYS.results_of(0)}a1000000-x.json"] = b"{}"
    begun[KEYS.audio(0)] = b"flac"
    scene.lay(begun)
    (settled,) = scene.command()
    assert settled.verdict == "complete"
    assert (0, 1) in [(job.span, job.attempt) for job in scene.runner.submitted]


def test_as_many_warnings_as_a_plan_holds_and_one_more(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = unfinished(whole)
    begun[KEYS.plan] = changed(whole[KEYS.plan], warnings=["odd \u202e \x1b"] * 100)
    result = ChunkResult.decode(whole[RESULT])
    said = result.segments[0].model_copy(update={"text": " a\x1b"})
    begun[RESULT] = result.model_copy(update={"segments": (said,), "text": " a\x1b"}).encode()
    scene.lay(begun)
    settled = scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)))
    assert [one.verdict for one in settled] == ["complete", "complete"]
    stored = Transcript.decode(scene.store.get(KEYS.transcript("json")))
    assert stored.warnings[-1] == "1 control character removed from the text"
    assert "\u202e" not in scene.store.get(KEYS.transcript("json")).decode()


@pytest.mark.parametrize(
    "change",
    [
        {"text": " " + "\u2066" * 5_000},
        {"seek": 1 << 53},
        {"id": 1 << 53},
        {"avg_logprob": -1e6},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_valid_result_never_makes_a_transcript_that_is_none(
    scene: Scene, whole: dict[str, bytes], change: dict[str, Any]
) -> None:
    begun = unfinished(whole)
    key = f"{KEYS.results_of(2)}a1-u.json"
    result = ChunkResult.decode(whole[key])
    text = change.get("text", result.segments[0].text)
    words = tuple({**word, "word": text} for word in result.segments[0].words)
    said = result.segments[0].model_copy(update={**change, "words": words})
    begun[key] = result.model_copy(update={"segments": (said,)}).encode()
    scene.lay(begun)
    (settled,) = scene.command()
    assert settled.verdict == "complete"
    assert Transcript.decode(scene.store.get(KEYS.transcript("json"))).status == "complete"
    (again,) = scene.command()
    assert (again.verdict, scene.runner.submitted) == ("complete", [])
    assert scene.reporter.said("is already complete")


def test_chunks_in_different_languages_are_a_warning(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = unfinished(whole)
    begun[RESULT] = changed(whole[RESULT], language="pt")
    scene.lay(begun)
    (settled,) = scene.command()
    assert settled.warnings == ("chunks were transcribed in different languages: en, pt",)


@pytest.mark.parametrize("found", [b"garbage", None], ids=["damaged", "gone"])
def test_a_language_that_is_damaged_or_gone_while_a_run_works_is_put_again(scene: Scene, found: bytes | None) -> None:
    record = fakes.record(language=None)

    def meanwhile(_: int) -> None:
        if len(list(scene.store.list(KEYS.results))) == 1 and not scene.runner.cancelled_runs:
            scene.runner.cancelled_runs.add("once")
            if found is None:
                scene.store.delete(KEYS.language)
            else:
                scene.store.put(KEYS.language, found)

    def script(job: Any) -> Deed:
        return Deed(leaves="result", takes_ms=200 + 500 * (job.span or 0))

    (settled,) = scene.command(scene.ticket(record), script=script, meanwhile=meanwhile)
    assert settled.verdict == "complete"
    (again,) = scene.command(scene.ticket(record))
    assert again.verdict == "complete"


def test_a_language_that_is_no_document_is_decided_again(scene: Scene, whole: dict[str, bytes]) -> None:
    record = fakes.record(language=None)
    scene.lay({})
    scene.store.put(KEYS.language, b"garbage")
    (settled,) = scene.command(scene.ticket(record))
    assert settled.verdict == "complete"
    assert Language.decode(scene.store.get(KEYS.language)).language == "en"


def test_results_of_tasks_that_were_cut_again_count(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.tasks)}
    scene.lay(begun)
    (settled,) = scene.command()
    assert settled.verdict == "complete"
    assert [job.span for job in scene.runner.submitted] == [None]


def test_a_record_that_is_gone_and_other_threads_cost_nothing(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = unfinished(whole)
    del begun[KEYS.record]
    scene.lay(begun)
    (settled,) = scene.command(scene.ticket(fakes.record(cpu_threads=7)))
    assert (settled.verdict, scene.runner.submitted) == ("complete", [])


def test_many_damaged_chunks_are_cut_again_although_an_intake_is_at_work(scene: Scene) -> None:
    damaged = fakes.dies_saying(ExitCode.CHUNK_DAMAGED, "other samples")

    def script(job: Any) -> Deed:
        if job.span is None:
            return Deed(leaves="result", takes_ms=3_000)
        return damaged if job.attempt == 1 else DONE

    scene.chunks_ms = (10_000,) * 12
    (settled,) = scene.command(script=script)
    assert settled.verdict == "complete", settled


@pytest.mark.parametrize("formats", [("txt",), ("srt",), ("vtt", "tsv")], ids=str)
def test_without_a_json_beside_it_a_worse_text_does_not_replace_a_better_one(
    scene: Scene, formats: tuple[Any, ...]
) -> None:
    asked = scene.ticket(gaps=True)
    output = asked.request.outputs[0].model_copy(update={"formats": formats})
    asked = Ticket(record=asked.record, request=asked.request.model_copy(update={"outputs": (output,)}))
    scene.command(asked)
    good = scene.outputs()
    scene.lay({})
    (settled,) = scene.command(asked, script=lambda job: CRASH if job.span == 1 else DONE)
    assert (settled.verdict, scene.outputs()) == ("partial", good)
    assert "has fewer gaps" in settled.warnings[-1]
    (settled,) = scene.command(asked)
    assert (settled.verdict, scene.outputs()) == ("complete", good)


def test_another_track_of_the_same_recording_is_another_transcript(scene: Scene) -> None:
    (first,) = scene.command(scene.ticket(gaps=True))
    other = fakes.record("e" * 16).model_copy(update={"audio_track": 1})
    asked = scene.ticket(gaps=True)
    asked = Ticket(
        record=other,
        request=fakes.request(other, scene.out / fakes.RUN, formats=("txt", "json"), on_chunk_failure="gap"),
    )
    (second,) = scene.command(asked, script=lambda job: CRASH if job.span == 1 else DONE)
    assert (first.verdict, second.verdict) == ("complete", "partial")
    assert second.files


def test_a_result_that_is_swapped_at_every_merge_ends_the_run(scene: Scene) -> None:
    put: list[int] = []

    def meanwhile(_: int) -> None:
        results = [entry.key for entry in scene.store.list(KEYS.results_of(0))]
        if len(list(scene.store.list(KEYS.results))) >= 3 and results:
            good = scene.store.get(results[-1])
            uid = f"v{len(put)}"
            put.append(1)
            for key in results:
                scene.store.put(key, b"{")
            raw = json.loads(good) if good != b"{" else json.loads(begun) | {"uid": uid}
            scene.store.put(f"{KEYS.results_of(0)}a1-{uid}.json", json.dumps(raw | {"uid": uid}).encode())

    begun = fakes.result(fakes.task(fakes.record(), 0), fakes.segment((" w", 1, 2))).encode()
    settled = scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)), meanwhile=meanwhile)
    assert settled[1].verdict == "complete"
    assert settled[0].verdict in ("complete", "failed")
    assert len(put) < 200


def test_what_lies_in_the_way_of_one_run_costs_that_run_alone(tmp_path: Path) -> None:
    scene = Scene(FileStore(tmp_path / "store"), tmp_path)
    scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)))
    whole = scene.objects()
    root = tmp_path / "store"
    for place in (KEYS.work, KEYS.results, KEYS.home, KEYS.request, KEYS.plan):
        for kind in ("link", "file", "pipe", "folder"):
            shutil.rmtree(root)
            scene.lay(unfinished(whole))
            path = root / place.rstrip("/")
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            match kind:
                case "link":
                    path.symlink_to(tmp_path)
                case "file":
                    path.write_bytes(b"x")
                case "pipe":
                    os.mkfifo(path)
                case _:
                    path.mkdir()
                    (path / "x").touch()
            settled = scene.command(scene.ticket(), scene.ticket(fakes.record(OTHER.run)))
            assert settled[1].verdict == "complete", (place, kind)
            assert settled[0].verdict in ("complete", "failed"), (place, kind)
            assert settled[0].verdict == "complete" or settled[0].environment, (place, kind, settled[0])
