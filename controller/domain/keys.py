"""The layout of the store: every object key is written and parsed here.

Touches: nothing.

    runs/<run>/…    small, kept: request, plan, outcome, transcripts and their corrections
    work/<run>/…    large, temporary: tasks, audio, results, evidence of failures
    written/…       small, kept: digests of the output files that were written, by output
    ledger/…        small, kept: what runs used that were removed (``ledger_keys``)
    fetched/…       small, kept on one machine: transcripts of a service that were written to an output
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from chunk_job.contract import sha256_hex

RUNS = "runs/"
WORK = "work/"
WRITTEN = "written/"
LEDGER_RUNS = "ledger/runs/"
"""Prefix of what runs used that were removed, by run."""
FETCHED = "fetched/"
MARKERS = {"complete": "_SUCCESS", "partial": "_PARTIAL", "failed": "_FAILED"}
"""The last object of a run, by verdict."""

_WORK = r"work/[0-9a-f]{16}/"
_SPAN = r"(0[0-9]{4}|[1-9][0-9]{4,6})"
"""A number as ``05d`` formats it: another spelling would be a second key for the same object."""
_ATTEMPT = r"a([1-9][0-9]{0,5})"
_RESULT = re.compile(rf"{_WORK}results/{_SPAN}/{_ATTEMPT}-([0-9A-Za-z-]{{1,64}})\.json")
_FAILURE = re.compile(rf"{_WORK}failures/(?:{_SPAN}|intake)/{_ATTEMPT}-([0-9a-f]{{8}})\.json")
_TASK = re.compile(rf"{_WORK}tasks/{_SPAN}(?:-r([1-9]))?\.json")
_CANDIDATE = re.compile(rf"{_WORK}language/{_SPAN}\.json")
_CORRECTION = re.compile(r"runs/[0-9a-f]{16}/corrections/([0-9]{6})\.json")
_RUN = re.compile(r"[0-9a-f]{16}")
_RUN_PREFIX = re.compile(r"[0-9a-fA-F]{1,16}")


class ResultKey(NamedTuple):
    """The key of one attempt's result. Sorts in the order in which winners are chosen: by attempt, then key."""

    attempt: int
    key: str
    span: int
    uid: str


class TaskKey(NamedTuple):
    """A span's task. *level* is its degradation level: above 0 if it has degraded options."""

    span: int
    level: int


