"""Text of the synthetic corpus: two small languages made of number words, letters and everyday words.

The tests take their sentences from here too, so this module needs nothing but the standard library.
The order of the words and of the random draws is part of the recipe: a changed order is another corpus.
"""

# ruff: noqa: SIM905 - a word list reads best as text

import random
from collections.abc import Callable
from typing import Literal

Language = Literal["en", "pt"]
Words = list[str]

EN_UNITS: Words = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen
""".split()
EN_TENS: Words = "twenty thirty forty fifty sixty seventy eighty ninety".split()
EN_WORDS: Words = """
alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec
romeo sierra tango uniform victor whiskey xray yankee zulu
red green blue yellow black white orange purple
monday tuesday wednesday thursday friday saturday sunday
january february march april june july august september october december
the code is chapter page item at on and minus point degrees start stop yes no left right up down
north south east west end
""".split()

PT_UNITS: Words = """
zero um dois três quatro cinco seis sete oito nove dez onze doze treze quatorze quinze dezesseis
dezessete dezoito dezenove
""".split()
PT_TENS: Words = "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa".split()
PT_HUNDREDS: Words = """
cento duzentos trezentos quatrocentos quinhentos seiscentos setecentos oitocentos novecentos
""".split()
PT_WORDS: Words = """
vermelho verde azul amarelo preto branco laranja roxo
segunda terça quarta quinta sexta sábado domingo
janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro
código é capítulo página item menos ponto graus sim não esquerda direita norte sul leste oeste começo fim
""".split()

VOCAB: dict[Language, Words] = {
    "en": EN_UNITS + EN_TENS + EN_WORDS + ["hundred", "thousand"],
    "pt": PT_UNITS + PT_TENS + PT_WORDS + PT_HUNDREDS + ["cem", "mil", "e"],
}
HEADS: dict[Language, list[Words]] = {
    "en": [["chapter"], ["page"], ["item"], ["the", "code", "is"]],
    "pt": [["capítulo"], ["página"], ["item"], ["código"]],
}


def number_en(n: int) -> Words:
    """Spell 0 <= n < 1 000 000 in English words."""
    if n < 20:
        return [EN_UNITS[n]]
    if n < 100:
        return [EN_TENS[n // 10 - 2], *(number_en(n % 10) if n % 10 else [])]
    if n < 1000:
        return [EN_UNITS[n // 100], "hundred", *(number_en(n % 100) if n % 100 else [])]
    return [*number_en(n // 1000), "thousand", *(number_en(n % 1000) if n % 1000 else [])]


def number_pt(n: int) -> Words:
    """Spell 0 <= n < 1 000 000 in Portuguese words, every part joined by "e"."""
    if n < 20:
        return [PT_UNITS[n]]
    if n < 100:
        return [PT_TENS[n // 10 - 2], *(["e", *number_pt(n % 10)] if n % 10 else [])]
    if n == 100:
        return ["cem"]
    if n < 1000:
        return [PT_HUNDREDS[n // 100 - 1], *(["e", *number_pt(n % 100)] if n % 100 else [])]
    thousands = [] if n // 1000 == 1 else number_pt(n // 1000)
    return [*thousands, "mil", *(["e", *number_pt(n % 1000)] if n % 1000 else [])]


NUMBER: dict[Language, Callable[[int], Words]] = {"en": number_en, "pt": number_pt}


def sentence(language: Language, rng: random.Random) -> Words:
    """Draw one utterance: loose words, or a few numbers in a row, or a heading with its number."""
    number = NUMBER[language]
    kind = rng.random()
    if kind < 0.45:
        return [rng.choice(VOCAB[language]) for _ in range(rng.randint(1, 8))]
    if kind < 0.75:
        words: Words = []
        # The length is drawn again for every number: that is how the shipped model's corpus was drawn.
        while len(words) < rng.randint(2, 7):
            words += number(int(10 ** rng.uniform(0, 4)) - 1)
        return words[:9]
    head = rng.choice(HEADS[language])
    return head + number(rng.randint(0, 9999))
