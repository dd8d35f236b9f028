"""A Whisper of any real size without real weights: it says a script, at the price of a real model.

    python -m bench.rehearsal SHAPE FOLDER [QUANTIZATION]

Needs numpy and ctranslate2. All layers compute on random weights. What the decoder says depends on its position alone:
the embedding of each position is made from the embeddings of the script's next tokens, and the layers add little to it.
So each window has as many tokens as fast speech, and passes every check of Whisper at the first try.

Two things are not fixed. With ``<|notimestamps|>`` in the prompt, the words of the script replace its time stamps. And
the audio decides between two words at a quarter of the positions, so that no window says the same as the one before.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ctranslate2.specs import WhisperSpec

from chunk_job.names import LANGUAGES

Array = np.ndarray[Any, np.dtype[np.float32]]


class Shape(NamedTuple):
    """The size of a model."""

    encoder_layers: int
    decoder_layers: int
    width: int
    heads: int
    mels: int = 80
    languages: int = 99


SHAPES = {
    "toy": Shape(2, 2, 128, 2),
    "tiny": Shape(4, 4, 384, 6),
    "base": Shape(6, 6, 512, 8),
    "small": Shape(12, 12, 768, 12),
    "medium": Shape(24, 24, 1024, 16),
    "large-v2": Shape(32, 32, 1280, 20),
    "large-v3": Shape(32, 32, 1280, 20, 128, 100),
    "large-v3-turbo": Shape(32, 4, 1280, 20, 128, 100),
}
QUANTIZATIONS = ("float32", "float16", "int8", "int8_float16", "int8_float32")

SEGMENTS, WORDS = 6, 18
"""Of each window with time stamps. Without them, words replace the stamps between the segments and the last one."""

SEGMENT_S = 30 // SEGMENTS
_TEXT_TOKENS = 50_257
_FIRST_WORD = 300
"""Tokens before this one are letters."""
_POSITIONS, _FRAMES = 448, 1_500

# Three dimensions of the decoder's state have a purpose of their own, and no part in the random embeddings.
_NO_STAMPS, _STAMPS, _CHOICE = 0, 1, 2
_PURPOSES = 3

# The unit of these is a logit, or the norm of an embedding.
_POINTED = 40.0
"""Logit of the only token that a position points at. The largest of the others is about 20 at most."""
_POSITION_NORM = 20.0
"""Norm of a position's embedding: the embedding of the token before has a twentieth of the effect."""
_STAMP_RATIO = (0.767, 0.642)
"""Of the logits of a time stamp and of the word that replaces it: 31 and 26."""


