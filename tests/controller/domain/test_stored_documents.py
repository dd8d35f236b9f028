"""Every input gives a valid document or DocumentInvalid, for every kind of document."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_job.document import Document
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import ObjectMissing
from chunk_job.store.files import FileStore
from controller.domain import stored_documents
from controller.domain.documents import Evidence, LeaseRecord, Request, Round, RunRecord, Source, Status
from controller.domain.keys import RunKeys
from tests import fakes
from tests.controller.domain.test_schema import EXAMPLES

KEYS = RunKeys(fakes.RUN)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 1 << 63, -(1 << 64), 1 << 53]),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["\x00", "../..", "\x1b[31m", "q/../../x", "a" * 100_000, "\u202e", "file:///%00", "s3://", "nan"]),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def places(raw: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths in *raw* at which a value can be replaced."""
    found = [at] if at else []
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, inner in items:
        found += places(inner, (*at, key))
    return found


def put(raw: Any, at: tuple[Any, ...], value: Any) -> None:
    for key in at[:-1]:
        raw = raw[key]
    raw[at[-1]] = value


def decoded(kind: type[Document], data: bytes) -> None:
    """Decode; a decoded document is valid, and is encoded to the same bytes."""
    try:
        document = kind.decode(data)
    except DocumentInvalid as error:
        assert len(error.summary) < 1_000  # noqa: PT017 - both outcomes are allowed
        return
    again = document.encode()
    assert kind.decode(again).encode() == again


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=20)
@given(data=st.data())
def test_a_document_with_any_value_anywhere_is_valid_or_refused(name: str, data: st.DataObject) -> None:
    raw = json.loads(EXAMPLES[name].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(places(raw)))
        put(raw, at, data.draw(VALUES))
    decoded(type(EXAMPLES[name]), json.dumps(raw).encode())


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=30)
@given(data=st.binary(max_size=200), at=st.integers(0, 400), drop=st.integers(0, 40))
def test_a_document_with_changed_bytes_is_valid_or_refused(name: str, data: bytes, at: int, drop: int) -> None:
    whole = EXAMPLES[name].encode()
    decoded(type(EXAMPLES[name]), data)
    decoded(type(EXAMPLES[name]), whole[:at] + data + whole[at + drop :])


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 60_000, b'"' + b"\\u0000" * 9_000 + b'"'])
def test_a_document_nested_too_deep_is_refused(name: str, deep: bytes) -> None:
    with pytest.raises(DocumentInvalid):
        type(EXAMPLES[name]).decode(deep)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_document_above_the_size_limit_of_its_kind_is_refused_before_parsing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(EXAMPLES[name])
    whole = EXAMPLES[name].encode()
    monkeypatch.setattr(kind, "max_bytes", len(whole))
    assert kind.decode(whole) == EXAMPLES[name]
    with pytest.raises(DocumentInvalid, match=f"{len(whole) + 1} bytes are more than {len(whole)}"):
        kind.decode(b"{" * (len(whole) + 1))


@pytest.mark.parametrize(
    "key,document",
    [
        (KEYS.record, fakes.record("e" * 16)),
        (KEYS.request, fakes.request(fakes.record("e" * 16))),
        (KEYS.plan, fakes.plan(1000, run="e" * 16)),
        (KEYS.task(0), fakes.task(fakes.record("e" * 16), 0)),
        (KEYS.lease, LeaseRecord(run="e" * 16, owner="0" * 16, lock_domain="x", renew_count=1)),
        (
            KEYS.failure(0, 1, "0000cafe"),
            Evidence(
                run="e" * 16, round="0000cafe", span=0, attempt=1, failure="UNKNOWN", summary="", advice="", details=(),
                ended_ms=0,
            ),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Document) else "",
)  # fmt: skip
def test_a_document_of_another_run_is_refused(tmp_path: Path, key: str, document: Document) -> None:
    store = FileStore(tmp_path)
    store.put(key, document.encode())
    with pytest.raises(DocumentInvalid, match="is a document of run eeeeeeeeeeeeeeee"):
        stored_documents.read(store, type(document), key)
    assert stored_documents.valid(store, type(document), key) is None


def test_a_missing_and_an_invalid_document_are_distinguished(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    assert stored_documents.find(store, Round, KEYS.round) is stored_documents.valid(store, Round, KEYS.round) is None
    with pytest.raises(ObjectMissing):
        stored_documents.read(store, Round, KEYS.round)
    store.put(KEYS.round, b"{")
    with pytest.raises(DocumentInvalid):
        stored_documents.find(store, Round, KEYS.round)


def test_no_more_of_an_object_is_read_than_its_kind_can_hold(tmp_path: Path) -> None:
    asked = []

    class Counting(FileStore):
        def get(self, key: str, *, max_bytes: int = 1 << 30) -> bytes:
            asked.append(max_bytes)
            return super().get(key, max_bytes=max_bytes)

    store = Counting(tmp_path)
    store.put(KEYS.status, b" " * (Status.max_bytes + 1))
    with pytest.raises(DocumentInvalid, match="is larger than"):
        stored_documents.read(store, Status, KEYS.status)
    assert asked == [Status.max_bytes] == [64 << 10]


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:relative",
        "http://host/x",
        "file:///a%00b",
        "s3://bucket",
        "file:///a\x00b",
        "",
        "s3:///key",
    ],
)
def test_a_uri_is_an_absolute_file_or_an_object(uri: str) -> None:
    raw = json.loads(fakes.request(fakes.record()).source.encode())
    with pytest.raises(DocumentInvalid, match="uri"):
        Source.decode(json.dumps(raw | {"uri": uri}).encode())


def test_a_request_names_the_record_of_its_own_run() -> None:
    raw = json.loads(fakes.request(fakes.record()).encode()) | {"record_key": RunKeys("e" * 16).record}
    with pytest.raises(DocumentInvalid, match="record_key is of another run"):
        Request.decode(json.dumps(raw).encode())


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a\x00b", "x" * 2_000])
def test_a_name_is_one_part_of_a_path(name: str) -> None:
    raw = json.loads(fakes.record().encode()) | {"name": name}
    with pytest.raises(DocumentInvalid, match="name"):
        RunRecord.decode(json.dumps(raw).encode())
