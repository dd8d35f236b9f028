"""The plan of a recording, as ``stenofleet plan`` makes it."""

from controller.domain.documents import Source
from controller.domain.plan import Plan, PlanOptions
from controller.intake.dry_run import dry_run
from tests import fakes


def plan_only(
    src: Source, options: PlanOptions, *, audio_track: int | None = None, language: str | None = None
) -> Plan:
    """The plan of a recording without a store."""
    record = fakes.record(language=language)
    return dry_run(src, record.model_copy(update={"plan": options, "audio_track": audio_track})).plan