class Vocabulary:
    """The tokens: letters, words of one token each with a space before, and Whisper's own."""

    def __init__(self, languages: int) -> None:
        codes = ["en", *sorted(LANGUAGES.keys() - {"en", "yue"}), "yue"][:languages]
        self.text = [*_letters(), *_words(), ""]
        self.special = [
            *("<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in codes)),
            *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"),
            "<|notimestamps|>",
        ]
        self.stamps = [f"<|{step / 50:.2f}|>" for step in range(_FRAMES + 1)]
        self.all = self.text + self.special + self.stamps
        self.id = {token: number for number, token in enumerate(self.all)}


def _letters() -> list[str]:
    """The 256 letters in which GPT-2 writes bytes."""
    printable = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    return printable + [chr(256 + number) for number in range(256 - len(printable))]


def _words() -> list[str]:
    """Words of random letters: runs of similar words would look like a repetition."""
    random = np.random.default_rng(2)
    drawn: dict[str, None] = {}
    while len(drawn) < _TEXT_TOKENS - 257:
        drawn["".join(map(chr, random.integers(97, 123, random.integers(3, 8))))] = None
    words = list(drawn)
    for sentence in range(SEGMENTS):
        first, last = _sentence(sentence)[0], _sentence(sentence)[-1]
        words[first - 256] = words[first - 256].capitalize()
        words[last - 256] += "."
    return [f"\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}{word}" for word in words]  # GPT-2's letter for a space


def _sentence(number: int) -> range:
    """The tokens of a segment's words, and of those that replace the two time stamps after it."""
    begin = _FIRST_WORD + number * (WORDS + 2)
    # After the last segment there is one stamp.
    return range(begin, begin + WORDS + (2 if number < SEGMENTS - 1 else 1))


def _other(word: int) -> int:
    """The word that the audio can choose instead."""
    return word + 1_000


class _Decoder:
    """The embeddings of tokens and positions."""

    def __init__(self, shape: Shape, tokens: Vocabulary) -> None:
        width = shape.width
        self.tokens = tokens
        self.norm = _POINTED / np.sqrt(width)
        embeddings = np.random.default_rng(1).standard_normal((len(tokens.all), width), dtype=np.float32)
        embeddings *= np.float32(self.norm / np.sqrt(width))
        embeddings[:, :_PURPOSES] = 0
        # The layer norm subtracts the mean, so it must be 0 to change no logit.
        embeddings[:, _PURPOSES:] -= embeddings[:, _PURPOSES:].mean(axis=1, keepdims=True)
        self.embeddings = embeddings
        self.positions = self._positions()
        # After the positions, which have no part in these dimensions.
        embeddings[tokens.id["<|notimestamps|>"], _NO_STAMPS] = 2.25 * self.norm
        embeddings[tokens.id["<|0.00|>"] :, _STAMPS] = 0.75 * self.norm
        for word in (word for sentence in range(SEGMENTS) for word in _sentence(sentence)[2:WORDS:4]):
            embeddings[word, _CHOICE] = self.norm / 4
            embeddings[_other(word), _CHOICE] = -self.norm / 4

    def _positions(self) -> Array:
        # The input at position 0 is <|startoftranscript|>. Whatever the third or fourth token of the prompt is, the
        # first word is the output of position 3.
        at = self.tokens.id
        rows = [self._pointing(at["<|en|>"]), self._pointing(at["<|transcribe|>"]), self._pointing(at["<|0.00|>"])]
        for sentence in range(SEGMENTS):
            words = _sentence(sentence)
            for number, word in enumerate(words[:WORDS]):
                rows.append(self._pointing(word, _other(word)) if number % 4 == 2 else self._pointing(word))
            stamp = at[f"<|{(sentence + 1) * SEGMENT_S:.2f}|>"]
            rows += [self._pointing(stamp, word, logits=_STAMP_RATIO) for word in words[WORDS:]]
        end = self._pointing(at["<|endoftext|>"])
        return np.stack(rows + [end] * (_POSITIONS - len(rows)))

    def _pointing(self, *tokens: int, logits: tuple[float, ...] = (1.0, 1.0)) -> Array:
        """The shortest state in which *tokens* have *logits* in this relation, at the norm of a position."""
        row: Array = np.linalg.pinv(self.embeddings[list(tokens)]) @ np.array(logits[: len(tokens)], np.float32)
        return row * np.float32(_POSITION_NORM * self.norm / np.linalg.norm(row))


class _Weights:
    """Random weights: pieces of one pool, because drawing billions of them takes longer than a measurement."""

    def __init__(self) -> None:
        # A prime number of them, so that no two rows of a matrix are equal.
        self._pool = np.random.default_rng(3).standard_normal(1_000_003, dtype=np.float32)
        self._drawn = 0

    def normal(self, *shape: int, scale: float = 0.02) -> Array:
        # Each matrix begins elsewhere in the pool: of equal ones, only one would be stored.
        self._drawn += 1
        return np.resize(np.roll(self._pool, 7_919 * self._drawn), shape) * np.float32(scale)

    def linear(self, spec: Any, outputs: int, inputs: int, scale: float = 0.02) -> None:
        spec.weight = self.normal(outputs, inputs, scale=scale)
        spec.bias = np.zeros(outputs, np.float32)

    def norm(self, spec: Any, width: int) -> None:
        spec.gamma, spec.beta = np.ones(width, np.float32), np.zeros(width, np.float32)

    def feed_forward(self, spec: Any, width: int, scale: float = 0.02) -> None:
        self.norm(spec.layer_norm, width)
        self.linear(spec.linear_0, 4 * width, width)
        self.linear(spec.linear_1, width, 4 * width, scale)

    def self_attention(self, spec: Any, width: int, scale: float = 0.02) -> None:
        self.norm(spec.layer_norm, width)
        self.linear(spec.linear[0], 3 * width, width)
        self.linear(spec.linear[1], width, width, scale)

    def cross_attention(self, spec: Any, width: int, scale: float) -> None:
        """Each position attends to a few frames, so that the audio has an effect."""
        self.norm(spec.layer_norm, width)
        self.linear(spec.linear[0], width, width, 6 / np.sqrt(width))
        self.linear(spec.linear[1], 2 * width, width, 1 / np.sqrt(width))
        self.linear(spec.linear[2], width, width, scale)


_ALMOST_NOTHING = 1e-4
"""Scale of the weights through which the decoder's layers add to its state."""


def build(name: str) -> tuple[WhisperSpec, Vocabulary, Shape]:
    """The model of a shape, not yet quantized, with its vocabulary."""
    shape, weights = SHAPES[name], _Weights()
    width = shape.width
    tokens = Vocabulary(shape.languages)
    spec = WhisperSpec(shape.encoder_layers, shape.heads, shape.decoder_layers, shape.heads)
    _fill_encoder(spec.encoder, shape, weights)
    decoder = _Decoder(shape, tokens)
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = decoder.embeddings
    spec.decoder.position_encodings.encodings = decoder.positions
    weights.norm(spec.decoder.layer_norm, width)
    for layer in spec.decoder.layer:
        weights.self_attention(layer.self_attention, width, _ALMOST_NOTHING)
        weights.cross_attention(layer.attention, width, _ALMOST_NOTHING)
        weights.feed_forward(layer.ffn, width, _ALMOST_NOTHING)
    _obey_no_stamps(spec.decoder.layer[0].self_attention, shape)
    _choose_by_audio(spec.decoder.layer[-1].attention, shape)
    spec.register_vocabulary(tokens.all)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], [tokens.id["<|endoftext|>"]]
    spec.config.lang_ids = list(range(tokens.id["<|en|>"], tokens.id["<|translate|>"]))
    spec.config.alignment_heads = [[shape.decoder_layers - 1, head] for head in range(min(6, shape.heads))]
    return spec, tokens, shape


