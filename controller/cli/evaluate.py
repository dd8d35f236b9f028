"""``evaluate``: how transcripts differ from their references.

Touches: the files that are compared, and those that are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import click

from chunk_job.text import printable
from controller.cli import options as shared
from controller.cli.evaluation_lines import lines
from controller.cli.execute import GATE_FAILED
from controller.cli.gate_options import max_wer_option
from controller.cli.option_values import Count, Place
from controller.cli.output_options import check_replaced
from controller.cli.terminal import print_data, print_message
from controller.evaluation import csv_table
from controller.evaluation.documents import MOST_PASSAGES, Evaluation, NotMeasured, line
from controller.evaluation.measure import Comparison, Files, compare, evaluation
from controller.evaluation.normalize import Normalizer, NotComparable
from controller.evaluation.pairs import pairs
from controller.evaluation.read import read_text
from controller.reports.evaluation_page import GENERATOR, page
from controller.reports.gates import judge_errors
from controller.runs.outputs import write_output
from controller.runs.transcript_files import PrivateFolder, disk_errors

SOME, NONE = 4, 5
"""Exit codes where some or all files could not be compared."""


@click.command("evaluate")
@click.argument("transcripts", type=Place(path_type=Path))
@click.argument("references", type=Place(path_type=Path))
@shared.option(
    "--normalize",
    type=click.Choice(["auto", "none", "basic", "english"]),
    default="auto",
    show_default=True,
    help="Which differences are no errors. basic: case and punctuation; english: also contractions, spelling, numbers;"
    " auto: english for English, else basic.",
)
@shared.option(
    "--worst",
    type=Count(0, MOST_PASSAGES),
    default=10,
    show_default=True,
    metavar="N",
    help="How many passages with most errors are shown of each recording.",
)
@shared.option("-o", "--output", type=Place(), metavar="FILE|s3://…", help="Also write it as one HTML file.")
@shared.option("--csv", type=Place(), metavar="FILE|s3://…", help="Also write a table: a row for each recording.")
@shared.option("--overwrite", is_flag=True, help="Also replace files that another program wrote.")
@max_wer_option
@shared.json_option
def evaluate_command(
    transcripts: Path,
    references: Path,
    normalize: Normalizer | Literal["auto"],
    worst: int,
    output: str | None,
    csv: str | None,
    *,
    overwrite: bool,
    max_wer: float | None,
    as_json: bool,
) -> int:
    """Compare TRANSCRIPTS with REFERENCES: word and character error rates, and where the errors are.

    Both are a file, or a folder whose files are matched by their names without suffix. Transcripts are best the JSON of
    stenofleet: it says where chunks were cut, and who speaks. JSON of Whisper, srt, vtt and txt are taken too.
    """
    for path, what, ours in ((output, "evaluation", _is_page), (csv, "table", csv_table.is_table)):
        if path:
            check_replaced(path, what, ours, overwrite=overwrite)
    found = pairs(transcripts, references)
    compared: list[Comparison] = []
    failed = [(str(path), why) for path, why in found.alone]
    for transcript, reference in found.found:
        files = Files(transcript.stem, str(transcript), str(reference))
        try:
            compared.append(_compared(files, normalize, worst))
        except NotComparable as error:
            failed.append((str(transcript), str(error)))
    result = evaluation(compared, (NotMeasured(name=line(name), why=line(why)) for name, why in failed))
    if output:
        _write(output, page(result))
    if csv:
        _write(csv, csv_table.rows(result))
    for one in result.not_measured:
        print_message(f"{one.name}: not compared: {one.why}")
    if as_json:
        print_data(printable(result.encode().decode().rstrip("\n")), exact=True)
    else:
        for each in lines(result):
            print_data(each)
    return _code(result, max_wer)


def _compared(files: Files, normalize: Normalizer | Literal["auto"], worst: int) -> Comparison:
    texts = []
    for path in (files.reference, files.transcript):
        try:
            texts.append(read_text(Path(path)))
        except NotComparable as error:
            raise NotComparable(f"{path}: {error}") from error
    return compare(texts[0], texts[1], files, normalizer=normalize, worst=worst)


def _code(result: Evaluation, max_wer: float | None) -> int:
    if not result.recordings:
        return NONE
    judged = [(one, judge_errors(max_wer, one)) for one in result.recordings] if max_wer is not None else []
    above = [(one, gate) for one, gate in judged if not gate.kept]
    for one, gate in above:
        print_message(f"{one.name}: {gate.gate}: {gate.text}")
    return SOME if result.not_measured else GATE_FAILED if above else 0


def _is_page(head: bytes) -> bool:
    return GENERATOR.encode() in head


def _write(path: str, parts: Iterable[str]) -> None:
    with disk_errors("an evaluation"):
        folder = PrivateFolder()
        fresh = folder.path / "evaluation"
        with fresh.open("xb") as file:
            file.writelines(part.encode() for part in parts)
    write_output(path, fresh)
