"""Every key of a run is built and parsed in one module, and follows the layout."""

import inspect
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain import keys
from controller.domain.keys import MARKERS, ResultKey, RunKeys, TaskKey

RUN = "0123456789abcdef"
OURS = RunKeys(RUN)
spans = st.integers(min_value=0, max_value=9_999_999)
attempts = st.integers(min_value=1, max_value=999_999)
uids = st.from_regex(r"[0-9A-Za-z-]+", fullmatch=True)

READERS: dict[str, Callable[[str], object]] = {
    "task": keys.parse_task,
    "result": keys.parse_result,
    "note": keys.parse_language_candidate,
    "failure": lambda key: keys.is_failure(key) or None,
}
LAYOUT = {
    OURS.record: "runs/0123456789abcdef/run.json",
    OURS.request: "runs/0123456789abcdef/request.json",
    OURS.round: "runs/0123456789abcdef/round.json",
    OURS.plan: "runs/0123456789abcdef/plan.json",
    OURS.status: "runs/0123456789abcdef/status.json",
    OURS.cancel: "runs/0123456789abcdef/cancel",
    OURS.final: "runs/0123456789abcdef/final.json",
    OURS.attempts: "runs/0123456789abcdef/attempts.json",
    OURS.report: "runs/0123456789abcdef/report.json",
    OURS.report_page: "runs/0123456789abcdef/report.html",
    OURS.transcript("srt"): "runs/0123456789abcdef/transcript.srt",
    OURS.marker("complete"): "runs/0123456789abcdef/_SUCCESS",
    OURS.marker("partial"): "runs/0123456789abcdef/_PARTIAL",
    OURS.marker("failed"): "runs/0123456789abcdef/_FAILED",
    OURS.task(42): "work/0123456789abcdef/tasks/00042.json",
    OURS.task(42, 1): "work/0123456789abcdef/tasks/00042-r1.json",
    OURS.audio(42): "work/0123456789abcdef/audio/00042.flac",
    OURS.language: "work/0123456789abcdef/language.json",
    OURS.language_candidate(42): "work/0123456789abcdef/language/00042.json",
    OURS.results_of(42): "work/0123456789abcdef/results/00042/",
    OURS.failure(42, 2, "0000cafe"): "work/0123456789abcdef/failures/00042/a2-0000cafe.json",
    OURS.failure(None, 1, "0000cafe"): "work/0123456789abcdef/failures/intake/a1-0000cafe.json",
}
FOREIGN = [
    "",
    "/",
    "tasks/",
    "work/0123456789abcdef/tasks/42.json",
    "work/0123456789abcdef/tasks/00042.json.tmp",
    "work/0123456789abcdef/tasks/00042-r.json",
    "work/0123456789abcdef/results/00042/a1-.json",
    "work/0123456789abcdef/results/00042/a-u.json",
    "work/0123456789abcdef/results/00042/a1-u.json/more",
    "work/0123456789abcdef/results/a1-u.json",
    "work/0123456789abcdef/language/42.json",
    "work/0123456789abcdef/language.json",
    "work/0123456789abcdef/failures/00042/a1.json",
    "work/0123456789abcdef/failures/other/a1-0000cafe.json",
    "work/0123456789abcdef/audio/00042.flac",
    "runs/0123456789abcdef/run.json",
    "work/0123456789abcdef/tasks/00042.json\n",
    "work/0123456789abcdef/tasks/000042.json",
    "work/0123456789abcdef/tasks/0004\u0662.json",
    f"work/0123456789abcdef/tasks/{'9' * 5000}.json",
    f"work/0123456789abcdef/results/00042/a{'9' * 5000}-u.json",
    "work/0123456789abcdef/results/00042/a01-u.json",
    "work/0123456789abcdef/results/000042/a1-u.json",
    "work/q/../../0123456789abcdef/tasks/00042.json",
    "elsewhere/tasks/00042.json",
    "work/0123456789abcdef/failures/00042/a1-../x.json",
]


def readers(key: str) -> list[str]:
    return [name for name, read in READERS.items() if read(key) is not None]


@pytest.mark.parametrize("key,where", LAYOUT.items(), ids=LAYOUT.values())
def test_a_key_follows_the_layout(key: str, where: str) -> None:
    assert key == where


