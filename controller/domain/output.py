"""Where a command writes a transcript, and in which formats.

Touches: nothing.
"""

from __future__ import annotations

import re
import string
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from chunk_job.document import Document
from chunk_job.segment import MOST_CHANNELS, Speaker
from controller.domain.captions import CaptionStyle

Format = Literal["txt", "srt", "vtt", "tsv", "json", "ass", "lrc"]
"""Every output format; files with other extensions are never written. ``all`` has neither ``ass`` nor ``lrc``."""


def _without_nul(uri: str) -> str:
    # In an object's key, a percent sign has no special meaning.
    if "\0" in uri or (uri.startswith("file:") and "%00" in uri):
        raise ValueError("the name contains a NUL")
    return uri


Uri = Annotated[str, Field(max_length=16_384, pattern=r"^(file:///|s3://[^/]+/).*$"), AfterValidator(_without_nul)]
"""``file:///…`` with an absolute path, percent-encoded (names need not be UTF-8), or ``s3://bucket/key`` as it is."""


PLAIN_NAME = "{stem}.{ext}"
"""The template of names unless another one is given."""
UNKNOWN_LANGUAGE = "und"
"""In names of files, of a transcript without speech: the code of ISO 639 for an undetermined language."""


def checked_template(template: str) -> str:
    """A template of the names of outputs, as it is. Raises :class:`ValueError`, which says what is wrong."""
    fields = []
    for _, field, spec, conversion in string.Formatter().parse(template):
        if field is not None:
            if field not in ("stem", "language", "ext") or spec or conversion:
                raise ValueError(f"{{{field}}} is not a part of a name: use {{stem}}, {{language}} and {{ext}}")
            fields.append(field)
    missing = [f"{{{name}}}" for name in ("stem", "ext") if name not in fields]
    if missing:
        raise ValueError(f"{' and '.join(missing)} is missing: files would have the same name")
    if "/" in template or not template.isprintable() or template.startswith("."):
        raise ValueError("a name contains no slash and no control characters, and starts with no point")
    return template


class Output(Document):
    """Where a command writes the transcript, and in which formats."""

    base: Uri
    """URI of the output files without their extension; the last part is the stem of the media file."""
    formats: tuple[Format, ...] = Field(min_length=1, max_length=100)
    captions: CaptionStyle | None = None
    """How captions are divided; None: one cue for each segment of the model."""
    name_template: Annotated[str, Field(max_length=200), AfterValidator(checked_template)] = PLAIN_NAME
    """How the files are named: ``{stem}`` is the end of ``base``."""
    speakers: Annotated[tuple[Speaker, ...], Field(max_length=MOST_CHANNELS)] = ()
    """Names of the speakers of channel 1, 2, …; of others, the names in the transcript are used."""

    def file_name(self, stem: str, extension: str, language: str) -> str:
        """The name of the file of one format."""
        return self.name_template.format(stem=stem, ext=extension, language=language)

    def names_in_any_language(self, stem: str | None = None) -> re.Pattern[str]:
        """Match the names of the files of all formats; of any recording if no *stem* is given."""
        values = {
            "stem": ".+" if stem is None else re.escape(stem),
            "ext": f"(?:{'|'.join(self.formats)})",
            "language": "[a-z]{2,3}",
        }
        seen: set[str] = set()
        parts = []
        for literal, field, _, _ in string.Formatter().parse(self.name_template):
            parts.append(re.escape(literal))
            if field:
                parts.append(f"(?P={field})" if field in seen else f"(?P<{field}>{values[field]})")
                seen.add(field)
        return re.compile("".join(parts), re.DOTALL)
