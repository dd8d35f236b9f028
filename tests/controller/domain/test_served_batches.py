"""What the runs of a batch say of it in their labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.contract import TranscribeOptions
from controller.domain.batches import BatchEntry, BatchRecord, as_text
from controller.domain.captions import PROFILES
from controller.domain.plan import PlanOptions
from controller.domain.served_batches import entry_of, labels_of, served_id

BATCH = "0123456789abcdef"
RECORD = BatchRecord(
    id="0" * 16,
    created_ms=0,
    entries=20,
    pages=("ab" * 32,),
    output="out",
    formats=("srt", "txt"),
    captions=PROFILES["netflix"],
    name_template="{stem}.{language}.{ext}",
    speakers=("Ann", "Bo"),
    plan=PlanOptions(),
    options=TranscribeOptions(),
)


def entry(name: str = "a.mp3", output: str = "a", **changes: object) -> BatchEntry:
    return BatchEntry(number=6, name=as_text(name), output=as_text(output), size_bytes=1, **changes)  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=700))
def test_labels_say_what_was_put_into_them(name: str) -> None:
    if name in (".", "..") or any("\ud800" <= one < "\udc80" or "\udcff" < one <= "\udfff" for one in name):
        return
    labels = labels_of(BATCH, RECORD, entry(name, name, labels={"case": "7"}))
    assert all(len(value) <= 256 for value in labels.values())
    found = entry_of(labels)
    assert found
    assert (found.number, found.entries, found.labels) == (6, 20, {"case": "7"})
    assert (found.placement.source, found.placement.output) == (as_text(name), as_text(name))
    assert (found.placement.formats, found.placement.captions) == (RECORD.formats, RECORD.captions)
    assert (found.placement.name_template, found.placement.speakers) == (RECORD.name_template, RECORD.speakers)


@pytest.mark.parametrize("output", ["/etc/x", "../x", "a/../../x", "%2E%2E/x", "a/%2F/x", "", "a//b", "a%00"])
def test_no_client_of_the_tenant_chooses_a_place_outside_the_folder(output: str) -> None:
    labels = labels_of(BATCH, RECORD, entry()) | {
        "batch.files.1": f'{{"source":"x","output":"{output}","formats":["txt"]}}'
    }
    assert entry_of(labels | {"batch.files.2": ""}) is None


@pytest.mark.parametrize(
    "place", [None, "0/3", "4/3", "1/99999999", "x", "1/3/5"]
)  # fmt: skip
def test_labels_of_others_are_no_batch(place: str | None) -> None:
    labels = labels_of(BATCH, RECORD, entry())
    del labels["batch.entry"]
    assert entry_of(labels if place is None else labels | {"batch.entry": place}) is None
    assert entry_of({"batch": BATCH}) is None


@pytest.mark.parametrize(
    "labels,why",
    [
        ({"batch.entry": "1/1"}, "is one of the batch itself"),
        ({f"name{number}": "x" for number in range(31)}, "at most 32"),
        ({"no spaces": "x"}, "the label no spaces: the service takes"),
        ({"long": "x" * 257}, "the label long: the service takes"),
    ],
)
def test_labels_that_the_service_cannot_take_are_named(labels: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        labels_of(BATCH, RECORD, entry(labels=labels))


def test_the_id_is_that_of_recordings_and_options() -> None:
    again = RECORD.model_copy(update={"created_ms": 5, "folder": "/there"})
    assert served_id(RECORD, "{}") == served_id(again, "{}")
    assert len({served_id(RECORD, "{}"), served_id(RECORD, '{"a": 1}'), RECORD.hashed()}) == 3
