"""Names of speakers: of each channel that was transcribed by itself.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from chunk_job.segment import Segment, Word


def speaker_of(channel: int) -> str:
    """The name of a channel's speaker, as long as no other one is given."""
    return f"Speaker {channel}"


def spoken_by(words: Iterable[Word], speaker: str) -> tuple[Word, ...]:
    """Copies of the words, with their speaker."""
    return tuple(_spoken_by(word, speaker) for word in words)


def _spoken_by(word: Word, speaker: str) -> Word:
    # Not {**word}: mypy would take it for a dictionary of any kind.
    copy = word.copy()
    copy["speaker"] = speaker
    return copy


def named(segments: Sequence[Segment], names: Sequence[str]) -> Iterator[Segment]:
    """The segments with other speakers: the name of channel N is ``names[N - 1]``."""
    for segment in segments:
        if segment.channel is None or segment.channel > len(names):
            yield segment
        else:
            name = names[segment.channel - 1]
            yield segment.model_copy(update={"speaker": name, "words": spoken_by(segment.words, name)})