def test_every_key_of_a_run_is_below_its_home_or_its_work_prefix() -> None:
    properties = [name for name, value in inspect.getmembers(RunKeys) if isinstance(value, property)]
    written = [getattr(OURS, name) for name in properties] + list(LAYOUT)
    assert len(properties) >= 14
    assert all(key.startswith((OURS.home, OURS.work)) for key in written)
    assert len({key for key in LAYOUT if not key.endswith("/")}) == len(LAYOUT) - 1


def test_kept_objects_and_work_objects_have_separate_prefixes() -> None:
    kept = [OURS.record, OURS.request, OURS.round, OURS.plan, OURS.status, OURS.cancel, OURS.final, OURS.report]
    passing = [OURS.tasks, OURS.audio(0), OURS.language, OURS.language_candidates, OURS.results, OURS.failures]
    assert all(key.startswith(OURS.home) for key in [*kept, *map(OURS.marker, MARKERS), OURS.transcript("txt")])
    assert all(key.startswith(OURS.work) for key in passing)


@given(span=spans, level=st.integers(min_value=0, max_value=9))
def test_a_task_key_is_parsed_as_it_was_built(span: int, level: int) -> None:
    key = OURS.task(span, level)
    assert keys.parse_task(key) == TaskKey(span=span, level=level)
    assert readers(key) == ["task"]


@given(span=spans, attempt=attempts, uid=uids)
def test_a_result_key_is_parsed_as_it_was_built(span: int, attempt: int, uid: str) -> None:
    key = f"{OURS.results_of(span)}a{attempt}-{uid}.json"
    assert keys.parse_result(key) == ResultKey(attempt=attempt, key=key, span=span, uid=uid)
    assert readers(key) == ["result"]


@given(span=spans)
def test_a_language_candidate_key_is_parsed_as_it_was_built(span: int) -> None:
    key = OURS.language_candidate(span)
    assert keys.parse_language_candidate(key) == span
    assert readers(key) == ["note"]


@given(span=st.none() | spans, attempt=attempts, round_id=st.from_regex(r"[0-9a-f]{8}", fullmatch=True))
def test_an_evidence_key_is_parsed_as_it_was_built(span: int | None, attempt: int, round_id: str) -> None:
    key = OURS.failure(span, attempt, round_id)
    assert readers(key) == ["failure"]


@pytest.mark.parametrize("span,padded", [(0, "00000"), (99_999, "99999"), (100_000, "100000"), (1_234_567, "1234567")])
def test_numbers_outgrow_their_padding_without_losing_a_digit(span: int, padded: str) -> None:
    assert OURS.task(span).endswith(f"/{padded}.json")
    assert keys.parse_task(OURS.task(span)) == TaskKey(span=span, level=0)
    assert keys.parse_language_candidate(OURS.language_candidate(span)) == span


@pytest.mark.parametrize("key", FOREIGN)
def test_a_foreign_key_is_not_parsed(key: str) -> None:
    assert readers(key) == []


def test_results_sort_as_winners_are_chosen() -> None:
    found = [
        ResultKey(2, "a", 0, "u"),
        ResultKey(10, "a", 0, "u"),
        ResultKey(1, "b", 0, "u"),
        ResultKey(1, "a", 0, "u"),
    ]
    assert sorted(found) == [found[3], found[2], found[0], found[1]]


@pytest.mark.parametrize(
    "key,run",
    [
        ("runs/0123456789abcdef/run.json", RUN),
        ("runs/0123456789abcdef", RUN),
        ("work/0123456789abcdef/tasks/00000.json", RUN),
        ("elsewhere/0123456789abcdef/run.json", None),
        ("runs/0123456789ABCDEF/run.json", None),
        ("runs/0123456789abcde/run.json", None),
        ("runs/0123456789abcdef0/run.json", None),
        ("runs/", None),
        ("0123456789abcdef", None),
    ],
)
def test_the_run_of_a_key(key: str, run: str | None) -> None:
    assert keys.run_of(key) == run


@pytest.mark.parametrize("text,is_one", [(RUN, True), (RUN[:-1], False), (f"{RUN}\n", False), (RUN.upper(), False)])
def test_the_form_of_a_run_id(text: str, is_one: bool) -> None:
    assert keys.is_run(text) is is_one


@pytest.mark.parametrize("run", ["", "q/../../scratch/victim", RUN.upper(), f"{RUN}/", f"{RUN}\n", RUN[:-1], "a" * 17])
def test_only_a_run_id_becomes_a_part_of_a_key(run: str) -> None:
    with pytest.raises(ValueError, match="not a run id"):
        RunKeys(run)
