"""The engine: model and device selection, and the same words for the same seed."""

import hashlib
import io
import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO

import ctranslate2
import numpy as np
import pytest
import soundfile

from chunk_job.contract import TranscribeOptions
from chunk_job.engine import audio, device, load, locate
from chunk_job.engine.digest import digest as digest_of
from chunk_job.engine.timings import Timings
from chunk_job.engine.transcribe import LanguageDetection
from chunk_job.errors import ExitCode, JobError
from controller import demo
from tests import speech
from tests.chunk_job.engine.decoding import floats, options, transcribed

NO_GPU = ctranslate2.get_cuda_device_count() == 0


@pytest.fixture(scope="module")
def tape() -> speech.Tape:
    return speech.tape(seconds=8, seed=60)


# ---------------------------------------------------------------- which model


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo.MODEL, tmp_path / "model"))


def test_a_folder_is_a_model(copied: Path) -> None:
    assert locate.locate(str(copied)) == copied


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_no_model(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(JobError, match=f"is not a faster-whisper model: it lacks {name}") as missing:
        locate.locate(str(copied))
    assert missing.value.code == ExitCode.MODEL


@pytest.mark.parametrize("name", ["largest", "", "a/b/c"])
def test_an_unknown_name_is_reported_with_the_known_ones(name: str) -> None:
    with pytest.raises(JobError, match="neither a folder here nor a known name") as unknown:
        locate.locate(name or "no model at all")
    assert unknown.value.code == ExitCode.MODEL
    assert "large-v3-turbo" in unknown.value.advice


def test_a_missing_folder_is_reported_without_a_list_of_names() -> None:
    with pytest.raises(JobError, match="no model '/models/other'") as unknown:
        locate.locate("/models/other")
    assert unknown.value.advice == "the folder must exist where the job runs: for a pod, in its image or on its volume"


@pytest.mark.parametrize(
    "name,summary,advice",
    [
        ("large-v3", r"model large-v3 \(3.1 GB\) is not on this machine", "Systran/faster-whisper-large-v3"),
        ("some/repository", "model some/repository is not on this machine", "some/repository"),
    ],
)
def test_a_known_model_that_is_not_cached_is_not_fetched_without_consent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, summary: str, advice: str
) -> None:
    for variable in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(JobError, match=summary) as missing:
        locate.locate(name)
    assert missing.value.code == ExitCode.MODEL
    assert f"add --download to download it once from the hub ({advice})" in missing.value.advice


def test_a_download_that_failed_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: object, **__: object) -> str:
        raise OSError("no network\n\n  see the log")

    for variable in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("faster_whisper.utils.download_model", refused)
    with pytest.raises(JobError, match=r"could not be downloaded: no network see the log$"):
        locate.locate("small", download=True)


def test_the_digest_depends_on_the_files_and_not_on_their_folder(copied: Path) -> None:
    assert digest_of(copied) == digest_of(demo.MODEL)
    (copied / ".cache").write_text("hidden")
    (copied / "folder").mkdir()
    assert digest_of(copied) == digest_of(demo.MODEL)


