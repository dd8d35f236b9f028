"""What a page needs to play a run and to draw its sound.

Touches: the store, media objects in S3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from controller.reports.run_view import SoundView
from controller.service.context import Service
from controller.service.media import playable
from controller.service.problems import Problem
from controller.service.request_reader import FoundRequest
from controller.service.tenant import Tenant


@dataclass(frozen=True, kw_only=True)
class Listening:
    """What a page needs to play a run."""

    media: str = ""
    """Where the sound is; empty: there is nothing to play."""
    silent: str = ""
    """Why there is nothing to play."""
    advice: str = ""
    waveform: str = ""
    """Where the waveform is; empty: there is none."""
    cuts: str = "[]"
    """``[[ms, kind, chunk that begins there], …]`` for the script, as the following ones."""
    sound: str = "[]"
    """``[[begin, end], …]`` in ms."""
    speech: str = "[]"
    gaps: str = "[]"


def listening(service: Service, tenant: Tenant, found: FoundRequest, sound: SoundView | None) -> Listening:
    """Return what the page of a request needs. Raises :class:`StoreUnavailable`."""
    place = f"/v1/runs/{found.request.id}"
    media, silent, advice = f"{place}/media", "", ""
    try:
        playable(service, tenant, found)
    except Problem as problem:
        media, silent, advice = "", problem.document.detail, problem.document.advice
    if sound is None:
        # Nothing is known of it: another run would not be heard either.
        return Listening(media=media, silent=silent and "nothing of the recording could be read")
    return Listening(
        media=media,
        silent=silent,
        advice=advice,
        waveform=f"{place}/waveform" if sound.waveform else "",
        cuts=_packed((cut.at_ms, cut.cut, cut.chunk) for cut in sound.cuts),
        sound=_packed(sound.sound or ()),
        speech=_packed(sound.speech),
        gaps=_packed(sound.gaps),
    )


def _packed(rows: Iterable[object]) -> str:
    return json.dumps(list(rows), separators=(",", ":"))
