"""The network: Whisper's architecture, 3 × 128 encoder and 2 × 128 decoder, with a CTC head for training."""

import torch
from torch import nn
from transformers import WhisperConfig, WhisperModel

from controller.demo.recipe.vocabulary import Tokens

WIDTH = 128
ENCODER_LAYERS, DECODER_LAYERS, HEADS = 3, 2, 2


def config(tokens: int, positions: int, *, start: int, end: int) -> WhisperConfig:
    """The shape, for a number of tokens and of encoder positions (two mel frames each)."""
    return WhisperConfig(
        vocab_size=tokens,
        num_mel_bins=80,
        d_model=WIDTH,
        encoder_layers=ENCODER_LAYERS,
        decoder_layers=DECODER_LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_source_positions=positions,
        max_target_positions=448,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        dropout=0.0,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


class Network(nn.Module):
    """Encoder and decoder (`w`) and the CTC head; the names are those of the checkpoint."""

    def __init__(self, tokens: Tokens, positions: int) -> None:
        super().__init__()
        start, end = tokens.dense[tokens.start], tokens.dense[tokens.end]
        self.w = WhisperModel(config(len(tokens.used), positions, start=start, end=end))
        self.ctc = nn.Linear(WIDTH, len(tokens.text) + 1)

    def forward(self, mel: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoder output for each position, and the decoder's logits for each token."""
        encoded = self.w.encoder(mel).last_hidden_state
        decoded = self.w.decoder(input_ids=ids, encoder_hidden_states=encoded, use_cache=False)
        return encoded, decoded.last_hidden_state @ self.w.decoder.embed_tokens.weight.T