@pytest.mark.parametrize("change", ["byte", "name", "more"])
def test_another_model_has_another_digest(copied: Path, change: str) -> None:
    if change == "byte":
        raw = bytearray((copied / "model.bin").read_bytes())
        raw[len(raw) // 2] ^= 1
        (copied / "model.bin").write_bytes(raw)
    elif change == "name":
        (copied / "vocabulary.json").rename(copied / "vocabulary.txt")
    else:
        (copied / "more").touch()
    assert digest_of(copied) != digest_of(demo.MODEL)


@pytest.mark.parametrize("at,length", [(0, 70 << 20), ((70 << 20) - 1, 70 << 20), (0, (70 << 20) + 1)])
def test_a_large_file_is_identified_by_its_ends_and_its_size(tmp_path: Path, at: int, length: int) -> None:
    def digest(name: str, size: int, offset: int | None) -> str:
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.bin").open("wb") as file:
            file.truncate(size)
            if offset is not None:
                file.seek(offset)
                file.write(b"\1")
        return digest_of(tmp_path / name)

    same, again = digest("a", 70 << 20, None), digest("b", 70 << 20, None)
    assert same == again
    assert digest("c", length, at) != same


# ---------------------------------------------------------------- on what it runs


@pytest.mark.skipif(not NO_GPU, reason="this machine has a GPU")
def test_cuda_without_a_gpu_fails_instead_of_falling_back() -> None:
    with pytest.raises(JobError, match="no CUDA device is visible") as missing:
        load.load(demo.MODEL, TranscribeOptions(model="m", device="cuda"), seed=1, timings=Timings())
    assert missing.value.code == ExitCode.GPU_UNHEALTHY


@pytest.mark.skipif(not NO_GPU, reason="this machine has a GPU")
def test_auto_selects_the_devices_best_type_and_int8_on_a_cpu() -> None:
    loaded = load.load(demo.MODEL, TranscribeOptions(model="m"), seed=1, timings=Timings())
    assert (loaded.engine.device, loaded.engine.compute_type, loaded.engine.model) == ("cpu", "int8", "m")
    assert loaded.engine.model_digest == digest_of(demo.MODEL)
    assert loaded.engine.isa
    assert loaded.engine.stored_type == "int8"


def test_an_unsupported_compute_type_is_reported_with_the_supported_ones() -> None:
    lacking = {"float16", "int8_float16", "bfloat16"} - ctranslate2.get_supported_compute_types("cpu")
    if not lacking:
        pytest.skip("this CPU computes in every type")
    with pytest.raises(JobError, match="is not supported on this cpu device") as unsupported:
        load.load(demo.MODEL, options().model_copy(update={"compute_type": min(lacking)}), seed=1, timings=Timings())
    assert unsupported.value.code == ExitCode.CONFIG
    assert "int8" in unsupported.value.advice


def test_a_broken_model_is_reported_as_a_model_failure(copied: Path) -> None:
    (copied / "model.bin").write_bytes((demo.MODEL / "model.bin").read_bytes()[:1000])
    with pytest.raises(JobError, match="could not be loaded") as broken:
        load.load(copied, options(), seed=1, timings=Timings())
    assert broken.value.code == ExitCode.MODEL


def test_the_instruction_set_is_the_one_that_ctranslate2_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", "GENERIC")
    assert device.instruction_set() == "GENERIC"


# ---------------------------------------------------------------- its audio


def flac(pcm: speech.Pcm, rate: int = speech.RATE_HZ) -> io.BytesIO:
    file = io.BytesIO()
    soundfile.write(file, pcm, rate, format="FLAC", subtype="PCM_16")
    file.seek(0)
    return file


def sha(pcm: speech.Pcm) -> str:
    return hashlib.sha256(pcm.tobytes()).hexdigest()


def read_pcm(file: BinaryIO, pcm: speech.Pcm, *, channels: int = 1) -> list[Any]:
    """Read *file* for a task whose audio is *pcm*."""
    audio_ms = -(-len(pcm) // speech.SAMPLES_PER_MS)
    return audio.read_pcm(file, audio_ms=audio_ms, pcm_sha256=sha(pcm), channels=channels)


def test_chunk_audio_is_read_to_the_sample(tape: speech.Tape) -> None:
    for pcm in (tape.pcm, tape.pcm[:-7]):
        (read,) = read_pcm(flac(pcm), pcm)
        assert read.dtype == np.float32
        assert np.array_equal(read, floats(pcm))


def test_each_channel_of_a_chunk_is_read_to_the_sample(tape: speech.Tape) -> None:
    both = np.stack([tape.pcm, tape.pcm[::-1]], axis=1)
    left, right = read_pcm(flac(both), both, channels=2)
    assert np.array_equal(left, floats(tape.pcm))
    assert np.array_equal(right, floats(tape.pcm[::-1]))
    with pytest.raises(audio.WrongAudio, match="1 channels of 16000 Hz, not 2"):
        read_pcm(flac(tape.pcm), tape.pcm, channels=2)


def test_chunk_audio_that_differs_from_its_task_is_refused(tape: speech.Tape) -> None:
    stereo = np.stack([tape.pcm[:800], tape.pcm[:800]], axis=1)
    wav = io.BytesIO()
    soundfile.write(wav, tape.pcm, speech.RATE_HZ, format="WAV", subtype="PCM_16")
    wav.seek(0)
    cases = [
        (flac(tape.pcm[:-1]), tape.pcm, "the samples do not match the task"),
        (flac(np.concatenate([tape.pcm, tape.pcm[:1]])), tape.pcm, "the samples do not match the task"),
        (flac(tape.pcm, rate=48_000), tape.pcm, "1 channels of 48000 Hz"),
        (flac(stereo), stereo, "2 channels of 16000 Hz"),
        (wav, tape.pcm, "not a FLAC file"),
        (io.BytesIO(b"fLaC, it says"), tape.pcm, "not readable"),
        (io.BytesIO(b""), tape.pcm, "not a FLAC file"),
    ]
    for file, pcm, message in cases:
        with pytest.raises(audio.WrongAudio, match=message):
            read_pcm(file, pcm)


def test_no_more_of_a_file_is_decoded_than_its_task_says() -> None:
    hour = flac(np.zeros(3600 * speech.RATE_HZ, np.int16))
    tracemalloc.start()
    try:
        with pytest.raises(audio.WrongAudio, match="the samples do not match the task"):
            read_pcm(hour, np.zeros(33 * speech.RATE_HZ, np.int16))
        # Thirty-three seconds of samples are a megabyte, an hour of them 115.
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_single_file_may_be_any_audio(tape: speech.Tape, tmp_path: Path) -> None:
    wav = speech.write_wav(tmp_path / "a.wav", tape)
    assert np.array_equal(audio.read_media(wav), floats(tape.pcm))
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(JobError, match=r"page.html is not readable audio") as refused:
        audio.read_media(tmp_path / "page.html")
    assert refused.value.code == ExitCode.BAD_INPUT


# ---------------------------------------------------------------- its words


def test_words_are_in_order_and_inside_the_audio(tape: speech.Tape) -> None:
    positions: list[int] = []
    found = transcribed(tape.pcm, progress=positions.append)
    # Of eleven words, two: without time stamps this model may say a short sentence twice.
    assert speech.word_errors(tape.words, "".join(segment.text for segment in found.segments)).wer <= 0.2
    assert (found.language, found.probability > 0.9) == ("en", True)
    assert 3000 < found.speech_ms <= tape.duration_ms
    assert positions == sorted(positions)
    assert found.segments[-1].end_ms <= positions[-1] <= tape.duration_ms
    # Through JSON, as it is stored: no value may be of a numpy type.
    segments = [json.loads(segment.model_dump_json()) for segment in found.segments]
    times = [time for segment in segments for word in segment["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert times[-1] <= tape.duration_ms / 1000
    for segment in segments:
        assert segment["start"] == segment["words"][0]["start"]
        assert segment["end"] >= segment["words"][-1]["end"]


@pytest.mark.parametrize("vad", [True, False])
def test_silence_has_no_words_and_no_language(vad: bool) -> None:
    found = transcribed(speech.silence(4, noise_db=-60), vad_filter=vad)
    assert (found.segments, found.language, found.probability, found.speech_ms) == ((), None, 0.0, 0)


def test_the_language_is_detected_on_speech_only(tape: speech.Tape) -> None:
    late = np.concatenate([speech.silence(20, noise_db=-60), tape.pcm])
    with_vad, without = transcribed(late, temperature=(0.0,)), transcribed(late, vad_filter=False, temperature=(0.0,))
    assert (with_vad.language, without.language) == ("en", "en")
    assert without.probability > 0.9
    assert abs(with_vad.speech_ms - without.speech_ms) < 1000


def test_the_agreed_language_is_used(tape: speech.Tape) -> None:
    asked: list[LanguageDetection] = []

    def agree(found: LanguageDetection) -> LanguageDetection:
        asked.append(found)
        return LanguageDetection(language="pt", probability=0.25, speech_ms=found.speech_ms)

    found = transcribed(tape.pcm, agree=agree)
    assert [one.language for one in asked] == ["en"]
    assert (found.language, found.probability) == ("pt", 0.25)
    pinned = transcribed(tape.pcm, language="pt")
    assert [segment.text for segment in found.segments] == [segment.text for segment in pinned.segments]


def test_an_error_while_the_language_is_agreed_ends_the_transcription(tape: speech.Tape) -> None:
    def agree(_: LanguageDetection) -> LanguageDetection:
        raise LookupError

    with pytest.raises(LookupError):
        transcribed(tape.pcm, agree=agree)


def test_a_given_language_is_not_detected(tape: speech.Tape) -> None:
    def agree(_: LanguageDetection) -> LanguageDetection:
        raise AssertionError

    found = transcribed(tape.pcm, language="en", agree=agree)
    assert found.language == "en"


def test_the_same_seed_gives_the_same_words_when_tokens_are_sampled() -> None:
    """At temperature 1 tokens are sampled, and noise makes several likely; another seed shows that sampling happens."""
    noisy = speech.tape(seconds=12, seed=61, noise_db=-22).pcm
    one, again, other = (
        transcribed(noisy, seed=seed, temperature=(1.0,), language="en", vad_filter=False) for seed in (7, 7, 8)
    )
    assert one == again
    assert [segment.text for segment in one.segments] != [segment.text for segment in other.segments]


def test_the_number_of_threads_changes_no_word(tape: speech.Tape) -> None:
    assert transcribed(tape.pcm, cpu_threads=1) == transcribed(tape.pcm, cpu_threads=2)
