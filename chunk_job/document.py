"""The base class of all documents that processes exchange or store, and the ranges of their values.

Touches: nothing. Every document is immutable and strict: an unknown field or schema is an error. Times are ``int``
milliseconds in memory. In JSON they are seconds with Whisper's names (``start``, ``end``); :data:`Seconds` converts
them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import core_schema

from chunk_job.errors import DocumentInvalid

MAX_AUDIO_MS = 1001 * 3_600_000
"""Longest recording, in ms: the decoding limit of the intake plus one hour."""

MAX_SPANS = 400_000
"""More spans than any plan has: the longest recording with the shortest chunks."""


class Document(BaseModel):
    """Base class of all documents that processes exchange or store."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    max_bytes: ClassVar[int] = 64 << 10
    """Largest size of the encoded document. A larger one is refused before it is parsed."""

    def encode(self) -> bytes:
        """The document as UTF-8 JSON. Equal documents give equal bytes: field order is declaration order."""
        return self.model_dump_json().encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse and validate the document in *data*. Raises :class:`DocumentInvalid` with the first error."""
        if len(data) > cls.max_bytes:
            raise DocumentInvalid(f"{cls.__name__}: {len(data)} bytes are more than {cls.max_bytes}")
        try:
            document = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"]) or "document"
            raise DocumentInvalid(f"{cls.__name__}: {path}: {first['msg']}") from error
        # The schema has a default for use in code, but documents from outside must contain it.
        if "schema_" in cls.model_fields.keys() - document.model_fields_set:
            raise DocumentInvalid(f"{cls.__name__}: schema: Field required")
        return document


class _SecondsInJson:
    """Seconds in JSON, milliseconds in Python. Values are converted only when JSON is read or written."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> core_schema.CoreSchema:
        seconds = core_schema.float_schema(ge=0, le=MAX_AUDIO_MS / 1000, strict=True, allow_inf_nan=False)
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(lambda value: round(value * 1000), seconds),
            python_schema=core_schema.int_schema(ge=0, le=MAX_AUDIO_MS, strict=True),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda ms: ms / 1000, return_schema=core_schema.float_schema(), when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _: Any, __: Any) -> dict[str, Any]:
        return {"type": "number", "minimum": 0, "maximum": MAX_AUDIO_MS / 1000}


Seconds = Annotated[int, _SecondsInJson]
"""Milliseconds in memory, seconds with three decimals in JSON."""

# Ranges of all values from outside: no number overflows a sum or a float, no text fills the memory, and values that
# become parts of paths cannot leave a folder.
RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""The id of a run: the first 16 digits of a digest."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SpanIndex = Annotated[int, Field(ge=0, lt=MAX_SPANS)]
Attempt = Annotated[int, Field(ge=1, le=1_000_000)]
Milliseconds = Annotated[int, Field(ge=0, le=MAX_AUDIO_MS)]
"""A length or a position in a recording."""
ElapsedMs = Annotated[int, Field(ge=0, le=10**10)]
"""A measured duration: at most four months."""
Count = Annotated[int, Field(ge=0, le=1 << 53)]
"""Any other count, also sizes in bytes and times since the epoch."""
Score = Annotated[float, Field(ge=-1e6, le=1e6)]
"""A score of the model, for example a probability."""
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
ObjectKey = Annotated[str, Field(min_length=1, max_length=1024)]
Line = Annotated[str, Field(max_length=8_000)]
"""A sentence for users, or a message of another program."""
