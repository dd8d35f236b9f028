"""The language of a run: detected by the first chunk with enough speech, and used by all others.

Touches: the store.
"""

from __future__ import annotations

import logging

from chunk_job.contract import ChunkTask, Language, TranscribeOptions
from chunk_job.crashpoint import reach
from chunk_job.engine.transcribe import LanguageDetection
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import ObjectMissing, Store

log = logging.getLogger("stenofleet.chunk_job")


class LanguageDeferred(Exception):
    """This chunk has too little speech to decide the run's language. It has written a language candidate."""


def frozen_language(store: Store, task: ChunkTask) -> tuple[TranscribeOptions, Language | None]:
    """The task's options with the run's language, and the frozen language; None if there is none yet."""
    if task.options.language is not None:
        return task.options, None
    frozen = _language(store, task)
    if frozen is None:
        return task.options, None
    return task.options.model_copy(update={"language": frozen.language}), frozen


def agree_on_language(store: Store, task: ChunkTask, detected: LanguageDetection) -> LanguageDetection:
    """Freeze the run's language and return it. The document is read back, so all chunks use the same one.

    With too little speech, write a language candidate instead and raise :class:`LanguageDeferred`.
    """
    document = Language(
        language=detected.language, probability=detected.probability, speech_ms=detected.speech_ms, span=task.span
    )
    if detected.speech_ms < task.language_min_speech_ms:
        store.put(task.language_note_key, document.encode())
        log.info("%d ms of speech are too little to decide the language: left to other chunks", detected.speech_ms)
        raise LanguageDeferred
    if _language(store, task) is None:
        store.put(task.language_key, document.encode())
        reach(f"chunk.language.{task.span:05d}")
    frozen = _language(store, task) or document
    return LanguageDetection(language=frozen.language, probability=frozen.probability, speech_ms=detected.speech_ms)


def _language(store: Store, task: ChunkTask) -> Language | None:
    """The run's frozen language; None if there is none or the document is invalid."""
    try:
        return Language.decode(store.get(task.language_key, max_bytes=Language.max_bytes))
    except (ObjectMissing, DocumentInvalid):
        return None