@dataclass(frozen=True)
class RunKeys:
    """Every key of one run. Raises :class:`ValueError` if *run* is not a run id: it is a part of every key."""

    run: str

    def __post_init__(self) -> None:
        if not is_run(self.run):
            raise ValueError(f"not a run id: {self.run!r}")

    @property
    def home(self) -> str:
        """Prefix of the objects that are kept."""
        return f"{RUNS}{self.run}/"

    @property
    def work(self) -> str:
        """Prefix of the temporary objects."""
        return f"{WORK}{self.run}/"

    @property
    def record(self) -> str:
        """Identity, options and versions; immutable."""
        return f"{self.home}run.json"

    @property
    def request(self) -> str:
        """The latest command's request."""
        return f"{self.home}request.json"

    @property
    def round(self) -> str:
        """The current round of attempts."""
        return f"{self.home}round.json"

    @property
    def lease(self) -> str:
        """The store lease: which process works on the run, if machines share the store."""
        return f"{self.home}lead.json"

    @property
    def plan(self) -> str:
        """All spans; put when the last one is known."""
        return f"{self.home}plan.json"

    @property
    def waveform(self) -> str:
        """Peaks of the decoded audio; put before the plan."""
        return f"{self.home}waveform.bin"

    @property
    def rendition(self) -> str:
        """A small audio file for players, if one was asked for; put before the plan."""
        return f"{self.home}rendition.mp3"

    @property
    def playback(self) -> str:
        """What players can play; put before the plan."""
        return f"{self.home}playback.json"

    @property
    def status(self) -> str:
        """The progress; for people, never for decisions."""
        return f"{self.home}status.json"

    @property
    def cancel(self) -> str:
        """The presence of this object cancels the run."""
        return f"{self.home}cancel"

    @property
    def final(self) -> str:
        """The chosen result of each span."""
        return f"{self.home}final.json"

    @property
    def attempts(self) -> str:
        """When each attempt waited, started and ended; for people, never for decisions."""
        return f"{self.home}attempts.json"

    @property
    def report(self) -> str:
        """Attempts, times, usage."""
        return f"{self.home}report.json"

    @property
    def report_page(self) -> str:
        """The run as one HTML file, for people."""
        return f"{self.home}report.html"

    def transcript(self, extension: str) -> str:
        """The transcript in one format."""
        return f"{self.home}transcript.{extension}"

    @property
    def corrections(self) -> str:
        """Prefix of what people wrote in place of the model's text, in order."""
        return f"{self.home}corrections/"

    def correction(self, number: int) -> str:
        """One correction; they are counted from 1."""
        return f"{self.corrections}{number:06d}.json"

    def marker(self, verdict: str) -> str:
        """The run's last object; its presence means that the run has ended with *verdict*."""
        return f"{self.home}{MARKERS[verdict]}"

    @property
    def tasks(self) -> str:
        """Prefix of all tasks."""
        return f"{self.work}tasks/"

    def intake_task(self, digest: str) -> str:
        """The task of an intake job; another *digest* for another recording of the same content."""
        return f"{self.work}intake/{digest}.json"

    def task(self, span: int, level: int = 0) -> str:
        """The task of one span; *level* > 0 is the same task with degraded options."""
        return f"{self.tasks}{span:05d}{f'-r{level}' if level else ''}.json"

    @property
    def audios(self) -> str:
        """Prefix of the audio of all chunks."""
        return f"{self.work}audio/"

    def audio(self, span: int) -> str:
        """The FLAC file of one chunk."""
        return f"{self.audios}{span:05d}.flac"

    @property
    def language(self) -> str:
        """The run's language, frozen by the first span with enough speech."""
        return f"{self.work}language.json"

    @property
    def language_candidates(self) -> str:
        """Prefix of the languages detected in spans with too little speech to decide."""
        return f"{self.work}language/"

    def language_candidate(self, span: int) -> str:
        """The language detected in one span."""
        return f"{self.language_candidates}{span:05d}.json"

    @property
    def results(self) -> str:
        """Prefix of all results."""
        return f"{self.work}results/"

    def results_of(self, span: int) -> str:
        """Prefix of one span's results."""
        return f"{self.results}{span:05d}/"

    @property
    def failures(self) -> str:
        """Prefix of all evidence."""
        return f"{self.work}failures/"

    def failure(self, span: int | None, attempt: int, round_id: str) -> str:
        """Evidence of one failed attempt; *span* None is the intake."""
        return f"{self.failures}{'intake' if span is None else f'{span:05d}'}/a{attempt}-{round_id}.json"


def parse_result(key: str) -> ResultKey | None:
    """Parse the key of a result; None for any other key."""
    found = _RESULT.fullmatch(key)
    return ResultKey(attempt=int(found[2]), key=key, span=int(found[1]), uid=found[3]) if found else None


def parse_task(key: str) -> TaskKey | None:
    """Parse the key of a chunk task; None for any other key."""
    found = _TASK.fullmatch(key)
    return TaskKey(span=int(found[1]), level=int(found[2] or 0)) if found else None


def parse_language_candidate(key: str) -> int | None:
    """Return the span of a language candidate's key; None for any other key."""
    found = _CANDIDATE.fullmatch(key)
    return int(found[1]) if found else None


def parse_correction(key: str) -> int | None:
    """Return the number of a correction's key; None for any other key."""
    found = _CORRECTION.fullmatch(key)
    return int(found[1]) or None if found else None


def is_failure(key: str) -> bool:
    """Whether *key* belongs to the evidence of a failed attempt."""
    return _FAILURE.fullmatch(key) is not None


def is_run(text: str) -> bool:
    """Whether *text* has the form of a run id."""
    return _RUN.fullmatch(text) is not None


def is_run_prefix(text: str) -> bool:
    """Whether *text* can be the beginning of a run id, in any case of letters."""
    return _RUN_PREFIX.fullmatch(text) is not None


def run_of(key: str) -> str | None:
    """Return the run to which a key of a run, of its work or of the ledger belongs; None for any other key."""
    home = next((home for home in (RUNS, WORK, LEDGER_RUNS) if key.startswith(home)), None)
    name = key.removeprefix(home).partition("/")[0] if home else ""
    return name if is_run(name) else None


def written_key(base: str) -> str:
    """The key of what was written to the output with this *base*."""
    return _output_key(WRITTEN, base)


def fetched_key(base: str) -> str:
    """The key of the transcript of a service that was written to the output with this *base*."""
    return _output_key(FETCHED, base)


def _output_key(prefix: str, base: str) -> str:
    digest = sha256_hex(base.encode(errors="surrogateescape"))
    return f"{prefix}{digest[:2]}/{digest[2:32]}.json"
