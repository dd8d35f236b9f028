"""Windows → text and words: batches through CTranslate2's ``encode``, ``generate`` and ``align``.

Touches: the GPU or the CPU. Windows are decoded without time-stamp tokens, because their rules are applied row by row
and cost more time than the decoding itself; word times come from the alignment. Every window passes Whisper's checks,
and those that fail are decoded again at the next temperature.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from chunk_job.contract import SAMPLE_RATE, DecodedWindow, TranscribeOptions
from chunk_job.engine.checks import Decoding, best, failed_check, is_silent, repeats, without_loop
from chunk_job.engine.device import is_out_of_memory
from chunk_job.engine.features import FRAMES
from chunk_job.engine.load import LoadedModel
from chunk_job.engine.prepare import Prepared
from chunk_job.engine.segments import SpokenWindow
from chunk_job.engine.timings import Timings
from chunk_job.engine.window_state import WindowState
from chunk_job.engine.windows import SPOKEN_AFTER_TEXT, SPOKEN_IN_TEXT, Window, halves, rest_of
from chunk_job.engine.words import pauses_of, words_of

BEST_BATCH = {"cuda": 64, "cpu": 1}
"""Windows of a batch, as measured: a GPU still gains at 60; a CPU gains nothing, and each window takes memory."""

_MOST_RESTS = 3
"""How often the rest of a window is cut off from it."""

LARGEST_BATCH = {"cuda": 256, "cpu": 16}
"""On a CPU, a large batch of a large model takes so long that the job would look as if it was stuck."""

_SAMPLED_HYPOTHESES = 5
"""Texts that are sampled at a temperature above 0, of which the most probable one counts (Whisper's ``best_of``)."""

_SHORTEST_HALF = 2 * SAMPLE_RATE
"""A window with too many tokens is not cut into shorter parts than this."""


class BatchDecoder:
    """Decodes the windows of one chunk with one model."""

    def __init__(
        self,
        model: LoadedModel,
        prepared: Prepared,
        options: TranscribeOptions,
        *,
        language: str,
        timings: Timings,
        progress: Callable[[int], None],
    ) -> None:
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        self._whisper = model.whisper
        self._prepared, self._options = prepared, options
        self._timings, self._progress = timings, progress
        self._position_ms = 0
        multilingual = self._whisper.model.is_multilingual
        self._tokenizer = Tokenizer(
            self._whisper.hf_tokenizer, multilingual, task="transcribe", language=language if multilingual else None
        )
        self._prompt = self._whisper.get_prompt(
            self._tokenizer, self._previous_text(), without_timestamps=True, hotwords=options.hotwords
        )
        # CTranslate2 gives at most half of the context to the text, as Whisper does.
        context = self._whisper.max_length
        self._most_tokens = min(context // 2, context + 1 - len(self._prompt))
        self._suppressed = get_suppressed_tokens(self._tokenizer, [-1])
        self._pauses = pauses_of(prepared.speech)
        self.batch_size = _batch_size(options, model.engine.device)
        """Windows that are decoded together. Halved if the GPU has too little memory."""

    def _previous_text(self) -> list[int]:
        """The end of the initial prompt: with the hotwords it may take half of the context, the text needs the rest."""
        if not self._options.initial_prompt:
            return []
        hotwords = self._tokenizer.encode(f" {self._options.hotwords.strip()}") if self._options.hotwords else []
        free = self._whisper.max_length // 2 - 1 - len(hotwords)
        return self._tokenizer.encode(f" {self._options.initial_prompt.strip()}")[-free:] if free > 0 else []

    def decode(self, windows: Sequence[Window]) -> tuple[list[SpokenWindow], list[DecodedWindow]]:
        """Decode *windows*, which are in order. Returns the ones with text, and what was tried for each.

        Raises RuntimeError of CTranslate2, also if the GPU has too little memory for a single window.
        """
        states = list(self._decoded(windows))
        self._again_where_repeated(states)
        spoken = [
            SpokenWindow(start_ms=_ms(state.window.start), decoding=state.decoding, words=state.words)
            for state in states
            if state.decoding and state.words
        ]
        return spoken, [state.record() for state in states]

    def _decoded(self, windows: Sequence[Window]) -> Iterator[WindowState]:
        at = 0
        while at < len(windows):
            states = [WindowState(window=window) for window in windows[at : at + self.batch_size]]
            at += len(states)
            self._decode_batch(states)
            yield from self._completed(states)
            self._position_ms = _ms(states[-1].window.end)
            self._progress(self._position_ms)

    def _completed(self, states: Sequence[WindowState]) -> list[WindowState]:
        """The states, each followed by those of the parts of its window that had to be decoded again."""
        parts = [self._parts(state) for state in states]
        self._decode_all([part for group in parts for part in group])
        completed = []
        for state, group in zip(states, parts, strict=True):
            again = self._completed(group) if group else []
            state.complete_with(again)
            completed += [state, *again]
        return completed

    def _parts(self, state: WindowState) -> list[WindowState]:
        """The halves of a window whose text was too long, or the rest of one from speech on that has no words."""
        if state.decoding is None:
            cut = halves(self._prepared.audio, state.window, self._prepared.speech)
            return [WindowState(window=part, depth=state.depth) for part in cut]
        # Of a doubtful text, what is missing is as doubtful; and each rest has a rest of its own.
        if state.doubtful or state.depth >= _MOST_RESTS:
            return []
        for number in range(1, len(state.words) + 1):
            rest = self._without_words(state, number)
            if rest:
                state.cut_before = number
                return [WindowState(window=rest, depth=state.depth + 1)]
        return []

    def _without_words(self, state: WindowState, number: int) -> Window | None:
        """The window from the end of word *number* on, if there is a lot of speech between it and the next word."""
        is_last = number == len(state.words)
        until = state.window.end if is_last else _samples(state.words[number].start_ms)
        least = SPOKEN_AFTER_TEXT if is_last else SPOKEN_IN_TEXT
        after = _samples(state.words[number - 1].end_ms)
        rest = rest_of(state.window, after, self._prepared.speech, until=until, least=least)
        return rest if rest and rest.start - state.window.start >= SAMPLE_RATE else None

    def _decode_all(self, states: Sequence[WindowState], *, skip: int = 0) -> None:
        """Decode windows in batches, whose size may shrink on the way."""
        at = 0
        while at < len(states):
            batch = states[at : at + self.batch_size]
            self._decode_batch(batch, skip=skip)
            at += len(batch)

    def _decode_batch(self, states: Sequence[WindowState], *, skip: int = 0) -> None:
        """Decode windows at each temperature in turn, until all pass. *skip*: temperatures that are left out."""
        features = self._prepared.features.batch([state.window for state in states])
        self._decode_features(states, features, skip)

    def _decode_features(self, states: Sequence[WindowState], features: Any, skip: int) -> None:
        """Decode a batch; if the GPU has too little memory, in halves."""
        if self._has_memory(states, features, skip):
            return
        half = (len(states) + 1) // 2
        self.batch_size = min(self.batch_size, half)
        self._decode_features(states[:half], features[:half], skip)
        self._decode_features(states[half:], features[half:], skip)

    def _has_memory(self, states: Sequence[WindowState], features: Any, skip: int) -> bool:
        # Returns before the batch is halved: an exception that is being handled keeps the arrays of the failed call.
        fresh = [WindowState(window=state.window, depth=state.depth) for state in states]
        try:
            self._at_temperatures(fresh, features, skip)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(states) == 1:
                raise
            return False
        for state, done in zip(states, fresh, strict=True):
            state.take(done)
        return True

    def _at_temperatures(self, states: Sequence[WindowState], features: Any, skip: int) -> None:
        encoded = self._encode(features)
        left = self._options.temperature[skip:]
        for number, temperature in enumerate(left, 1):
            decodings = self._generate(encoded, len(states), temperature)
            for state, decoding in zip(states, decodings, strict=True):
                self._check(state, decoding, is_last=number == len(left))
            self._align(states, encoded)
            rows = [row for row, state in enumerate(states) if state.is_pending]
            if not rows:
                return
            states = [states[row] for row in rows]
            features, encoded = features[rows], self._rows(features[rows], encoded, rows)

    def _check(self, state: WindowState, decoding: Decoding, *, is_last: bool) -> None:
        """Use *decoding* if it passes, or if no temperature is left and it is the best one."""
        failed = failed_check(decoding, self._options)
        state.tries.append(decoding.as_try(failed))
        if not failed:
            state.decoding = decoding
            return
        state.failed.append(decoding)
        if failed == "token_limit" and state.window.end - state.window.start >= 2 * _SHORTEST_HALF:
            state.doubtful = False
            state.failed.clear()
        elif is_last:
            self._use_best(state)

    def _use_best(self, state: WindowState) -> None:
        state.doubtful = True
        chosen = best(state.failed, self._options)
        if chosen.compression_ratio > self._options.compression_ratio_threshold:
            tokens = without_loop(chosen.tokens)
            if tokens != chosen.tokens:
                state.loop_removed = True
                chosen = replace(chosen, tokens=tokens, text=self._tokenizer.decode(list(tokens)))
        state.decoding = chosen

    def _encode(self, features: Any) -> Any:
        with self._timings.measure("decode"):
            return self._whisper.encode(features)

    def _rows(self, features: Any, encoded: Any, rows: Sequence[int]) -> Any:
        """The encoder's output for some windows of a batch. *features*: those of these windows."""
        import ctranslate2
        import numpy as np
        from faster_whisper.transcribe import get_ctranslate2_storage

        if len(rows) == encoded.shape[0]:
            return encoded
        if encoded.device != "cpu" or encoded.dtype != ctranslate2.DataType.float32:
            # CTranslate2 selects no rows, and a copy through the memory of the CPU is no faster.
            return self._encode(features)
        return get_ctranslate2_storage(np.asarray(encoded)[list(rows)])

    def _generate(self, encoded: Any, count: int, temperature: float) -> list[Decoding]:
        options: dict[str, Any] = {"beam_size": self._options.beam_size}
        if temperature > 0:
            options = {
                "beam_size": 1,
                "num_hypotheses": _SAMPLED_HYPOTHESES,
                "sampling_topk": 0,
                "sampling_temperature": temperature,
            }
        with self._timings.measure("decode"):
            results = self._whisper.model.generate(
                encoded,
                [self._prompt] * count,
                max_length=self._whisper.max_length,
                return_scores=True,
                return_no_speech_prob=True,
                suppress_blank=True,
                suppress_tokens=self._suppressed,
                **options,
            )
        # Also without a new position: a batch may be decoded many times, and the job must not look as if it was stuck.
        self._progress(self._position_ms)
        return [self._decoding(result, temperature) for result in results]

    def _decoding(self, result: Any, temperature: float) -> Decoding:
        from faster_whisper.transcribe import get_compression_ratio

        tokens = tuple(int(token) for token in result.sequences_ids[0])
        text = self._tokenizer.decode(list(tokens))
        return Decoding(
            tokens=tuple(token for token in tokens if token < self._tokenizer.eot),
            text=text,
            temperature=temperature,
            # The score is that of the text's tokens; Whisper's average counts the end token too.
            avg_logprob=float(result.scores[0]) * len(tokens) / (len(tokens) + 1),
            compression_ratio=get_compression_ratio(text.strip()) if text.strip() else 0.0,
            no_speech_prob=float(result.no_speech_prob),
            # CTranslate2 gives at most half of the context to the text, as Whisper does.
            at_limit=len(tokens)
            >= min(self._whisper.max_length // 2, self._whisper.max_length + 1 - len(self._prompt)),
        )

    def _align(self, states: Sequence[WindowState], encoded: Any) -> None:
        """Give words to the windows whose decoding is used."""
        chosen = [self._text_of(state) for state in states]
        if not any(chosen):
            return
        # The alignment needs at least one token in each row; what it finds for the others is not used.
        filler = self._tokenizer.encode(" .")
        with self._timings.measure("align"):
            alignments = self._whisper.model.align(
                encoded,
                self._tokenizer.sot_sequence,
                [list(tokens or filler) for tokens in chosen],
                [_frames(state.window) for state in states],
            )
        for state, tokens, alignment in zip(states, chosen, alignments, strict=True):
            if tokens:
                state.words = words_of(
                    tokens,
                    alignment,
                    self._tokenizer,
                    start_ms=_ms(state.window.start),
                    end_ms=_ms(state.window.end),
                    pauses=self._pauses,
                )

    def _text_of(self, state: WindowState) -> tuple[int, ...]:
        """The tokens of the decoding that is used and has no words yet; none for silence."""
        decoding = state.decoding
        if decoding is None or is_silent(decoding, self._options) or not decoding.text.strip():
            return ()
        return decoding.tokens

    def _again_where_repeated(self, states: Sequence[WindowState]) -> None:
        """Decode windows again that say only what the one before said, at the next temperatures.

        In music and noise, Whisper often invents the same sentence for window after window.
        """
        used = [state for state in states if not state.unused]
        found = [
            (state, previous.text)
            for previous, state in itertools.pairwise(used)
            if state.cut_before is None and repeats(state.text, previous.text)
        ]
        if not found or len(self._options.temperature) == 1:
            return
        again = [WindowState(window=state.window) for state, _ in found]
        self._decode_all(again, skip=1)
        for (state, before), other in zip(found, again, strict=True):
            state.take_unless_worse(other, repeated=repeats(other.text, before))


def _batch_size(options: TranscribeOptions, device: str) -> int:
    wanted = options.batch_size if isinstance(options.batch_size, int) else BEST_BATCH[device]
    return min(wanted, LARGEST_BATCH[device])


def _frames(window: Window) -> int:
    return max(1, min(FRAMES, (window.end - window.start) * 100 // SAMPLE_RATE))


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE


def _samples(ms: int) -> int:
    return ms * SAMPLE_RATE // 1000
