"""Transcripts that were written to the store before.

Touches: the store. A transcript that comes back is rendered again rather than copied, and only where it is one of the
run that asks for it.
"""

from __future__ import annotations

from chunk_job.contract import sha256_hex
from chunk_job.document import MAX_AUDIO_MS
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import ObjectMissing, Store
from controller.domain import stored_documents
from controller.domain.documents import Final, RunRecord
from controller.domain.keys import RunKeys
from controller.domain.plan import Plan, longest_recording_ms
from controller.transcript.model import Transcript, longest_transcript_bytes


def stored(store: Store, record: RunRecord) -> Transcript | None:
    """The transcript of a run in its store; None where there is none that is whole and of this run."""
    keys = RunKeys(record.run)
    try:
        plan = stored_documents.valid(store, Plan, keys.plan)
        longest_ms = plan.duration_ms + plan.offset_ms if plan else MAX_AUDIO_MS
        limit = longest_transcript_bytes(min(longest_ms, longest_recording_ms(record.size_bytes)))
        data = store.get(keys.transcript("json"), max_bytes=limit)
        transcript = Transcript.decode(data)
    except (ObjectMissing, DocumentInvalid):
        return None
    final = stored_documents.valid(store, Final, keys.final)
    if final and final.outputs.get("json") != sha256_hex(data):
        return None
    return transcript if transcript.is_of(record) else None
