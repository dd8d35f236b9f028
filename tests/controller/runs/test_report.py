"""The report: what jobs took, what was useful of it, and what happened to the windows."""

import json
from pathlib import Path
from typing import Any

import pytest

from chunk_job.contract import ChunkResult, Engine, Usage
from chunk_job.segment import DecodedWindow, Try
from chunk_job.store.files import FileStore
from controller.domain.documents import JobTime, Report, WindowCounts
from controller.domain.keys import RunKeys
from controller.runs.report import report, summary
from controller.runs.result_index import ResultGone, ResultIndex
from tests import fakes

KEYS = RunKeys(fakes.RUN)
RECORD = fakes.record()
NEW = Usage(
    startup_ms=500, fetch_ms=100, load_ms=1500, kernels_ms=200, transcribe_ms=3000, cpu_threads=2, speech_ms=1400,
    features_ms=400, decode_ms=2000, align_ms=500, commit_ms=20, total_ms=5000,
)  # fmt: skip
OLD = Usage(fetch_ms=10, load_ms=200, transcribe_ms=1000, cpu_threads=1)


def index_of(folder: Path, *results: ChunkResult) -> ResultIndex:
    """The index of a store with these results, one for each span."""
    store = FileStore(folder / "store")
    for result in results:
        store.put(KEYS.audio(result.span), b"flac")
        store.put(KEYS.task(result.span), fakes.task(RECORD, result.span).encode())
        store.put(f"{KEYS.results_of(result.span)}a1-u.json", result.encode())
    index = ResultIndex(store, RECORD, keep_audio=True)
    index.read()
    assert index.answered == {result.span for result in results}
    return index


def done(span: int, usage: Usage = NEW, **changes: Any) -> ChunkResult:
    return fakes.result(fakes.task(RECORD, span), fakes.segment((" said", 0, 100)), usage=usage, **changes)


def engine(**changes: Any) -> Engine:
    return fakes.ENGINE.model_copy(update=changes)


def made(index: ResultIndex) -> Report:
    found = report(index, "complete", (), run=fakes.RUN, elapsed_s=1)
    assert Report.decode(found.encode()) == found
    return found


def test_times_are_summed_for_the_run_and_kept_for_each_span(tmp_path: Path) -> None:
    found = made(index_of(tmp_path, done(0), done(1)))
    once = JobTime(
        startup_s=0.5, fetch_s=0.1, load_s=1.5, kernels_s=0.2, transcribe_s=3.0, detection_s=1.4, features_s=0.4,
        decode_s=2.0, align_s=0.5, commit_s=0.02, total_s=5.0,
    )  # fmt: skip
    for span in found.spans:
        assert JobTime(**{name: getattr(span, name) for name in JobTime.model_fields}) == once
    twice = {name: pytest.approx(2 * value) for name, value in dict(once).items()}
    assert dict(found.time) == twice
    assert (found.compute_s, found.realtime_factor, found.useful_share) == (10.0, 2.0, 0.5)


def test_the_total_is_measured_and_not_the_sum_of_parts_that_overlap(tmp_path: Path) -> None:
    overlapping = NEW.model_copy(update={"total_ms": 3100})
    assert sum((overlapping.load_ms, overlapping.fetch_ms, overlapping.transcribe_ms)) > 3100
    found = made(index_of(tmp_path, done(0, overlapping)))
    assert (found.compute_s, found.useful_share) == (3.1, round(2.5 / 3.1, 3))


def test_results_of_earlier_versions_count_with_the_sum_of_what_they_measured(tmp_path: Path) -> None:
    old = made(index_of(tmp_path / "old", done(0, OLD)))
    assert (old.compute_s, old.useful_share, old.time.total_s) == (1.21, None, 0.0)
    assert list(summary(old)) == []
    both = made(index_of(tmp_path / "both", done(0, OLD), done(1, NEW)))
    assert (both.compute_s, both.useful_share) == (6.21, 0.5)


def test_a_share_is_never_more_than_all(tmp_path: Path) -> None:
    assert made(index_of(tmp_path, done(0, NEW.model_copy(update={"decode_ms": 60_000})))).useful_share == 1.0


