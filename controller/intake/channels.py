"""Which channels of a track become those of the chunks: their mix, one of them, or each by itself.

Touches: nothing. ffmpeg computes the mix and resamples; this module makes the graph of filters for that, and converts
what comes out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from chunk_job.contract import SAMPLE_RATE
from chunk_job.segment import MOST_CHANNELS
from controller.domain.plan import ChannelChoice
from controller.errors import MediaProblem
from controller.intake.amplifier import Amplifier
from controller.intake.downmix import Downmix
from controller.intake.flac import Pcm, Sound
from controller.intake.tracks import AudioTrack

_MOST_FINE = 2
"""Channels up to which samples keep more than 16 bits: a gap of an hour would take too much memory."""
_USUAL = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 16, 24})
"""Numbers of channels for which ffmpeg assumes a layout if the recording has none."""
# Gaps in the time stamps become silence, so times are those of a player; clean files are unchanged. Gaps under 0.1 s
# are filled when they add up: a finer limit would remove sound if time stamps jitter.
# ffmpeg holds a gap in memory: as the last filter, after resampling, it takes a tenth of the memory.
_FILL = "aresample=async=1"

_STEP_SAMPLES = SAMPLE_RATE
_SILENT = 10**-5.5
"""Power of full scale below which nothing is compared."""
_SAME = 0.98
"""Correlation of two channels with the same sound, at any level."""
_SAME_SHARE = 0.95
_LEAST_SECONDS = 2


class Channels:
    """The choice of channels for one track. It gets the sound in order."""

    def __init__(self, track: AudioTrack, choice: ChannelChoice) -> None:
        """Raises :class:`MediaProblem` if the track does not have the channels of *choice*."""
        self.choice: ChannelChoice = choice
        self.count = 1
        """Channels of the chunks."""
        self._only: int | None = None
        if choice == "split":
            self.count = _checked_count(track)
        elif choice != "mix":
            self._only = _checked_number(track, choice)
        self._without_layout = 0 if track.has_layout or track.channels in _USUAL else track.channels
        """Number of channels that ffmpeg cannot mix by itself."""
        self.downmix = Downmix() if choice == "mix" and track.channels > 1 else None
        """How several channels were mixed; None if there is one, or no mix."""
        self.has_fine_samples = track.has_fine_samples and self.count <= _MOST_FINE
        """Whether ffmpeg returns samples in floating point: of full scale 1."""
        self.columns = 2 if self.downmix else self.count
        """Columns of what ffmpeg returns: the channels, or the left side and the mix."""
        self._amplifiers = [Amplifier() for _ in range(self.count)]
        self._pairs = {pair: _Likeness() for pair in combinations(range(self.count), 2)}

    def filters(self) -> str:
        """The graph of filters, from frames with right times to ``[out]``. It begins without a label."""
        if self.downmix:
            return f"asplit[a][b];[a]{self._mix()}[mix];[b]{self._side()}[left];[left][mix]amerge,{_FILL}[out]"
        if self.choice == "mix":
            return f"{self._converted('mono')},{self._filled('mono')}[out]"
        # A channel that is missing in a part of the track is silent there.
        taken = range(self.count) if self._only is None else [self._only - 1]
        pan = "|".join(f"c{place}=c{channel}" for place, channel in enumerate(taken))
        layout = f"{self.count}c"
        return f"pan={layout}|{pan},{self._converted(layout)},{self._filled(layout)}[out]"

    def to_pcm(self, frames: Sound) -> Pcm:
        """The samples of *frames*, which has :attr:`columns` columns. All but the last array have whole seconds."""
        if self.downmix:
            # ffmpeg's mix to mono is the mean of both sides of its mix to stereo, for any number of channels.
            left, mix = frames[:, 0], frames[:, 1]
            return self._amplifiers[0].to_pcm(self.downmix.mono(np.column_stack((left, 2 * mix - left, mix))))
        if self.count == 1:
            return self._amplifiers[0].to_pcm(frames[:, 0])
        for (one, other), likeness in self._pairs.items():
            likeness.add(frames[:, one], frames[:, other])
        return np.column_stack(
            [amplifier.to_pcm(frames[:, channel]) for channel, amplifier in enumerate(self._amplifiers)]
        )

    def warnings(self, layouts: list[str]) -> Iterator[str]:
        """Sentences about the choice, after all sound. *layouts*: of the track, with an entry for each change."""
        if self.choice == "mix":
            return
        if self.choice == "split" and self.count == 1:
            yield "it has one channel only: with --channels split, its speakers are not told apart either"
        if len(layouts) > 1:
            yield (
                f"its channels change midway ({' → '.join(layouts[:4])}{' → …' if len(layouts) > 4 else ''}):"
                " where a channel is missing, it is silent"
            )
        same = [(one + 1, other + 1) for (one, other), likeness in self._pairs.items() if likeness.is_same]
        if same:
            names = ", ".join(f"{one} and {other}" for one, other in same[:4])
            yield (
                f"channels {names} have the same sound, so that the transcript has its words twice: use --channels mix"
            )

    def _mix(self) -> str:
        if not self._without_layout:
            return self._converted("mono")
        return f"{_mean(range(self._without_layout))},{self._converted('mono')}"

    def _side(self) -> str:
        """The left side of what the mix consists of."""
        if not self._without_layout:
            return f"{self._converted('stereo')},pan=mono|c0=c0"
        return f"{_mean(range(0, self._without_layout, 2))},{self._converted('mono')}"

    @property
    def _samples(self) -> str:
        return "flt" if self.has_fine_samples else "s16"

    def _converted(self, layout: str) -> str:
        # Without rematrix_maxval, the mix of samples in floating point would be 3 dB louder than that of others.
        return f"aresample=osr={SAMPLE_RATE}:osf={self._samples}:ochl={layout}:rematrix_maxval=1.0,{self._form(layout)}"

    def _filled(self, layout: str) -> str:
        return f"{_FILL},{self._form(layout)}"

    def _form(self, layout: str) -> str:
        return f"aformat=sample_fmts={self._samples}:sample_rates={SAMPLE_RATE}:channel_layouts={layout}"


def _mean(channels: range) -> str:
    """The filter that mixes these channels in equal parts."""
    return "pan=mono|c0=" + "+".join(f"{1 / len(channels):.6f}*c{channel}" for channel in channels)


class _Likeness:
    """Compares two channels, second by second."""

    def __init__(self) -> None:
        self._seconds = self._same = 0

    def add(self, one: Sound, other: Sound) -> None:
        for at in range(0, len(one), _STEP_SAMPLES):
            a, b = (part[at : at + _STEP_SAMPLES].astype(np.float64) / 32768 for part in (one, other))
            power = [float(np.mean(np.square(part))) for part in (a, b)]
            if max(power) < _SILENT:
                continue
            self._seconds += 1
            product = float(np.mean(a * b))
            self._same += min(power) > 0 and product * product > _SAME * _SAME * power[0] * power[1]

    @property
    def is_same(self) -> bool:
        """Whether they have the same sound nearly everywhere."""
        return self._seconds >= _LEAST_SECONDS and self._same >= _SAME_SHARE * self._seconds


def _checked_count(track: AudioTrack) -> int:
    """How many channels are transcribed one by one. Raises :class:`MediaProblem` for too many."""
    if track.channels > MOST_CHANNELS:
        raise MediaProblem(
            f"audio track {track.number} has {track.channels} channels, and at most {MOST_CHANNELS} are transcribed one"
            " by one",
            "choose one with --channels N, or use --channels mix",
        )
    return max(1, track.channels)


def _checked_number(track: AudioTrack, number: int) -> int:
    """*number*. Raises :class:`MediaProblem` if the track has no such channel."""
    if track.channels and number > track.channels:
        several = f"{track.channels} channels" if track.channels > 1 else "one channel"
        raise MediaProblem(
            f"audio track {track.number} has {several}, and no channel {number}",
            f"use --channels with {'1' if track.channels == 1 else f'a number from 1 to {track.channels}'}, or mix",
        )
    return number
