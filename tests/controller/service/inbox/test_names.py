"""Names of an inbox: their encoding keeps the order, and both listings are joined as they come."""

from hypothesis import given
from hypothesis import strategies as st

from chunk_job.store.base import StoredObject
from controller.service.inbox import names
from controller.service.inbox.joining import joined
from controller.service.inbox.names import NOBODY, Record, StateKeys

KEYS = StateKeys("news")
# Also names that are not valid UTF-8, as Python has them.
paths = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    min_size=1,
    max_size=250,
)


def record(path: str, state: names.State = "done") -> Record:
    return Record(path=path, content="a" * 16, modified_s=7, options="b" * 16, state=state, request=NOBODY)


@given(paths, paths)
def test_records_are_in_the_order_of_the_objects(one: str, other: str) -> None:
    assert (KEYS.record(record(one)) < KEYS.record(record(other))) == (one < other)
    assert KEYS.before(one) < KEYS.record(record(one)) < KEYS.after(one)
    if one < other:
        assert KEYS.after(one) < KEYS.record(record(other))
    if other.startswith(one):
        assert KEYS.before(one) < KEYS.record(record(other))


@given(paths)
def test_a_key_says_everything(path: str) -> None:
    key = KEYS.record(record(path, "failed"))
    assert names.parse_record(key) == record(path, "failed")
    assert key.isascii()
    assert all(0 < len(part) <= 255 and not part.startswith(".") for part in key.split("/"))


def test_the_longest_key_fits_into_a_bucket() -> None:
    key = StateKeys("p" * 40).record(record("é" * (names.LONGEST_PATH // 2), "submitted"))
    assert len(key) + len("prefix/of/the/store/") <= 1024


@given(st.lists(paths, max_size=30), st.lists(paths, max_size=30))
def test_every_path_of_both_listings_is_seen_once_and_in_order(objects: list[str], known: list[str]) -> None:
    entries = [StoredObject(key=key, size_bytes=1, modified_s=1) for key in sorted(set(objects))]
    keys = sorted(KEYS.record(record(path, state)) for path in set(known) for state in ("done", "failed"))
    records = [found for key in keys if (found := names.parse_record(key))]
    seen = list(joined(entries, records))
    assert [each.path for each in seen] == sorted({*objects, *known})
    for each in seen:
        assert (each.entry is not None) == (each.path in objects)
        assert len(each.records) == 2 * (each.path in known)


def test_names_of_files_that_are_no_recordings() -> None:
    left = (
        ".hidden",
        "a/.git/x.wav",
        "~$talk.docx",
        "talk.mp3.part",
        "x.TMP",
        "y.crdownload",
        "talk.mp3~",
        "Thumbs.db",
    )
    assert all(map(names.is_left_alone, left))
    assert not any(map(names.is_left_alone, ("talk.mp3", "a b/ç.wav", "partly.wav", "no suffix", "tmp/talk.mp3")))


def test_the_sidecars_of_a_recording_and_the_folders_above_it() -> None:
    assert list(names.sidecars_of("a/talk.mp3")) == ["a/talk.mp3.stenofleet.yaml", "a/talk.stenofleet.yaml"]
    assert list(names.sidecars_of("talk")) == ["talk.stenofleet.yaml"]
    forms = ("é/caf\N{LATIN SMALL LETTER E WITH ACUTE}", "é/cafe\N{COMBINING ACUTE ACCENT}")
    assert list(names.sidecars_of(forms[1])) == [f"{form}.stenofleet.yaml" for form in reversed(forms)]
    assert list(names.folders_of("a/b/talk.mp3")) == ["a/b/", "a/", ""]
    assert names.is_folder_sidecar("stenofleet.yaml")
    assert not names.is_sidecar("a/my-stenofleet.yaml")
