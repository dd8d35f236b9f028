"""ffmpeg's messages: errors are kept, rates are noted, and a file's tags are neither."""

import pytest

from controller.intake.messages import MOST_BYTES, Messages

WRITTEN = (
    b"[info] Input #0, matroska, from 'file:/a.mka':\n"
    b"[info]     title           : one\n"
    b"                    : [error] not an error\n"
    b"                    : [graph_0_in_0_0 @ 0x1f] [verbose] tb:1/8000 samplefmt:s16 samplerate:8000 chlayout:mono\n"
    b"[graph_0_in_0_0 @ 0x5575a2dfc280] [verbose] tb:1/24000 samplefmt:fltp samplerate:24000 chlayout:mono\n"
    b"[mp3float @ 0x5575] [error] Header missing\n"
    b"[error] Error while decoding stream #0:0: Invalid data\n"
    b"[warning] nothing of interest\n"
    b"[graph 0 input @ 0x5] [verbose] tb:1/48000 samplefmt:fltp samplerate:48000 chlayout:mono\n"
    b"[graph 0 input @ 0x5] [verbose] tb:1/48000 samplefmt:s16 samplerate:48000 chlayout:stereo\n"
    b"[verbose] tb:1/11 samplefmt:fltp samplerate:11025 chlayout:mono\n"
)
ERRORS = b"[mp3float @ 0x5575] Header missing\nError while decoding stream #0:0: Invalid data\n"


@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
def test_errors_and_rates(piece: int) -> None:
    messages = Messages()
    for at in range(0, len(WRITTEN), piece):
        messages.add(WRITTEN[at : at + piece])
    messages.add(b"")
    assert messages.errors == ERRORS
    assert messages.rates_hz == [24_000, 48_000]


def test_what_ffmpeg_says_about_its_own_output_is_no_error_of_the_recording() -> None:
    messages = Messages()
    messages.add(
        b"[error] Application provided invalid, non monotonically increasing dts to muxer in stream 0: 5 >= 3\n"
    )
    messages.add(b"[error] a problem\n")
    messages.add(b"")
    assert messages.errors == b"a problem\n"


def test_what_starts_ffmpeg_may_write_without_a_level() -> None:
    messages = Messages()
    messages.add(b"prlimit: failed to execute ffmpeg")
    assert messages.errors == b""
    messages.add(b"")
    assert messages.errors == b"prlimit: failed to execute ffmpeg"


def test_only_the_last_errors_are_kept_and_long_lines_are_cut() -> None:
    messages = Messages()
    for _ in range(100):
        messages.add(b"[info] title: " + b"x" * 100_000)
    messages.add(b"\n" + b"[error] a problem\n" * 1_000)
    messages.add(b"")
    assert len(messages.errors) == MOST_BYTES
    assert messages.errors.endswith(b"\na problem\n")
