"""Reads audio in the input format of the model: float32 mono samples at 16 kHz.

Touches: the files that the caller gives.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

from chunk_job.contract import SAMPLE_RATE
from chunk_job.errors import ExitCode, JobError

_FLAC_MAGIC = b"fLaC"


class WrongAudio(Exception):
    """The audio of a chunk does not match its task."""


def read_pcm(file: BinaryIO, *, audio_ms: int, pcm_sha256: str, channels: int = 1) -> list[Any]:
    """The channels of a chunk's FLAC, each as float32 samples at 16 kHz in [-1, 1).

    At most one sample more than *audio_ms* of audio is decoded, even if the file has more. Raises :class:`WrongAudio`
    if the digest of the samples is not *pcm_sha256*.
    """
    import soundfile

    begin = file.read(len(_FLAC_MAGIC))
    file.seek(0)
    if begin != _FLAC_MAGIC:
        # Checked first, because libsndfile would accept two dozen other formats.
        raise WrongAudio("not a FLAC file")
    try:
        with soundfile.SoundFile(file) as flac:
            if (flac.samplerate, flac.channels) != (SAMPLE_RATE, channels):
                raise WrongAudio(
                    f"{flac.channels} channels of {flac.samplerate} Hz, not {channels} of {SAMPLE_RATE} Hz"
                )
            pcm = flac.read(audio_ms * SAMPLE_RATE // 1000 + 1, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise WrongAudio(f"not readable: {error}") from error
    if hashlib.sha256(pcm.tobytes()).hexdigest() != pcm_sha256:
        raise WrongAudio("the samples do not match the task (pcm_sha256)")
    return [pcm[:, channel].astype("float32") / 32768.0 for channel in range(channels)]


def read_media(path: Path) -> Any:
    """Read any audio file as float32 mono samples at 16 kHz. Used without a task only."""
    from faster_whisper import decode_audio

    try:
        return decode_audio(str(path), sampling_rate=SAMPLE_RATE)
    except Exception as error:  # PyAV raises dozens of types for bad media
        raise JobError(ExitCode.BAD_INPUT, f"{path} is not readable audio: {error}") from error