def _fill_encoder(encoder: Any, shape: Shape, weights: _Weights) -> None:
    width = shape.width
    encoder.conv1.weight, encoder.conv1.bias = weights.normal(width, shape.mels, 3), weights.normal(width)
    encoder.conv2.weight, encoder.conv2.bias = weights.normal(width, width, 3), weights.normal(width)
    encoder.position_encodings.encodings = weights.normal(_FRAMES, width)
    weights.norm(encoder.layer_norm, width)
    for layer in encoder.layer:
        weights.self_attention(layer.self_attention, width)
        weights.feed_forward(layer.ffn, width)


def _obey_no_stamps(attention: Any, shape: Shape) -> None:
    """Head 0 attends to ``<|notimestamps|>`` if that is in the prompt, and makes all time stamps improbable."""
    width, depth = shape.width, shape.width // shape.heads
    inputs, output = attention.linear
    # Value of the dimension behind the layer norm, where the token is the input.
    found = 2.25 * np.sqrt(width) / _POSITION_NORM
    for part in range(3):
        inputs.weight[part * width : part * width + depth] = 0
    inputs.bias[0] = 30 * np.sqrt(depth)  # query: always the same
    inputs.weight[width, _NO_STAMPS] = 1 / found  # key: 1 for this token, else 0
    inputs.weight[2 * width, _NO_STAMPS] = 1 / found  # value
    output.weight[_STAMPS] = 0
    output.weight[_STAMPS, 0] = -_POSITION_NORM * _POINTED / np.sqrt(width) / 3


def _choose_by_audio(attention: Any, shape: Shape) -> None:
    """The state gets the difference of two frames, which two heads select, so that what all frames share cancels."""
    width, depth = shape.width, shape.width // shape.heads
    _, inputs, output = attention.linear
    inputs.weight[width + depth : width + 2 * depth] = inputs.weight[width : width + depth]
    row = 120 / np.sqrt(2 * depth * width) * np.sign(inputs.weight[0, :depth])
    output.weight[_CHOICE] = 0
    output.weight[_CHOICE, :depth], output.weight[_CHOICE, depth : 2 * depth] = row, -row


def write(name: str, folder: Path, quantization: str | None = None) -> Path:
    """Write the model of a shape. *quantization*: the type of the stored weights, float32 if None."""
    spec, tokens, shape = build(name)
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(tokens), ensure_ascii=False), encoding="utf-8")
    features = {"feature_size": shape.mels, "sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30}
    (folder / "preprocessor_config.json").write_text(json.dumps(features | {"n_fft": 400}), encoding="utf-8")
    return folder


def _tokenizer(tokens: Vocabulary) -> dict[str, Any]:
    """The document that the ``tokenizers`` library loads. Nothing is merged: each word is one token, or letters."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": len(tokens.text) + number, "content": token, "special": number < len(tokens.special), **flags}
        for number, token in enumerate(tokens.special + tokens.stamps)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(tokens.text)},
            "merges": [],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("quantization", nargs="?", choices=QUANTIZATIONS, default="float32")
    arguments = parser.parse_args()
    stored = None if arguments.quantization == "float32" else arguments.quantization
    folder = write(arguments.shape, arguments.folder, stored)
    print(folder, f"{(folder / 'model.bin').stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
