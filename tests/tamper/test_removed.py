"""Objects of a run removed at random: it finishes correctly or reports what is missing, never silently less."""

import random
import shutil
from collections.abc import Iterable, Iterator

import pytest

from chunk_job.errors import ExitCode
from controller.domain.documents import Outcome
from controller.domain.jobs import Job
from controller.errors import Interrupted
from controller.transcript.model import Transcript
from tests import fakes
from tests.fakes import CRASH, DONE, JobBehaviour
from tests.tamper.scene import KEYS, Scene

pytestmark = pytest.mark.hostile

NO_MEDIA = fakes.fails_with(ExitCode.BAD_INPUT, "talk.mp4: was deleted", "restore it")


def subsets(scene: Scene, keys: Iterable[str]) -> Iterator[frozenset[str]]:
    """Sets of objects to remove: each alone (on a folder), and random sets, from few to nearly all."""
    ordered = sorted(keys)
    chance = random.Random(len(ordered))
    if not scene.store.remote:
        yield from (frozenset({key}) for key in ordered)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9) * (1 if scene.store.remote else 8):
        yield frozenset(key for key in ordered if chance.random() < share)


def without_media(job: Job) -> JobBehaviour:
    """Delete the recording: nothing can be cut any more."""
    return NO_MEDIA if job.span is None else DONE


def finished(scene: Scene) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A complete run: its objects and its outputs."""
    (ended,) = scene.command()
    assert ended.verdict == "complete"
    return scene.objects(), scene.outputs()


def half_done(scene: Scene) -> dict[str, bytes]:
    """A run that was interrupted with some chunks done."""

    def meanwhile(_: int) -> None:
        if len(list(scene.store.list(KEYS.results))) == 2:
            scene.clock.asked_to_stop = 15

    with pytest.raises(Interrupted):
        scene.command(
            script=lambda job: JobBehaviour(leaves="result", takes_ms=200 + 900 * (job.span or 0)), meanwhile=meanwhile
        )
    scene.clock.asked_to_stop = None
    return scene.objects()


def test_a_complete_run_without_some_of_its_objects_comes_to_the_same_bytes(scene: Scene) -> None:
    whole, outputs = finished(scene)
    for removed in subsets(scene, whole):
        scene.lay(whole, without=removed)
        shutil.rmtree(scene.out)
        (ended,) = scene.command()
        assert (ended.verdict, scene.outputs()) == ("complete", outputs), removed
        assert Outcome.decode(scene.store.get(KEYS.marker("complete"))).verdict == "complete"


def test_a_run_half_done_without_some_of_its_objects_comes_to_the_same_bytes(scene: Scene) -> None:
    _, outputs = finished(scene)
    scene.lay({})
    begun = half_done(scene)
    for removed in subsets(scene, begun):
        scene.lay(begun, without=removed)
        shutil.rmtree(scene.out)
        (ended,) = scene.command()
        assert (ended.verdict, scene.outputs()) == ("complete", outputs), removed


def test_a_chunk_that_cannot_be_cut_again_is_reported_and_no_output_is_touched(scene: Scene) -> None:
    whole, outputs = finished(scene)
    verdicts = set()
    for removed in subsets(scene, whole):
        scene.lay(whole, without=removed)
        (ended,) = scene.command(scene.run_request(gaps=True), script=without_media)
        assert scene.outputs() == outputs, removed
        assert (ended.verdict, ended.summary) in [("failed", "talk.mp4: was deleted"), ("complete", "transcribed")], (
            removed
        )
        verdicts.add(ended.verdict)
    assert verdicts == {"failed", "complete"}


def test_deleting_all_work_objects_gives_no_empty_transcript(scene: Scene) -> None:
    whole, outputs = finished(scene)
    marks = [KEYS.marker("complete"), *map(KEYS.transcript, ("txt", "srt", "vtt", "tsv", "json"))]
    scene.lay(whole, without=[*marks, *(key for key in whole if key.startswith(KEYS.work))])
    assert scene.store.stat(KEYS.plan)
    (ended,) = scene.command()
    assert (ended.verdict, scene.outputs()) == ("complete", outputs)
    assert scene.runner.submitted, "it was transcribed again"


@pytest.mark.parametrize("left", [["store"], ["output"], ["store", "output"]], ids=" and ".join)
def test_a_worse_transcript_never_replaces_a_better_one_of_the_same_run(scene: Scene, left: list[str]) -> None:
    asked = scene.run_request(gaps=True)
    (first,) = scene.command(asked, script=lambda job: CRASH if job.span == 1 else DONE)
    assert first.verdict == "partial"
    better, outputs = scene.objects(), scene.outputs()
    assert Transcript.decode(outputs[f"{fakes.RUN}.json"]).gaps_ms == 10_000
    lost = [key for key in better if key.startswith(KEYS.results)]
    if "store" not in left:
        lost += [KEYS.final, *map(KEYS.transcript, ("txt", "srt", "vtt", "tsv", "json"))]
    scene.lay(better, without=lost)
    if "output" not in left:
        shutil.rmtree(scene.out)
    (second,) = scene.command(asked, script=lambda job: CRASH if job.span in (1, 2) else DONE)
    assert second.verdict == "partial"
    if "store" in left or "output" in left:
        assert scene.outputs() == outputs
    if "store" in left:
        assert scene.store.get(KEYS.transcript("json")) == better[KEYS.transcript("json")]
        assert second.summary == "1 chunk without a result: marked as gaps"
    else:
        assert "has fewer gaps" in second.warnings[-1]


def test_a_better_transcript_replaces_a_worse_one(scene: Scene) -> None:
    asked = scene.run_request(gaps=True)
    scene.command(asked, script=lambda job: CRASH if job.span == 1 else DONE)
    (ended,) = scene.command(asked)
    assert ended.verdict == "complete"
    assert Transcript.decode(scene.outputs()[f"{fakes.RUN}.json"]).gaps == ()


def test_the_language_of_finished_chunks_is_kept_when_its_object_is_deleted(scene: Scene) -> None:
    record = fakes.record(language=None)

    def meanwhile(_: int) -> None:
        if len(list(scene.store.list(KEYS.results))) == 1:
            scene.store.delete(KEYS.language)
            scene.clock.asked_to_stop = 15

    with pytest.raises(Interrupted):
        scene.command(scene.run_request(record), meanwhile=meanwhile)
    scene.clock.asked_to_stop = None
    assert scene.store.stat(KEYS.language) is None
    (ended,) = scene.command(scene.run_request(record))
    assert ended.verdict == "complete"
    assert Transcript.decode(scene.store.get(KEYS.transcript("json"))).language == "en"
    assert b'"language":"en"' in scene.store.get(KEYS.language)


def test_everything_removed_while_a_run_works_is_made_again(scene: Scene) -> None:
    _, outputs = finished(scene)
    shutil.rmtree(scene.out)
    scene.lay({})
    removed: list[int] = []

    def meanwhile(_: int) -> None:
        if len(list(scene.store.list(KEYS.results))) == 1 and not removed:
            removed.append(1)
            scene.lay({})

    def script(job: Job) -> JobBehaviour:
        if job.span is not None and scene.store.stat(job.task_key) is None:
            return fakes.fails_with(ExitCode.CHUNK_DAMAGED, "its task is gone")
        return JobBehaviour(leaves="result", takes_ms=200 + 900 * (job.span or 0))

    (ended,) = scene.command(script=script, meanwhile=meanwhile)
    assert (ended.verdict, removed) == ("complete", [1])
    assert scene.outputs() == outputs
