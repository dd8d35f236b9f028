"""An object that another program wrote, or a person changed, is kept."""

from pathlib import Path

import pytest

from chunk_job.store.base import Store
from controller.domain.output import Format, Output
from controller.runs.outputs import write_protected
from controller.runs.protection import OF_ANOTHER, OutputRules
from controller.runs.transcript_files import TranscriptWriter
from controller.runs.written_files import WrittenFiles
from controller.transcript.merge import merge
from tests import fakes


def write(
    store: Store, tmp_path: Path, text: str, *, overwrite: bool = False, identity: str = "ab" * 32
) -> tuple[dict[Format, str], str]:
    """Write a transcript with *text* to an object as an output."""
    plan, record = fakes.plan(10_000), fakes.record().model_copy(update={"identity": identity})
    results = [fakes.result(fakes.task(record, 0), fakes.segment((f" {text}", 0, 500)))]
    merged = merge(plan, record, results)
    with TranscriptWriter(merged.gaps, merged.duration_ms) as writer:
        writer.add(merged.segments)
        files = writer.finish(merged.summary())
    output = Output(base=f"{store.url}/out/talk", formats=("txt",))
    rules = OutputRules(overwrite=overwrite, written=WrittenFiles(tmp_path / "state"))
    return write_protected(output, files, rules, formats=output.formats)


NOTHING: tuple[dict[Format, str], str] = ({}, "")


def test_a_changed_object_is_kept(store: Store, tmp_path: Path) -> None:
    assert write(store, tmp_path, "red") == NOTHING
    assert write(store, tmp_path, "blue") == NOTHING
    assert store.get("out/talk.txt") == b"blue\n"
    store.put("out/talk.txt", b"CORRECTED")
    kept, _ = write(store, tmp_path, "green")
    assert kept["txt"].startswith(f"{store.url}/out/talk.txt is kept: it was changed")
    assert store.get("out/talk.txt") == b"CORRECTED"
    assert write(store, tmp_path, "green", overwrite=True) == NOTHING
    assert store.get("out/talk.txt") == b"green\n"


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_transcript_of_another_recording_is_replaced_with_a_warning(
    store: Store, tmp_path: Path, *, overwrite: bool
) -> None:
    assert write(store, tmp_path, "red", overwrite=overwrite) == NOTHING
    warning = f"{store.url}/out/talk.txt: {OF_ANOTHER}"
    assert write(store, tmp_path, "blue", overwrite=overwrite, identity="cd" * 32) == ({}, warning)
    assert store.get("out/talk.txt") == b"blue\n"
