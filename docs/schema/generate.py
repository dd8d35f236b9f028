# ruff: noqa: INP001
"""Write the JSON Schema of every document that crosses a process or a bucket beside this file.

python docs/schema/generate.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from chunk_job.contract import ChunkResult, ChunkTask, JobFailure, Language
from chunk_job.document import Document
from chunk_job.kernels import CompiledKernels
from chunk_job.model_manifest import ModelManifest, Verified
from controller.domain.attempt_documents import Attempts
from controller.domain.batches import BatchEnd, BatchEntry, BatchRecord, BatchWorker
from controller.domain.command_events import CommandEvent
from controller.domain.correction_documents import Correction
from controller.domain.documents import (
    Evidence,
    Final,
    KnownFile,
    LeaseRecord,
    LocalRequest,
    Outcome,
    Report,
    Request,
    Round,
    RunRecord,
    Status,
)
from controller.domain.plan import Plan
from controller.domain.playback import Playback
from controller.domain.service_documents import (
    InboxCursor,
    ReplicaRecord,
    RequestEnd,
    RequestEvent,
    RequestState,
    ServiceRequest,
    Upload,
)
from controller.domain.usage_documents import RemovedUsage, UsageReport
from controller.domain.waveform import WaveformHeader
from controller.domain.webhook_documents import Delivery
from controller.domain.written_output import WrittenOutput
from controller.evaluation.documents import Evaluation
from controller.runs.fetched_transcripts import FetchedTranscript
from controller.transcript.model import Transcript

DOCUMENTS: tuple[type[Document], ...] = (
    ChunkTask,
    ChunkResult,
    Language,
    JobFailure,
    CompiledKernels,
    ModelManifest,
    Verified,
    RunRecord,
    Request,
    KnownFile,
    LocalRequest,
    WrittenOutput,
    FetchedTranscript,
    Round,
    LeaseRecord,
    Evidence,
    Attempts,
    Playback,
    WaveformHeader,
    Plan,
    Final,
    Outcome,
    Report,
    UsageReport,
    RemovedUsage,
    Status,
    Transcript,
    Evaluation,
    Correction,
    BatchRecord,
    BatchEntry,
    BatchEnd,
    BatchWorker,
    CommandEvent,
    ServiceRequest,
    RequestState,
    RequestEnd,
    RequestEvent,
    Upload,
    InboxCursor,
    ReplicaRecord,
    Delivery,
)
FOLDER = Path(__file__).parent


class _Written(GenerateJsonSchema):
    """A field is always written, also one that has a default, unless it says when not; its name is title enough."""

    def field_is_required(self, field: Any, *_: Any, **__: Any) -> bool:
        left_out = field["type"] == "typed-dict-field" and field.get("required") is False
        return not left_out and "serialization_exclude_if" not in field

    def field_title_should_be_set(self, _: Any) -> bool:
        return False


def name_of(document: type[Document]) -> str:
    """Its name in ``schema``, without the version: the name of its file."""
    return str(document.model_fields["schema_"].default).removeprefix("stenofleet.").partition("/")[0]


def schema_of(document: type[Document]) -> str:
    """What the documents that the code writes look like."""
    drawn = document.model_json_schema(by_alias=True, mode="serialization", schema_generator=_Written)
    for part in (drawn, *drawn.get("$defs", {}).values()):
        # What follows the first paragraph speaks to who changes the code.
        part["description"] = " ".join(part["description"].partition("\n\n")[0].split())
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **drawn}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    for document in DOCUMENTS:
        path = FOLDER / f"{name_of(document)}.json"
        path.write_text(schema_of(document), encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
