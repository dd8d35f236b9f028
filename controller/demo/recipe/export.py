"""Turn a trained checkpoint into a model folder for faster-whisper (CTranslate2).

    python -m controller.demo.recipe.export CHECKPOINT FOLDER [int8]

Needs nothing but the checkpoint and the tokenizer; `int8` is the quantisation of the stored weights, of which seven
bits are used: see `narrow`.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctranslate2.converters.transformers import WhisperLoader
from ctranslate2.specs.model_spec import NumpyVariable, visit_spec
from transformers import WhisperForConditionalGeneration

from controller.demo.recipe.network import DECODER_LAYERS, HEADS, WIDTH, config
from controller.demo.recipe.vocabulary import SHIPPED, Tokens

PREPROCESSOR = {
    "feature_size": 80,
    "sampling_rate": 16000,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
}


def whole_model(checkpoint: Path, tokens: Tokens) -> WhisperForConditionalGeneration:
    """Lay the checkpoint's weights into a Whisper model with a row for every token of the tokenizer."""
    shape = config(tokens.size, 1500, start=tokens.start, end=tokens.end)
    model = WhisperForConditionalGeneration(shape)
    weights = model.state_dict()
    for name, weight in torch.load(checkpoint, weights_only=True).items():
        # The CTC head served in training alone; the encoder's positions are a fixed sine.
        if not name.startswith("w.") or "encoder.embed_positions" in name:
            continue
        target = f"model.{name.removeprefix('w.')}"
        if "embed_tokens" in name:
            rows = torch.zeros(tokens.size, WIDTH)
            rows[torch.tensor(tokens.used)] = weight
            weights[target] = rows
        elif weights[target].shape == weight.shape:
            weights[target] = weight
        else:
            raise ValueError(f"{checkpoint}: {name} has another shape than the network")
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    model.load_state_dict(weights)
    model.eval()  # type: ignore[no-untyped-call]
    return model


MOST = 64
"""The largest 8-bit weight. The converter's is 127."""
Weights = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def exact_weights(spec: Any) -> Weights:
    """Every weight of a specification by its name, before the converter makes 8-bit weights of some."""
    found = {}

    def collect(_: Any, name: str, value: Any) -> None:
        if hasattr(value, "to") and value.shape:
            found[name] = np.array(value.to("float32").numpy())

    visit_spec(spec, collect)
    return found


def narrow(spec: Any, exact: Weights) -> None:
    """Give 8-bit weights values from -64 to 64.

    On x86 processors without VNNI instructions, oneDNN adds two products of 8-bit numbers, each at most 255 times a
    weight, in 16 bits, and what is beyond is cut off. With weights up to 127 this gave the demonstration model 7 %
    wrong words on an AMD EPYC (Zen 3) instead of 3 %. Twice 255 times 64 has room.
    """

    def requantize(layer: Any, name: str, value: Any) -> None:
        if not (hasattr(value, "dtype") and value.dtype == "int8" and len(value.shape) > 1):
            return
        key = name.rpartition("/")[2]
        scales = getattr(layer, f"{key}_scale").numpy() * np.float32(MOST / 127)
        weights = exact[name].reshape(len(scales), -1) * scales[:, None]
        setattr(layer, key, NumpyVariable(np.rint(weights).astype(np.int8).reshape(exact[name].shape)))
        setattr(layer, f"{key}_scale", NumpyVariable(scales))

    visit_spec(spec, requantize)


def main(checkpoint: Path, folder: Path, quantization: str = "int8") -> None:
    """Write the model folder."""
    tokens = Tokens()
    spec = WhisperLoader().get_model_spec(whole_model(checkpoint, tokens))
    spec.register_vocabulary([tokens.tokenizer.id_to_token(i) for i in range(tokens.size)])
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [tokens.end]
    spec.config.lang_ids = list(tokens.languages.values())
    spec.config.alignment_heads = [[DECODER_LAYERS - 1, head] for head in range(HEADS)]
    spec.validate()
    exact = exact_weights(spec)
    spec.optimize(quantization=quantization)
    narrow(spec, exact)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    shutil.copy(SHIPPED, folder / "tokenizer.json")
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    for file in sorted(folder.iterdir()):
        print(f"{file.stat().st_size:9,d} {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
