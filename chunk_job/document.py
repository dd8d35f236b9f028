"""The base of every document that crosses a process or a bucket, and the ranges of the values in them.

Touches: nothing. Every document is frozen, strict and closed: an unknown field or schema is an error. Times are ``int``
milliseconds in memory; in JSON they are seconds under Whisper's own names (``start``, ``end``), which :data:`Seconds`
converts.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import core_schema

from chunk_job.errors import DocumentInvalid

MAX_AUDIO_MS = 1001 * 3_600_000
"""Longest recording, in ms: what the intake decodes of one file at most, and an hour to spare."""

MAX_SPANS = 400_000
"""More spans than any plan has: the longest recording in the shortest chunks."""


class Document(BaseModel):
    """Base of everything that crosses a process or a bucket."""

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
    """Longest encoding of such a document. What is longer is refused before it is parsed."""

    def encode(self) -> bytes:
        """The document as UTF-8 JSON. Equal documents give equal bytes: field order is declaration order."""
        return self.model_dump_json().encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The document in *data*. Raises :class:`DocumentInvalid` with the first thing that is wrong."""
        if len(data) > cls.max_bytes:
            raise DocumentInvalid(f"{cls.__name__}: {len(data)} bytes are more than {cls.max_bytes}")
        try:
            document = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "document"
            raise DocumentInvalid(f"{cls.__name__}: {place}: {first['msg']}") from error
        # Code need not repeat it; what comes from outside must say what it is.
        if "schema_" in cls.model_fields.keys() - document.model_fields_set:
            raise DocumentInvalid(f"{cls.__name__}: schema: Field required")
        return document


class _SecondsInJson:
    """JSON says seconds, Python says milliseconds; what stays in Python pays for no conversion."""

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

# Ranges of everything that comes from outside: no number overflows a sum or a float, no text fills a memory, and what
# becomes a part of a path can lead nowhere.
RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""A run's identity: the beginning of a digest."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SpanIndex = Annotated[int, Field(ge=0, lt=MAX_SPANS)]
Attempt = Annotated[int, Field(ge=1, le=1_000_000)]
Milliseconds = Annotated[int, Field(ge=0, le=MAX_AUDIO_MS)]
"""A length or a place in a recording."""
ElapsedMs = Annotated[int, Field(ge=0, le=10**10)]
"""Time that work took: four months at most."""
Count = Annotated[int, Field(ge=0, le=1 << 53)]
"""Any other number that is counted, sizes in bytes and times since the epoch among them."""
Score = Annotated[float, Field(ge=-1e6, le=1e6)]
"""What a model says of its own words: probabilities and their like."""
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
ObjectKey = Annotated[str, Field(min_length=1, max_length=1024)]
Line = Annotated[str, Field(max_length=8_000)]
"""A sentence for people, or what a tool said."""
