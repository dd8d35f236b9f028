"""What a command checks and reports for CI, and what its quality gates measure.

Touches: the store, the files of references.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event

from chunk_job.store.base import Store
from controller.cli.caption_options import CaptionOptions
from controller.domain import stored_documents
from controller.domain.captions import CaptionStyle
from controller.domain.documents import Request
from controller.domain.interfaces import RunOutcome
from controller.domain.keys import RunKeys
from controller.evaluation.pairs import References
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.gates import NO_MEASURES, Gates, Measures
from controller.runs.transcript_files import TranscriptFiles


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What the options choose."""

    junit: str | None = None
    dotenv: str | None = None
    events: str | None = None
    gates: Gates = field(default_factory=Gates)
    prices: Prices = NO_PRICES
    references: References | None = None
    captions: CaptionOptions | None = None
    """How the command makes captions; None: as each run was asked to."""
    began: Event = field(default_factory=Event, compare=False)
    """Set when the command writes its reports at its end itself, also by an error."""

    def measures(self, store: Store, outcome: RunOutcome, transcript: TranscriptFiles | None) -> Measures:
        """What gates of the words need, of a run in a store. Raises :class:`StoreUnavailable`."""
        return self.measures_of(outcome, transcript, partial(self._captions_of, store, outcome.run))

    def measures_of(
        self,
        outcome: RunOutcome,
        transcript: TranscriptFiles | None,
        captions: Callable[[], tuple[CaptionStyle | None, Sequence[str]]],
    ) -> Measures:
        """What gates of the words need. *captions*: their style, and the names of speakers in them.

        Raises :class:`StoreUnavailable`.
        """
        if transcript is None:
            return Measures(why="its transcript is gone")
        # Imported here: without these gates, nothing of it is needed.
        from controller.reports.gate_measures import captions_of, errors_of

        found = errors_of(self.references, outcome, transcript) if self.references else NO_MEASURES
        if self.gates.captions_profile is None:
            return found
        return replace(found, captions=captions_of(transcript, *captions(), self.gates.captions_profile))

    def _captions_of(self, store: Store, run: str) -> tuple[CaptionStyle | None, Sequence[str]]:
        """The style of captions, and the names of speakers in them."""
        if self.captions:
            return self.captions.style, self.captions.speakers
        request = stored_documents.valid(store, Request, RunKeys(run).request)
        outputs = request.outputs if request else ()
        return (outputs[0].captions, outputs[0].speakers) if outputs else (None, ())
