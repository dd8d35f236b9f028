"""How good it is to end a line or a cue between two words.

Touches: nothing. A cost of 0 is the end of a sentence; :data:`INSIDE` is used only where nothing else fits.
"""

from __future__ import annotations

import re

from controller.transcript.captions.phrases import (
    ABBREVIATIONS,
    CONJUNCTIONS,
    LABELS,
    MAGNITUDES,
    MONTHS,
    NUMBER_WORDS,
    PREPOSITIONS,
    SMALL_WORDS,
    TITLES,
)
from controller.transcript.captions.tokens import Token

INSIDE = 400.0
"""The cost of a break inside a number, or between a title and its name."""
SENTENCE = 0.0
_CLAUSE = 5.0
_BEFORE_CONJUNCTION = 9.0
_BEFORE_PREPOSITION = 12.0
_PHRASE = 18.0
_AFTER_SMALL_WORD = 14.0
"""Added after an article, a preposition or a conjunction, which belongs to the words after it."""
_INSIDE_NAME = 14.0
"""Added between two words with capitals."""
_LONGEST_PAUSE_MS = 800
_PAUSE_MS = 80
"""Each such part of a pause makes a break better by one."""

_SENTENCE_END = re.compile(r"[.!?…。！？｡؟۔।॥។။][\"'”’»)\]」』）]*$")
_CLAUSE_END = re.compile(r"[,;:،؛、，；：—–][\"'”’»)\]」』）]*$|^-+$")
# "Dr.", but also "J." and "U.S.", which end no sentence.
_INITIAL = re.compile(r"^[\"'“‘«(\[]*(?:[^\W\d_]\.)+$")
_DIGITS = re.compile(r"\d")
_NUMBER_START = re.compile(r"^[(\[]?[$€£¥#№§+±-]*[.,:]?\d")
_NUMBER_END = re.compile(r"\d[.,:/]?$")
_DAY = re.compile(r"^\d{1,2}(?:st|nd|rd|th|er|º|\.)?$")
_JOINT = re.compile(r"^(?:[$€£¥#№§+±×x=%‰°/.,:*-]|[$€£¥]\d*)$", re.IGNORECASE)
_UNITS = re.compile(
    r"^(?:%|‰|°[CF]?|percent|per cent|million|billion|trillion|thousand|hundred|millionen|milliarden|millions|mil|"
    r"millones|milhões|prozent|euros?|dollars?|pounds?|cents?|kg|g|mg|t|km|m|cm|mm|l|ml|mph|km/h|hz|khz|mhz|ghz|kb|mb|"
    r"gb|tb|kw|mw|v|w|a\.?m\.?|p\.?m\.?|hours?|minutes?|seconds?|years?|degrees?|uhr|grad)[.,;:!?]*$",
    re.IGNORECASE,
)


def break_cost(before: Token, after: Token) -> float:
    """The cost of a break between two words that follow each other."""
    if _is_number(before.text, after.text) or _is_title(before.text, after.text):
        return INSIDE
    pause = min(_LONGEST_PAUSE_MS, max(0, after.start_ms - before.end_ms)) / _PAUSE_MS
    if ends_sentence(before.text):
        return SENTENCE
    if _CLAUSE_END.search(before.text):
        return max(1.0, _CLAUSE - pause)
    return max(2.0, _inside_clause(before.text, after.text) - pause)


def ends_sentence(text: str) -> bool:
    """Whether a sentence ends with this word."""
    if not _SENTENCE_END.search(text):
        return False
    word = text.lower()
    return not (_INITIAL.match(text) or word in ABBREVIATIONS or word in TITLES)


def continues_name(before: Token, between: Token, after: Token) -> bool:
    """Whether three words are a title, a first name and a family name."""
    return _is_title(before.text, between.text) and _is_capital(after.text) and _is_open(between.text)


def continues_number(before: Token, between: Token, after: Token) -> bool:
    """Whether three words are the inside of a number: ``hundred and fifty``. Not ``ten and twenty``, which are two."""
    return before.text.lower() in MAGNITUDES and between.text.lower() == "and" and _bare(after.text) in NUMBER_WORDS


def _inside_clause(before: str, after: str) -> float:
    first, last = _bare(after), _bare(before)
    if first in CONJUNCTIONS:
        cost = _BEFORE_CONJUNCTION
    elif first in PREPOSITIONS:
        cost = _BEFORE_PREPOSITION
    else:
        cost = _PHRASE
    if last in SMALL_WORDS:
        cost += _AFTER_SMALL_WORD
    if _is_capital(before) and _is_capital(after) and _is_open(before):
        cost += _INSIDE_NAME
    return cost


def _is_number(before: str, after: str) -> bool:
    """Whether a break would be inside a number: ``10 000``, ``$ 5``, ``50 %``, ``No. 5``, ``3 May``, ``two ten``."""
    starts, ends = _NUMBER_START.match(after), _NUMBER_END.search(before)
    if ends and starts:
        return not before.endswith((",", ":")) or len(before) < 2
    if ends and before[-1:].isdigit() and (_JOINT.match(after) or _UNITS.match(after)):
        return True
    if starts and (_JOINT.match(before) or before.lower() in LABELS or before in MONTHS):
        return True
    if _DAY.match(before) and after.rstrip(".,;:!?") in MONTHS:
        return True
    return before.lower() in NUMBER_WORDS and _bare(after) in NUMBER_WORDS


def _is_title(before: str, after: str) -> bool:
    return before.lower().lstrip("\"'“‘«([") in TITLES and before[:1] != before[:1].lower() and _is_capital(after)


def _is_capital(text: str) -> bool:
    bare = text.lstrip("\"'“‘«([")
    return bool(bare) and bare[0].isupper() and bare != "I" and not bare.startswith("I'")


def _is_open(text: str) -> bool:
    """Whether no punctuation is at the end, except the point of an initial."""
    return text[-1:].isalnum() or bool(_INITIAL.match(text)) or text.lower() in TITLES


def _bare(text: str) -> str:
    return text.strip("\"'“”‘’«»()[].,;:!?…").lower()
