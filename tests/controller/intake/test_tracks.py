"""Which audio track is transcribed, and what is said about it."""

from pathlib import Path

import pytest

from controller.domain.plan import PlanOptions
from controller.errors import MediaProblem
from controller.intake import source
from controller.intake.probe import probe
from controller.intake.tracks import AudioTrack, Media
from tests.clicks import ffmpeg
from tests.dry_runs import plan_only


def media(*tracks: str) -> Media:
    """Tracks from words: the tag of the language, then ``default`` or ``commented``."""
    return Media(
        container="matroska",
        begin_ms=0,
        duration_ms=None,
        tracks=tuple(
            AudioTrack(
                number=number,
                codec="aac",
                language=words.split()[0],
                duration_ms=None,
                default="default" in words,
                commented="commented" in words,
            )
            for number, words in enumerate(tracks)
        ),
    )


@pytest.mark.parametrize(
    "tracks, language, number, reason",
    [
        (["por default", "eng"], None, 0, "because it is the default one"),
        (["por default", "eng"], "en", 1, "because it is tagged as --language en"),
        (["por default", "eng"], "pt", 0, "because it is tagged as --language pt"),
        (["por default", "eng"], "de", 0, "because no track is tagged as --language de and it is the default one"),
        (["eng commented default", "por", "en-GB"], "en", 2, "because it is tagged as --language en"),
        (
            ["eng commented default", "por"],
            "en",
            1,
            "because the only track tagged as --language en is a commentary or description, and it is the first one",
        ),
        (["eng commented default", "por"], None, 1, "because it is the first one without a commentary"),
        (["eng commented", "por commented default"], None, 1, "because it is the default one"),
        (["und", "eng", "eng default"], "en", 2, "because it is tagged as --language en"),
        (["fre", "chi"], "zh", 1, "because it is tagged as --language zh"),
        (["fre", "nob"], "no", 1, "because it is tagged as --language no"),
        (["fre", "not a language at all"], None, 0, "because it is the first one"),
    ],
)
def test_the_track_of_the_language_is_taken_and_never_a_commentary(
    tracks: list[str], language: str | None, number: int, reason: str
) -> None:
    found = media(*tracks)
    assert found.track(None, language=language).number == number
    sentence = next(found.about_choice(None, language=language))
    assert sentence.startswith(f"audio track {number} (aac, ")
    assert reason in sentence
    others = [str(track) for track in found.tracks if track.number != number]
    assert sentence.endswith(f"--audio-track chooses another one: {', '.join(others)}")


def test_a_single_track_needs_no_sentence_unless_its_tag_contradicts() -> None:
    assert list(media("und").about_choice(None, language="en")) == []
    assert list(media("eng").about_choice(None, language="en")) == []
    assert list(media("eng").about_choice(None)) == []
    differs = ["audio track 0 is tagged as por, but --language is en"]
    assert list(media("por").about_choice(None, language="en")) == differs
    assert list(media("por", "eng").about_choice(0, language="en")) == differs
    assert list(media("por", "eng").about_choice(1, language="en")) == []


def test_an_error_lists_the_tracks() -> None:
    with pytest.raises(MediaProblem) as raised:
        media("por default", "eng commented").track(2)
    assert raised.value.advice == (
        "use --audio-track with one of: 0 (aac, por, default), 1 (aac, eng, commentary or description)"
    )


@pytest.mark.process
@pytest.mark.parametrize("name", ["film.mkv", "film.mp4", "film.ts"])
def test_tags_of_real_containers_choose_the_track(tmp_path: Path, name: str) -> None:
    """A loud Portuguese track, the default one, and a quieter English one: the level shows which one is decoded."""
    tones = [part for volume in (0.5, 0.1) for part in ("-f", "lavfi", "-i", f"sine=440:d=3,volume={volume}")]
    tags = ["-metadata:s:a:0", "language=por", "-metadata:s:a:1", "language=eng"]
    flags = ["-disposition:a:0", "default", "-disposition:a:1", "0"]
    ffmpeg(*tones, "-map", "0", "-map", "1", "-c:a", "aac", *tags, *flags, path := tmp_path / name)
    found = probe(str(path))
    assert [found.track(None, language=language).number for language in (None, "pt", "en")] == [0, 0, 1]
    plan = plan_only(source.inspect(str(path)), PlanOptions(), audio_track=None, language="en")
    (sentence,) = plan.warnings
    assert sentence.startswith("audio track 1 (aac, eng) is transcribed, because it is tagged as --language en; ")


@pytest.mark.process
@pytest.mark.parametrize(
    "mark",
    [
        ["-disposition:a:0", "default+comment"],
        ["-disposition:a:0", "default+visual_impaired"],
        ["-metadata:s:a:0", "title=Director's Commentary"],
        ["-metadata:s:a:0", "title=Audio description"],
        ["-metadata:s:a:0", "title=Audiodeskription"],
        ["-metadata:s:a:0", "title=Kommentar des Regisseurs"],
        ["-metadata:s:a:0", "handler_name=Director Commentary"],
    ],
)
def test_commentaries_of_real_files_are_known(tmp_path: Path, mark: list[str]) -> None:
    tones = ["-f", "lavfi", "-i", "sine=440:d=1", "-f", "lavfi", "-i", "sine=880:d=1"]
    path = tmp_path / ("film.mp4" if "handler_name" in mark[1] else "film.mkv")
    ffmpeg(*tones, "-map", "0", "-map", "1", "-c:a", "aac", "-disposition:a:0", "default", *mark, path)
    assert probe(str(path)).track(None).number == 1
