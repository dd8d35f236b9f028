"""The runs of a command as JUnit XML: a suite for each recording, a case for each chunk and each quality gate.

Touches: the file that is written, temporary files. Texts may have characters that XML cannot: all are escaped.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from chunk_job.text import masked, masked_name, printable, shown
from controller.domain.interfaces import RunOutcome
from controller.reports import run_view
from controller.reports.figures import clock, lost_attempts
from controller.reports.gates import GateResult
from controller.reports.run_view import ChunkView, RunView
from controller.runs.outputs import write_output
from controller.runs.transcript_files import PrivateFolder, disk_errors

Suite = TestSuite
_RECORDING = "recording"
_SUMS = ("tests", "failures", "errors", "skipped")
_DECLARATION = b"<?xml version='1.0' encoding='utf-8'?>\n"


def suite(outcome: RunOutcome, view: RunView | None, judged: Sequence[GateResult] = ()) -> Suite:
    """The suite of a recording. *view*: None where it did not become a run, or its run is not in the store."""
    name = _name(outcome)
    made = TestSuite(name)
    for field, value in (("run", outcome.run), ("verdict", outcome.verdict), ("summary", outcome.summary)):
        if value:
            made.add_property(field, _line(value))
    for warning in outcome.warnings:
        made.add_property("warning", _line(warning))
    cases = [*(_chunks(name, view) if view else ()), *(_gate(name, one) for one in judged)]
    if outcome.verdict not in ("complete", "partial") and not any(_failed(case) for case in cases):
        cases.insert(0, _whole(name, outcome, view))
    made.add_testcases(cases or [TestCase(_RECORDING, classname=name)])
    return made


def left_out(name: str, why: str, *, not_named: int = 0) -> Suite:
    """The suite of a recording that was not worked on. *not_named*: of so many that have no suite of their own."""
    title = printable(masked_name(name))
    made, case = TestSuite(title), TestCase(_RECORDING, classname=title)
    if not_named:
        made.add_property("not_named", str(not_named))
    case.result = [Skipped(message=_line(why))]
    made.add_testcase(case)
    return made


def write(path: str, suites: Iterable[Suite]) -> None:
    """Write the file or object, complete or not at all. *suites* are written one by one: there may be many.

    Raises :class:`EnvironmentProblem` if it cannot be written, and :class:`StoreUnavailable`.
    """
    sums, time_s = Counter[str](), 0.0
    with disk_errors("a report"):
        folder = PrivateFolder()
        body, fresh = folder.path / "suites.xml", folder.path / "junit.xml"
        file = body.open("xb")
    with file:
        for one in suites:
            one.update_statistics()  # type: ignore[no-untyped-call]
            sums.update({name: getattr(one, name) for name in _SUMS})
            time_s += one.time
            with disk_errors("a report"):
                file.write(_element(one))
    whole = JUnitXml("stenofleet")
    for name in _SUMS:
        setattr(whole, name, sums[name])
    whole.time = round(time_s, 3)
    with disk_errors("a report"), fresh.open("xb") as document, body.open("rb") as inside:
        document.write(_DECLARATION + _element(whole).removesuffix(b" />") + b">\n")
        shutil.copyfileobj(inside, document)
        document.write(b"</testsuites>\n")
    write_output(path, fresh)


def _element(one: JUnitXml | Suite) -> bytes:
    """An element as XML, without the declaration."""
    text: bytes = one.tostring()  # type: ignore[no-untyped-call]
    return text


def _name(outcome: RunOutcome) -> str:
    return printable(masked_name(outcome.source or outcome.name))


def _line(text: str) -> str:
    return masked(printable(text))


def _failed(case: TestCase) -> bool:
    return any(isinstance(result, Failure | Error) for result in case.result)


def _whole(name: str, outcome: RunOutcome, view: RunView | None) -> TestCase:
    """What went wrong with the recording as a whole."""
    case = TestCase(_RECORDING, classname=name)
    intake = view.grid.intake[-1:] if view else ()
    if intake:
        case.result = [_failure(intake[-1])]
        return case
    kind = "environment" if outcome.environment else outcome.verdict
    error = Error(message=_line(outcome.summary or outcome.verdict), type_=kind)
    error.text = shown("\n".join(filter(None, (outcome.summary, outcome.advice))))
    case.result = [error]
    return case


def _chunks(name: str, view: RunView) -> Iterator[TestCase]:
    for chunk in view.grid.chunks:
        title = f"chunk {chunk.index:05d} {clock(chunk.start_ms)} - {clock(chunk.end_ms)}"
        case = TestCase(title, classname=name, time=(chunk.job_ms or 0) / 1000)
        if chunk.state == "lost":
            case.result = [_failure(chunk.failures[-1])] if chunk.failures else [Failure("no result", "no-result")]
        elif chunk.state != "done":
            case.result = [Skipped(message="the run ended before this chunk was transcribed")]
        if chunk.state == "done" and chunk.failed:
            case.system_out = _before(chunk)
        yield case


def _before(chunk: ChunkView) -> str:
    """What failed before a chunk was transcribed."""
    texts = [lost_attempts(chunk.lost_attempts)] if chunk.lost_attempts else []
    texts += (
        f"attempt {', '.join(map(str, one.attempts))} failed ({one.failure}): {one.summary}" for one in chunk.failures
    )
    return shown("\n".join(texts))


def _failure(one: run_view.Failure) -> Failure:
    made = Failure(message=_line(one.summary), type_=one.failure)
    where = f"attempt {', '.join(map(str, one.attempts))}" + (f" on {', '.join(one.nodes)}" if one.nodes else "")
    lines = [line for line in one.lines if one.summary not in line]
    made.text = shown("\n".join([where, one.summary, *filter(None, [one.advice]), *lines]))
    return made


def _gate(name: str, judged: GateResult) -> TestCase:
    case = TestCase(f"gate {judged.title}", classname=name)
    if not judged.kept:
        case.result = [Failure(message=_line(judged.text), type_="quality-gate")]
    return case
