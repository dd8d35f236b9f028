"""Words that decide where a line ends, in several languages of Europe.

Touches: nothing. Other languages are divided at punctuation and pauses.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ABBREVIATIONS = _words(
    """
    approx. art. bzw. ca. cf. ch. co. dept. ed. eds. e.g. est. etc. fig. figs. gen. i.e. inc. jr. ltd. nr. p.
    pp. sec. sr. vgl. vol. vols. vs. z.b.
    """
)

TITLES = _words(
    """
    adm. bro. capt. cmdr. col. cpl. dr. dra. dres. fr. frl. gen. gov. hon. lt. maj. messrs. mlle. mm. mme. mr.
    mrs. ms. mx. pres. prof. rep. rev. sen. sgt. sr. sra. srta. st. ste. admiral aunt baron baroness bishop
    brother captain cardinal chancellor colonel congressman congresswoman count countess dame doctor don doña
    duchess duke emperor empress father general governor judge justice king lady lieutenant lord madam madame
    mademoiselle maestro major marshal mayor minister miss mister mlle mme monsieur mr mrs ms mx pope
    president prince princess professor queen rabbi reverend saint san santa secretary senator sergeant sheikh
    sheriff signor signora sir sister uncle dr prof st doktor frau fräulein graf gräfin herr herrn kaiser
    kanzler kanzlerin könig königin präsident präsidentin prinz professorin señor señora señorita docteur
    professeur président dona senhor senhora
    """
)

CONJUNCTIONS = _words(
    """
    and or but nor so yet because although though while when whenever where whereas which who whom whose that
    if unless until since than as whether after before und oder aber sondern denn weil dass obwohl während
    wenn als ob damit bevor nachdem et ou mais donc car parce que qui quand lorsque puisque si comme y o pero
    sino porque aunque cuando donde mientras quien e mas porém quando enquanto embora onde ma perché mentre
    che dove en maar want omdat
    """
)

PREPOSITIONS = _words(
    """
    about above across against along among around at behind below beneath beside between beyond by down during
    for from in inside into like near of off on onto out outside over past through throughout to toward
    towards under up upon via with within without an auf aus bei bis durch für gegen hinter mit nach neben
    ohne seit über um unter von vor zu zum zur zwischen im am à au aux avec chez contre dans de des du entre
    par pendant pour sans sous sur vers a al con contra del desde durante entre hacia hasta para por según sin
    sobre ao com da das do dos na nas no nos pela pelo sem sob di da del della nel nella per tra fra su sul
    """
)

SMALL_WORDS = (
    CONJUNCTIONS
    | PREPOSITIONS
    | _words(
        """
    a an the this these those my your his her its our their no not very every each some any i you he she we
    they is are was were be been am has have had do does did will would can could shall should may might must
    der die das den dem des ein eine einen einem einer eines kein keine mein dein sein ihr ist sind war le la
    les un une ce cet cette ces mon ton son ne je tu il elle nous vous ils el los las una unos unas lo su sus
    mi tu no se os um uma uns umas meu seu não il gli uno
    """
    )
)

LABELS = _words(
    """
    no. nos. nr. p. pp. fig. ch. vol. sec. art. page chapter section number figure seite kapitel
    """
)

NUMBER_WORDS = _words(
    """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
    trillion point
    """
)

MAGNITUDES = _words("hundred thousand million billion trillion")
"""Number words that "and" may follow inside a number: two hundred and fifty."""

MONTHS = _words(
    """
    January February March April May June July August September October November December Januar Februar März
    Mai Juni Juli Oktober Dezember janvier février mars avril mai juin juillet août septembre octobre novembre
    décembre enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre janeiro
    fevereiro março maio junho julho setembro outubro novembro dezembro gennaio febbraio aprile maggio giugno
    luglio settembre ottobre dicembre januari februari maart mei juni juli augustus oktober
    """
)
"""As each language writes them."""
