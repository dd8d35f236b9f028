"""Terms for a glossary from corrections."""

from chunk_job import glossary
from controller.transcript.corrections import Corrections, machine_line
from controller.transcript.glossary_suggestions import suggestions
from tests import fakes
from tests.controller.transcript.test_corrections import made

TEXTS = [
    (" Ms Cat met doctor who.", "Ms Katz met Dr. Who."),
    (" then cat said it", "then Katz said it"),
    (" its a nice day", "it's a nice day"),
    (" and so on", "and something that is completely different"),
    (" we use cube control", "we use kubectl 1.31"),
    (" a = b", "a equals = b"),
    (" no change", "no change"),
]


def test_names_come_first_then_the_most_frequent_words() -> None:
    segments = [
        fakes.segment((text, 1_000 * at, 1_000 * at + 900)).model_copy(update={"id": at})
        for at, (text, _) in enumerate(TEXTS)
    ]
    lines = [machine_line(segment) for segment in segments]
    written = [
        made(at + 1, text, segment=0).model_copy(
            update={"segment": at, "start_ms": line.start_ms, "end_ms": line.end_ms, "machine_text": line.text}
        )
        for at, ((_, text), line) in enumerate(zip(TEXTS, lines, strict=True))
    ]
    found = suggestions(Corrections(written, lines).lines.values())
    assert [(one.line, one.segments, one.is_name) for one in found] == [
        ("Katz = cat", 2, True),
        ("Dr = doctor", 1, True),
        ("kubectl 1.31 = cube control", 1, True),
        ("it's = its", 1, False),
    ]
    assert all(glossary.checked(one.line) == one.line for one in found)


def suggested(before: str, after: str) -> list[str]:
    segment = fakes.segment((f" {before}", 0, 900))
    line = machine_line(segment)
    known = {"start_ms": line.start_ms, "end_ms": line.end_ms, "machine_text": line.text, "text": after}
    written = made(1, "").model_copy(update=known)
    return [one.line for one in suggestions(Corrections([written], [line]).lines.values())]


def test_long_runs_of_punctuation_and_repeated_words_are_no_work() -> None:
    # Each of these would take hours if its time grew with the square of the text: no correction is that long.
    assert suggested("cat", f"a{'!' * 4_000_000}b") == []
    assert suggested("cat and dog", f"cat and {'!' * 4_000_000} Doug") == ["Doug = dog"]
    assert suggested(" ".join("ab" * 190), " ".join("acb" * 130)) == []
    assert suggested(" ".join(["so"] * 40 + ["cat"]), " ".join(["so"] * 40 + ["Katz"])) == ["Katz = cat"]
