"""An attacker with write access changes one document after the other: the run finishes correctly, or it fails.

No other run is touched, nothing is written outside the output folder, and the command ends by itself.
"""

import json
from typing import Any

import pytest

from chunk_job.contract import ChunkResult
from chunk_job.document import Document
from controller.domain.documents import Evidence, Request, Round
from controller.domain.output import Output
from tests import fakes
from tests.fakes import CRASH, DONE, JobBehaviour
from tests.tamper.scene import DOCUMENTS, KEYS, OTHER, RESULT, Scene, changed, unfinished

pytestmark = pytest.mark.hostile


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
        outcomes = scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)))
        assert [one.verdict for one in outcomes] == ["complete", "complete"], (key, outcomes)
        assert scene.outputs() == right, key
        now = scene.objects()
        assert {name: now.get(name) for name in neighbour} == neighbour, key
        assert all(name.split("/")[1] in (fakes.RUN, OTHER.run) for name in now), key


EVIL = "file:///tmp/stenofleet-evil/transcript"


@pytest.mark.parametrize(
    "changes",
    [
        {"audio_key": OTHER.audio(0)},
        {"result_prefix": OTHER.results_of(0)},
        {"result_prefix": KEYS.results_of(2)},
        {"language_key": OTHER.language},
        {"language_note_key": KEYS.language_candidate(2)},
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

    def script(job: Any) -> JobBehaviour:
        given.append(scene.store.get(job.task_key))
        return DONE

    (ended,) = scene.command(script=script)
    assert ended.verdict == "complete"
    assert whole[KEYS.task(0)] in given
    assert begun[KEYS.task(0)] not in given
    assert scene.reporter.reported(f"{KEYS.task(0)} is invalid and was removed")


@pytest.mark.parametrize(
    "change",
    ["doubled", "many more", "a hole", "a shorter end", "another run", "no span"],
)
def test_an_invalid_plan_is_made_again(scene: Scene, whole: dict[str, bytes], change: str) -> None:
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
    (ended,) = scene.command()
    assert (ended.verdict, scene.outputs()) == ("complete", right)
    assert scene.store.get(KEYS.plan) == whole[KEYS.plan]
    assert [job.span for job in scene.runner.submitted] == [None], "cut again without another transcription"


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
def test_an_invalid_result_is_computed_again(scene: Scene, whole: dict[str, bytes], changes: dict[str, Any]) -> None:
    right = scene.outputs()
    begun = unfinished(whole)
    begun[RESULT] = changed(whole[RESULT], **changes)
    scene.lay(begun)
    (ended,) = scene.command()
    assert (ended.verdict, scene.outputs()) == ("complete", right)
    assert (0, 2) in [(job.span, job.attempt) for job in scene.runner.submitted]


def test_output_paths_are_never_read_from_the_store(scene: Scene, whole: dict[str, bytes]) -> None:
    right = scene.outputs()
    request = Request.decode(whole[KEYS.request])
    evil = request.model_copy(update={"outputs": (Output(base=EVIL, formats=("txt",)),)})
    scene.lay(whole)
    scene.store.put(KEYS.request, evil.encode())
    scene.store.put(KEYS.transcript("sh"), b"#!/bin/sh")
    scene.store.put(KEYS.transcript("txt"), b"not what the transcript says")
    (ended,) = scene.command()
    assert ended.verdict == "complete"
    assert scene.outputs() == right, "rendered from the transcript, not copied"
    assert not any("stenofleet-evil" in path for path in ended.files)


def test_a_transcript_of_another_recording_is_not_handed_out(scene: Scene, whole: dict[str, bytes]) -> None:
    right = scene.outputs()
    other = changed(whole[KEYS.transcript("json")], source={"name": "x", "identity": "0" * 64})
    scene.lay({key: data for key, data in whole.items() if key != KEYS.final} | {KEYS.transcript("json"): other})
    (ended,) = scene.command()
    assert (ended.verdict, scene.outputs()) == ("complete", right)


def test_a_transcript_that_may_be_changed_holds_no_controls_all_the_same(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = unfinished(whole)
    hostile = " \x1b]0;owned\x07\x00\x9b31m\u202eback\u2066"
    result = ChunkResult.decode(whole[RESULT])
    segment = result.segments[0]
    words = tuple({**word, "word": hostile} for word in segment.words)
    changed = segment.model_copy(update={"text": hostile, "words": words})
    begun[RESULT] = result.model_copy(update={"text": hostile, "segments": (changed,)}).encode()
    scene.lay(begun)
    (ended,) = scene.command()
    assert ended.verdict == "complete"
    for data in scene.outputs().values():
        assert not set("\x1b\x07\x00\x9b\u202e") & set(data.decode())
        assert "\\u001b" not in data.decode()
    assert "control characters removed from the text" in " ".join(ended.warnings)
    assert "]0;owned31mback" in scene.outputs()[f"{fakes.RUN}.txt"].decode()


def test_a_result_that_is_changed_again_and_again_ends_the_run_and_no_other(scene: Scene) -> None:
    def meanwhile(_: int) -> None:
        for entry in list(scene.store.list(KEYS.results)):
            if scene.store.get(entry.key) != b"{":
                scene.store.put(entry.key, b"{")

    ended = scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)), meanwhile=meanwhile)
    assert [one.verdict for one in ended] == ["failed", "complete"]
    assert "RESULT_INVALID" in ended[0].summary


def test_failures_written_by_an_attacker_stop_only_that_run(scene: Scene, whole: dict[str, bytes]) -> None:
    """An attacker with write access may stop a run, as docs/explanation/security.md states."""
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.results_of(1))}
    round_id = Round.decode(begun[KEYS.round]).id
    evidence = Evidence(
        run=fakes.RUN, round=round_id, span=1, attempt=1, failure="CONFIG", summary="\x1b[31mso", advice="", details=(),
        ended_ms=1,
    )  # fmt: skip
    begun[KEYS.failure(1, 1, round_id)] = evidence.encode()
    scene.lay(begun)
    ended = scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)), script=lambda _: CRASH)
    assert [one.verdict for one in ended] == ["failed", "complete"]
