"""Train the demonstration model on two CPU cores, stage by stage.

    python -m controller.demo.recipe.train STAGE FRAMES BATCH STEPS RATE CTC_WEIGHT FROM TO MINUTES [NO_STAMPS]

STAGE seeds the random draws; FRAMES is the window (3000 = 30 s); FROM is the checkpoint of the stage before,
or - for none; TO is written every 250 steps. A stage ends after STEPS or MINUTES, whichever comes first, and
the learning rate falls with what has passed of it. With NO_STAMPS, that part of the examples has no time stamps
(else a quarter). With a CTC_WEIGHT of 0 only the decoder is trained, which takes a third of the time. Speech comes from
the banks `train` and `valid` in the current folder (speech_bank.py).
"""

import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from controller.demo.recipe.examples import IGNORE, Bank, Batch, batch
from controller.demo.recipe.network import Network
from controller.demo.recipe.vocabulary import TIME_STAMPS, WHISPER_TOKENS, Tokens


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The arguments of the command line."""

    number: int
    frames: int
    batch: int
    steps: int
    rate: float
    ctc_weight: float
    source: Path | None
    target: Path
    minutes: float
    no_stamps: float | None = None


class Losses(NamedTuple):
    """The loss to minimise, its two parts, and the decoder's logits."""

    total: torch.Tensor
    cross_entropy: torch.Tensor
    ctc: torch.Tensor
    logits: torch.Tensor


def losses(network: Network, examples: Batch, tokens: Tokens, ctc_weight: float) -> Losses:
    """Cross entropy of the tokens and, weighted, CTC of the encoder alone, which is what aligns it early."""
    with torch.autocast("cpu", torch.bfloat16):
        encoded, logits = network(examples.mel, examples.ids)
    logits = logits.float()
    # Whisper's other tokens stand in the sum as logits of zero.
    others = torch.full_like(logits[..., :1], math.log(WHISPER_TOKENS - len(tokens.used)))
    cross_entropy = functional.cross_entropy(
        torch.cat([logits, others], -1).flatten(0, 1), examples.targets.flatten(), ignore_index=IGNORE
    )
    ctc = torch.zeros(())
    known = {row: torch.tensor(words) for row, words in enumerate(examples.ctc) if words}
    if not ctc_weight or not known:
        return Losses(cross_entropy, cross_entropy, ctc, logits)
    log_probabilities = network.ctc(encoded[list(known)].float()).log_softmax(-1).transpose(0, 1)
    ctc = functional.ctc_loss(
        log_probabilities,
        torch.cat(list(known.values())),
        torch.full((len(known),), log_probabilities.shape[0]),
        torch.tensor([len(words) for words in known.values()]),
        zero_infinity=True,
    )
    return Losses(cross_entropy + ctc_weight * ctc, cross_entropy, ctc, logits)


def validate(network: Network, batches: list[Batch], tokens: Tokens, ctc_weight: float) -> str:
    """Return the losses and accuracies on speech that was not used for training, as one line."""
    rows: list[tuple[float, float, float, float]] = []
    with torch.no_grad():
        for examples in batches:
            found = losses(network, examples, tokens, ctc_weight)
            targets, guess = examples.targets, found.logits.argmax(-1)
            text = (targets >= 0) & (targets < len(tokens.text))
            stamp = targets >= len(tokens.used) - TIME_STAMPS
            right = ((guess == targets) & text).sum().item() / max(1, text.sum().item())
            near = (((guess - targets).abs() <= 3) & stamp).sum().item() / max(1, stamp.sum().item())
            rows.append((found.cross_entropy.item(), found.ctc.item(), right, near))
    entropy, ctc, words, stamps = np.mean(rows, axis=0)
    return f"   valid ce {entropy:.3f} ctc {ctc:.3f} word acc {words:.3f} ts±60ms {stamps:.3f}"


def load(network: Network, source: Path) -> None:
    """Load a checkpoint, except the encoder's positions: they are fixed sines that depend on the window."""
    weights = torch.load(source, weights_only=True)
    kept = {name: weight for name, weight in weights.items() if "encoder.embed_positions" not in name}
    print(network.load_state_dict(kept, strict=False))


def learning_rate(stage: Stage, step: int, progress: float) -> float:
    """Rise over 200 steps, then fall along a cosine to a fiftieth."""
    fall = 0.5 * (1 + math.cos(math.pi * min(progress, 1))) * 0.98 + 0.02
    return stage.rate * min(1, (step + 1) / 200) * fall


def main(stage: Stage) -> None:
    """Train one stage."""
    torch.set_num_threads(2)
    torch.manual_seed(stage.number)
    rng, nr = random.Random(stage.number), np.random.default_rng(stage.number)
    tokens, train, valid = Tokens(), Bank("train"), Bank("valid")
    network = Network(tokens, stage.frames // 2)
    if stage.source:
        load(network, stage.source)
    if not stage.ctc_weight:
        network.w.encoder.requires_grad_(False)
        network.ctc.requires_grad_(False)
    share = 0.25 if stage.no_stamps is None else stage.no_stamps
    optimizer = torch.optim.AdamW(network.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    started = time.time()
    checks = [
        batch(valid, tokens, 16, stage.frames, random.Random(77 + i), np.random.default_rng(77 + i), share)
        for i in range(4)
    ]
    for step in range(stage.steps):
        progress = max(step / stage.steps, (time.time() - started) / 60 / stage.minutes)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(stage, step, progress)
        examples = batch(train, tokens, stage.batch, stage.frames, rng, nr, share)
        found = losses(network, examples, tokens, stage.ctc_weight)
        optimizer.zero_grad()
        found.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            seconds = time.time() - started
            parts = f"ce {found.cross_entropy.item():.3f} ctc {found.ctc.item():.3f}"
            print(f"{stage.number} step {step} {seconds:.0f}s {parts}", flush=True)
        if step % 250 == 249 or progress >= 1:
            network.eval()
            print(validate(network, checks, tokens, stage.ctc_weight), flush=True)
            network.train()
            torch.save(network.state_dict(), stage.target)
        if progress >= 1:
            break


if __name__ == "__main__":
    number, frames, size, steps, rate, ctc_weight, source, target, minutes, *more = sys.argv[1:]
    main(
        Stage(
            number=int(number),
            frames=int(frames),
            batch=int(size),
            steps=int(steps),
            rate=float(rate),
            ctc_weight=float(ctc_weight),
            source=Path(source) if source != "-" else None,
            target=Path(target),
            minutes=float(minutes),
            no_stamps=float(more[0]) if more else None,
        )
    )
