"""Turn a trained checkpoint into a model folder for faster-whisper (CTranslate2).

    python -m controller.demo.recipe.export CHECKPOINT FOLDER [int8]

Needs nothing but the checkpoint and the tokenizer; `int8` is the quantisation of the stored weights.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from ctranslate2.converters.transformers import WhisperLoader
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
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    shutil.copy(SHIPPED, folder / "tokenizer.json")
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    for file in sorted(folder.iterdir()):
        print(f"{file.stat().st_size:9,d} {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
