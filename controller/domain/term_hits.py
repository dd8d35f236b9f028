"""How often a term of the glossary is in a transcript.

Touches: nothing.
"""

from __future__ import annotations

from pydantic import Field

from chunk_job.document import Count, Document
from chunk_job.glossary import LONGEST_LINE


class TermHits(Document):
    """A term, and how often it is in the transcript as whole words, ignoring case."""

    term: str = Field(max_length=LONGEST_LINE)
    hits: Count
