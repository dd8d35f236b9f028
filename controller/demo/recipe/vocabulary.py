"""The model's tokenizer: byte-level BPE of the corpus' words, then Whisper's special tokens.

    python -m controller.demo.recipe.vocabulary TOKENIZER_JSON

Writes the tokenizer again; needed only after the words in corpus.py have changed, because the included model has
the current one. Every word with a space before it is one token.
"""

import json
import sys
from pathlib import Path
from typing import Any

from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from controller.demo.recipe.corpus import VOCAB, Language

SHIPPED = Path(__file__).parents[1] / "model" / "tokenizer.json"
WHISPER_TOKENS = 51_865
"""The size of Whisper's own vocabulary; training treats the other tokens as never spoken."""
TIME_STAMPS = 1501  # 0.00 to 30.00 s in steps of 20 ms


def _bpe(words: list[str]) -> dict[str, Any]:
    """Train byte pairs until every word is one token, and return the tokenizer as a document."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=4000, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([f" {word}" for word in words], trainer)
    broken = [word for word in words if len(tokenizer.encode(f" {word}").ids) != 1]
    if broken:
        raise ValueError(f"not one token each: {broken}")
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def _special_tokens() -> list[str]:
    # Whisper orders its languages by hours of training; only the range of their ids matters to CTranslate2.
    languages = ["en", "pt", *(code for code in _LANGUAGE_CODES if code not in ("en", "pt", "yue"))]
    return [
        *("<|endoftext|>", "<|startoftranscript|>"),
        *(f"<|{code}|>" for code in languages),
        *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>"),
        *("<|nospeech|>", "<|notimestamps|>"),
        *(f"<|{i * 0.02:.2f}|>" for i in range(TIME_STAMPS)),
    ]


def main(path: Path) -> None:
    """Write the tokenizer."""
    document = _bpe(sorted(set(VOCAB["en"] + VOCAB["pt"])))
    vocabulary = document["model"]["vocab"]
    vocabulary[""] = len(vocabulary)  # an empty token is how CTranslate2 knows a multilingual vocabulary
    special = _special_tokens()
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    document["added_tokens"] = [
        # Time stamps are no "special" tokens: faster-whisper decodes them with the text.
        {"id": len(vocabulary) + i, "content": token, **flags, "special": i < len(special) - TIME_STAMPS}
        for i, token in enumerate(special)
    ]
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


class Tokens:
    """The tokens that training knows, by their ids in the tokenizer and by dense numbers in the same order.

    The network has no row for a token that is never spoken: `export` spreads its rows over the tokenizer's ids.
    """

    def __init__(self, path: Path = SHIPPED) -> None:
        self.tokenizer = Tokenizer.from_file(str(path))
        self.size: int = self.tokenizer.get_vocab_size()
        self.end = self.id("endoftext")
        self.start = self.id("startoftranscript")
        self.transcribe = self.id("transcribe")
        self.no_stamps = self.id("notimestamps")
        self.no_speech = self.id("nospeech")
        self.previous = self.id("startofprev")
        self.languages: dict[Language, int] = {"en": self.id("en"), "pt": self.id("pt")}
        self.first_stamp = self.id("0.00")
        self.text = sorted({i for words in VOCAB.values() for i in self.encode(" ".join(words))})
        marks = {self.end, self.start, self.transcribe, self.no_stamps, self.no_speech, self.previous}
        stamps = range(self.first_stamp, self.first_stamp + TIME_STAMPS)
        self.used = sorted({*self.text, *marks, *self.languages.values(), *stamps})
        self.dense = {token: i for i, token in enumerate(self.used)}
        self.ctc = {token: i + 1 for i, token in enumerate(self.text)}  # 0 is CTC's blank

    def id(self, name: str) -> int:
        """The id of the special token of that name."""
        token: int | None = self.tokenizer.token_to_id(f"<|{name}|>")
        if token is None:
            raise KeyError(name)
        return token

    def encode(self, text: str) -> list[int]:
        """The tokens of an utterance as it is trained: a space before it, a full stop after it."""
        ids: list[int] = self.tokenizer.encode(f" {text}.").ids
        return ids


if __name__ == "__main__":
    main(Path(sys.argv[1]))
