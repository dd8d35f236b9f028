"""An object that another program wrote, or a person changed, is kept."""

from pathlib import Path

from chunk_job.store.base import Store
from controller.domain.output import Format, Output
from controller.runs.outputs import write_protected
from controller.runs.protection import OutputRules
from controller.runs.written_files import WrittenFiles


def write(store: Store, tmp_path: Path, text: str, *, overwrite: bool = False) -> dict[Format, str]:
    """Write *text* to an object as an output."""
    path = tmp_path / "content"
    path.write_text(text)
    output = Output(base=f"{store.url}/out/talk", formats=("srt",))
    rules = OutputRules(overwrite=overwrite, written=WrittenFiles(tmp_path / "state"))
    return write_protected(output.base, {"srt": path}, {}, rules)


def test_a_changed_object_is_kept(store: Store, tmp_path: Path) -> None:
    assert write(store, tmp_path, "red") == {}
    assert write(store, tmp_path, "blue") == {}
    assert store.get("out/talk.srt") == b"blue"
    store.put("out/talk.srt", b"CORRECTED")
    kept = write(store, tmp_path, "green")
    assert kept["srt"].startswith(f"{store.url}/out/talk.srt is kept: it was changed")
    assert store.get("out/talk.srt") == b"CORRECTED"
    assert write(store, tmp_path, "green", overwrite=True) == {}
    assert store.get("out/talk.srt") == b"green"