def test_windows_are_counted_by_what_happened_to_them(tmp_path: Path) -> None:
    tried = Try(temperature=0, avg_logprob=-0.5, compression_ratio=1, no_speech_prob=0)

    def window(outcome: Any, tries: int = 1, *, loop_removed: bool = False) -> DecodedWindow:
        return DecodedWindow(start_ms=0, end_ms=100, outcome=outcome, tries=(tried,) * tries, loop_removed=loop_removed)

    first = (window("text"), window("text", 2), window("doubtful", 6, loop_removed=True), window("no_speech"))
    index = index_of(
        tmp_path,
        done(0, windows=first, engine=engine(batch_size=24)),
        done(1, windows=(window("split"), window("text"), window("empty")), engine=engine(batch_size=16)),
    )
    found = made(index)
    assert found.windows == WindowCounts(decoded=6, decoded_again=3, doubtful=1, without_speech=1, loops_removed=1)
    assert found.spans[1].windows == WindowCounts(decoded=2, decoded_again=1)
    assert (found.batch_sizes, [span.batch_size for span in found.spans]) == ((16, 24), [24, 16])


@pytest.mark.parametrize(
    "stored,used,advice",
    [
        ("float16", "int8", "the model is stored as float16 and used as int8: each load converts it (1.5 s of loading"),
        (
            "float16",
            "int8_float16",
            "ct2-transformers-converter --model MODEL --output_dir FOLDER --quantization int8_float16",
        ),
        ("float32", "float16", "the model is stored as float32 and used as float16"),
        ("int8_float16", "int8", ""),
        ("float16", "float16", ""),
        ("", "int8", ""),
        ("float16", "default", ""),
    ],
)
def test_a_model_that_each_load_converts_is_reported(tmp_path: Path, stored: str, used: str, advice: str) -> None:
    found = made(index_of(tmp_path, done(0, engine=engine(stored_type=stored, compute_type=used))))
    assert (found.stored_types, found.compute_types) == ((stored,) if stored else (), (used,))
    assert len(found.advice) == bool(advice)
    assert advice in " ".join(found.advice)
    assert list(summary(found))[1:] == list(found.advice)


def test_the_summary_names_what_took_longest_beside_decoding(tmp_path: Path) -> None:
    (line,) = summary(made(index_of(tmp_path, done(0))))
    assert line == (
        "time of its jobs: 5.0 s, of which 50% useful (decoding 2.0 s, word times 0.5 s),"
        " loading the model 1.5 s, detecting speech 1.4 s"
    )


def test_a_report_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    raw = made(index_of(tmp_path, done(0))).model_dump(mode="json", by_alias=True)
    added = ("time", "useful_share", "windows", "batch_sizes", "stored_types", "compute_types", "advice")
    for name in added:
        del raw[name]
    kept = ("span", "attempts", "failures", "audio_s", "speech_s", "fetch_s", "load_s", "transcribe_s")
    raw["spans"] = [{name: span[name] for name in kept} for span in raw["spans"]]
    old = Report.decode(json.dumps(raw).encode())
    assert (old.spans[0].fetch_s, old.spans[0].total_s, old.useful_share) == (0.1, 0.0, None)


def test_the_share_is_known_while_results_come_and_follows_their_loss(tmp_path: Path) -> None:
    index = index_of(tmp_path, done(0), done(1, NEW.model_copy(update={"decode_ms": 500, "align_ms": 0})))
    assert index.useful_share == 0.3
    store = FileStore(tmp_path / "store")
    store.delete(f"{KEYS.results_of(1)}a1-u.json")
    with pytest.raises(ResultGone):
        list(index.winning())
    assert index.useful_share == 0.5
    store.delete(KEYS.task(0))
    index.read_tasks()
    assert index.useful_share is None


def test_a_lower_attempt_replaces_the_figures_of_a_higher_one(tmp_path: Path) -> None:
    index = index_of(tmp_path, done(0))
    store = FileStore(tmp_path / "store")
    key = f"{KEYS.results_of(0)}a1-u.json"
    store.delete(key)
    store.put(f"{KEYS.results_of(0)}a2-u.json", done(0, attempt=2).encode())
    with pytest.raises(ResultGone):
        list(index.winning())
    index.read_results()
    assert index.answered_by == {0: 2}
    store.put(f"{KEYS.results_of(0)}a1-v.json", done(0, NEW.model_copy(update={"decode_ms": 0}), uid="v").encode())
    index.read_results()
    assert (index.answered_by, index.useful_share) == ({0: 1}, 0.1)
