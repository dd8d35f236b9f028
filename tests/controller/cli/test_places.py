"""A path that the system cannot look up is refused with the option that names it, before any work."""

import pytest

from controller import cli
from controller.cli.option_values import Place

UNKNOWN = "x" * 300
"""No name of a file is that long. A folder that this user may not enter is refused by the system in the same way."""


@pytest.mark.parametrize(
    "arguments,named",
    [
        (("evaluate", UNKNOWN, "a.txt"), "'TRANSCRIPTS'"),
        (("evaluate", "a.txt", f"{UNKNOWN}/a.txt"), "'REFERENCES'"),
        (("evaluate", "a.txt", "b.txt", "-o", UNKNOWN), "'-o'"),
        (("transcribe", "a.wav", "--junit", UNKNOWN), "'--junit'"),
        (("transcribe", "a.wav", "--max-wer", "1", "--reference", UNKNOWN), "'--reference'"),
        (("transcribe", "a.wav", "-o", f"{UNKNOWN}/out"), "'-o'"),
        (("transcribe", "a.wav", "--model", UNKNOWN), "--model"),
        (("plan", "a.wav", "--model", UNKNOWN), "--model"),
        (("watch-folder", UNKNOWN, "out"), "'IN'"),
        (("serve", "--inbox", UNKNOWN, "--outbox", "out"), "'--inbox'"),
        (("serve", "--inbox", ".", "--outbox", UNKNOWN), "'--outbox'"),
        (("model", "verify", UNKNOWN), "'MODEL'"),
    ],
)
@pytest.mark.usefixtures("working_folder")
def test_it_is_a_wrong_option_and_no_bug(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(list(arguments)) == 2
    err = capsys.readouterr().err
    assert named in err
    assert "the system cannot look it up: File name too long" in err
    assert "Traceback" not in err


def test_a_key_in_s3_may_be_longer_than_a_file_name() -> None:
    assert Place().convert(f"s3://bucket/{UNKNOWN}", None, None) == f"s3://bucket/{UNKNOWN}"
