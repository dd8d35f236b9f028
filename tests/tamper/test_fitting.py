"""Documents that are valid but inconsistent with each other, and obstacles at the paths of a run's objects."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from chunk_job.contract import ChunkResult, Language
from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller.domain.interfaces import RunRequest
from controller.domain.plan import longest_recording_ms
from controller.transcript.model import Transcript, longest_transcript_bytes
from tests import fakes
from tests.fakes import CRASH, DONE, JobBehaviour
from tests.tamper.scene import KEYS, OTHER, RESULT, Scene, changed, unfinished

pytestmark = pytest.mark.hostile


def test_an_impossible_attempt_number_fails_only_that_run(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.results_of(0))}
    begun[f"{KEYS.results_of(0)}a999999-x.json"] = b"{}"
    begun[KEYS.audio(0)] = b"flac"
    scene.lay(begun)
    ended = scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)))
    assert [one.verdict for one in ended] == ["failed", "complete"]
    assert "no attempt number is left" in ended[0].summary


def test_a_number_above_the_limit_is_no_attempt(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.results_of(0))}
    begun[f"{KEYS.results_of(0)}a1000000-x.json"] = b"{}"
    begun[KEYS.audio(0)] = b"flac"
    scene.lay(begun)
    (ended,) = scene.command()
    assert ended.verdict == "complete"
    assert (0, 1) in [(job.span, job.attempt) for job in scene.runner.submitted]


def test_as_many_warnings_as_a_plan_holds_and_one_more(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = unfinished(whole)
    begun[KEYS.plan] = changed(whole[KEYS.plan], warnings=["odd \u202e \x1b"] * 100)
    result = ChunkResult.decode(whole[RESULT])
    altered = result.segments[0].model_copy(update={"text": " a\x1b"})
    begun[RESULT] = result.model_copy(update={"segments": (altered,), "text": " a\x1b"}).encode()
    scene.lay(begun)
    ended = scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)))
    assert [one.verdict for one in ended] == ["complete", "complete"]
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
def test_a_valid_result_never_gives_an_invalid_transcript(
    scene: Scene, whole: dict[str, bytes], change: dict[str, Any]
) -> None:
    begun = unfinished(whole)
    key = f"{KEYS.results_of(2)}a1-u.json"
    result = ChunkResult.decode(whole[key])
    text = change.get("text", result.segments[0].text)
    words = tuple({**word, "word": text} for word in result.segments[0].words)
    altered = result.segments[0].model_copy(update={**change, "words": words})
    begun[key] = result.model_copy(update={"segments": (altered,)}).encode()
    scene.lay(begun)
    (ended,) = scene.command()
    assert ended.verdict == "complete"
    assert Transcript.decode(scene.store.get(KEYS.transcript("json"))).status == "complete"
    (again,) = scene.command()
    assert (again.verdict, scene.runner.submitted) == ("complete", [])
    assert scene.reporter.reported("is already complete")


def test_chunks_in_different_languages_are_a_warning(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = unfinished(whole)
    begun[RESULT] = changed(whole[RESULT], language="pt")
    scene.lay(begun)
    (ended,) = scene.command()
    assert ended.warnings == ("chunks were transcribed in different languages: en, pt",)


OTHER_LANGUAGE = Language(language="pt", probability=0.9, speech_ms=5_000, span=0).encode()


@pytest.mark.parametrize("found", [b"garbage", None, OTHER_LANGUAGE], ids=["damaged", "gone", "another"])
def test_a_language_damaged_or_deleted_while_a_run_works_is_put_again(scene: Scene, found: bytes | None) -> None:
    record = fakes.record(language=None)

    def meanwhile(_: int) -> None:
        if len(list(scene.store.list(KEYS.results))) == 1 and not scene.runner.cancelled_runs:
            scene.runner.cancelled_runs.add("once")
            if found is None:
                scene.store.delete(KEYS.language)
            else:
                scene.store.put(KEYS.language, found)

    given: list[Language] = []

    def script(job: Any) -> JobBehaviour:
        if scene.runner.cancelled_runs:
            given.append(Language.decode(scene.store.get(KEYS.language)))
        return JobBehaviour(leaves="result", takes_ms=200 if job.span != 1 else 700)

    scene.chunks_ms = (10_000,) * 8
    (ended,) = scene.command(scene.run_request(record), script=script, meanwhile=meanwhile)
    assert ended.verdict == "complete"
    assert given
    assert {language.language for language in given} == {"en"}, "every job gets the decided language"
    (again,) = scene.command(scene.run_request(record))
    assert again.verdict == "complete"


def test_a_language_that_is_no_document_is_decided_again(scene: Scene, whole: dict[str, bytes]) -> None:
    record = fakes.record(language=None)
    scene.lay({})
    scene.store.put(KEYS.language, b"garbage")
    (ended,) = scene.command(scene.run_request(record))
    assert ended.verdict == "complete"
    assert Language.decode(scene.store.get(KEYS.language)).language == "en"


def test_results_of_tasks_that_were_cut_again_count(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = {key: data for key, data in unfinished(whole).items() if not key.startswith(KEYS.tasks)}
    scene.lay(begun)
    (ended,) = scene.command()
    assert ended.verdict == "complete"
    assert [job.span for job in scene.runner.submitted] == [None]


def test_a_deleted_record_and_other_threads_cost_nothing(scene: Scene, whole: dict[str, bytes]) -> None:
    begun = unfinished(whole)
    del begun[KEYS.record]
    scene.lay(begun)
    (ended,) = scene.command(scene.run_request(fakes.record(cpu_threads=7)))
    assert (ended.verdict, scene.runner.submitted) == ("complete", [])


def test_many_damaged_chunks_are_cut_again_although_an_intake_is_at_work(scene: Scene) -> None:
    damaged = fakes.fails_with(ExitCode.CHUNK_DAMAGED, "other samples")

    def script(job: Any) -> JobBehaviour:
        if job.span is None:
            return JobBehaviour(leaves="result", takes_ms=3_000)
        return damaged if job.attempt == 1 else DONE

    scene.chunks_ms = (10_000,) * 12
    (ended,) = scene.command(script=script)
    assert ended.verdict == "complete", ended


@pytest.mark.parametrize("formats", [("txt",), ("srt",), ("vtt", "tsv")], ids=str)
def test_without_a_json_beside_it_a_worse_text_does_not_replace_a_better_one(
    scene: Scene, formats: tuple[Any, ...]
) -> None:
    asked = scene.run_request(gaps=True)
    output = asked.request.outputs[0].model_copy(update={"formats": formats})
    asked = RunRequest(record=asked.record, request=asked.request.model_copy(update={"outputs": (output,)}))
    scene.command(asked)
    good = scene.outputs()
    scene.lay({})
    (ended,) = scene.command(asked, script=lambda job: CRASH if job.span == 1 else DONE)
    assert (ended.verdict, scene.outputs()) == ("partial", good)
    assert "has fewer gaps" in ended.warnings[-1]
    (ended,) = scene.command(asked)
    assert (ended.verdict, scene.outputs()) == ("complete", good)


def test_another_track_of_the_same_recording_is_another_transcript(scene: Scene) -> None:
    (first,) = scene.command(scene.run_request(gaps=True))
    other = fakes.record("e" * 16).model_copy(update={"audio_track": 1})
    asked = scene.run_request(gaps=True)
    asked = RunRequest(
        record=other,
        request=fakes.request(other, scene.out / fakes.RUN, formats=("txt", "json"), on_chunk_failure="gap"),
        written=scene.written,
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
    ended = scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)), meanwhile=meanwhile)
    assert ended[1].verdict == "complete"
    assert ended[0].verdict in ("complete", "failed")
    assert len(put) < 200


def test_an_obstacle_for_one_run_costs_only_that_run(tmp_path: Path) -> None:
    scene = Scene(FileStore(tmp_path / "store"), tmp_path)
    scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)))
    whole = scene.objects()
    root = tmp_path / "store"
    for key in (KEYS.work, KEYS.results, KEYS.home, KEYS.request, KEYS.plan):
        for kind in ("link", "file", "pipe", "folder"):
            shutil.rmtree(root)
            scene.lay(unfinished(whole))
            path = root / key.rstrip("/")
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
            ended = scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)))
            assert ended[1].verdict == "complete", (key, kind)
            assert ended[0].verdict in ("complete", "failed"), (key, kind)
            assert ended[0].verdict == "complete" or ended[0].environment, (key, kind, ended[0])


@pytest.mark.parametrize("plan", ["gone", "that claims a thousand hours"])
def test_no_more_of_a_transcript_is_read_than_its_recording_can_give(
    scene: Scene, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    if plan == "gone":
        scene.lay(whole, without=[KEYS.plan])
    else:
        hours = fakes.plan(1000 * 3_600_000)
        scene.lay(whole | {KEYS.plan: hours.encode()})
    asked: list[int] = []
    opened = type(scene.store).open

    def count(store: Any, key: str, *, max_bytes: int = 1 << 40) -> BinaryIO:
        if key == KEYS.transcript("json"):
            asked.append(max_bytes)
        return opened(store, key, max_bytes=max_bytes)

    monkeypatch.setattr(type(scene.store), "open", count)
    scene.command()
    longest = longest_transcript_bytes(longest_recording_ms(fakes.record().size_bytes))
    assert asked[0] == longest < 64 << 20
