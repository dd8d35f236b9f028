"""Batches of windows → text and words, through CTranslate2's ``encode``, ``generate`` and ``align``.

Touches: the GPU or the CPU. Windows are decoded without time-stamp tokens, because their rules are applied row by row
and cost more time than the decoding itself; word times come from the alignment. Every window passes Whisper's checks,
and those that fail are decoded again at the next temperature. ``complete`` decides what is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from chunk_job.contract import SAMPLE_RATE, TranscribeOptions
from chunk_job.engine.checks import Decoding, best, failed_check, is_silent, without_loop
from chunk_job.engine.device import is_out_of_memory
from chunk_job.engine.features import FRAMES
from chunk_job.engine.load import LoadedModel
from chunk_job.engine.prepare import Prepared
from chunk_job.engine.timings import Timings
from chunk_job.engine.window_state import WindowState
from chunk_job.engine.windows import Window
from chunk_job.engine.words import pauses_of, words_of

BEST_BATCH = {"cuda": 64, "cpu": 1}
"""Windows of a batch, as measured: a GPU still gains at 60; a CPU gains nothing, and each window takes memory."""

LARGEST_BATCH = {"cuda": 256, "cpu": 16}
"""On a CPU, a large batch of a large model takes so long that the job would look as if it was stuck."""

_SAMPLED_HYPOTHESES = 5
"""Texts that are sampled at a temperature above 0, of which the most probable one counts (Whisper's ``best_of``)."""

_SHORTEST_HALF = 2 * SAMPLE_RATE
"""A window with too many tokens is not cut into shorter parts than this."""


class BatchDecoder:
    """Decodes windows of one chunk with one model, several at a time."""

    def __init__(
        self,
        model: LoadedModel,
        prepared: Prepared,
        options: TranscribeOptions,
        *,
        language: str,
        timings: Timings,
        alive: Callable[[], None],
    ) -> None:
        """*alive* is called after each pass over a batch, of which there may be many."""
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        self._whisper = model.whisper
        self._prepared, self._options = prepared, options
        self._timings, self._alive = timings, alive
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
        self.temperatures = len(options.temperature)
        """How many temperatures there are to decode at."""

    def _previous_text(self) -> list[int]:
        """The end of the initial prompt: with the hotwords it may take half of the context, the text needs the rest."""
        if not self._options.initial_prompt:
            return []
        hotwords = self._tokenizer.encode(f" {self._options.hotwords.strip()}") if self._options.hotwords else []
        free = self._whisper.max_length // 2 - 1 - len(hotwords)
        return self._tokenizer.encode(f" {self._options.initial_prompt.strip()}")[-free:] if free > 0 else []

    def decode(self, states: Sequence[WindowState], *, skip: int = 0) -> None:
        """Decode windows in batches, at each temperature in turn until all pass. *skip*: temperatures left out.

        Raises RuntimeError of CTranslate2, also if the GPU has too little memory for a single window.
        """
        at = 0
        while at < len(states):
            # The size may shrink on the way.
            batch = states[at : at + self.batch_size]
            self._decode_batch(batch, skip)
            at += len(batch)

    def _decode_batch(self, states: Sequence[WindowState], skip: int) -> None:
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
        failed = failed_check(decoding, self._options, heard=self._heard(state.window))
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
        self._alive()
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
            at_limit=len(tokens) >= self._most_tokens,
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
        if decoding is None or not decoding.text.strip():
            return ()
        return () if is_silent(decoding, self._options, heard=self._heard(state.window)) else decoding.tokens

    def _heard(self, window: Window) -> bool:
        """Whether speech was detected in the window."""
        return any(start < window.end and end > window.start for start, end in self._prepared.speech.spans)


def _batch_size(options: TranscribeOptions, device: str) -> int:
    wanted = options.batch_size if isinstance(options.batch_size, int) else BEST_BATCH[device]
    return min(wanted, LARGEST_BATCH[device])


def _frames(window: Window) -> int:
    return max(1, min(FRAMES, (window.end - window.start) * 100 // SAMPLE_RATE))


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE
