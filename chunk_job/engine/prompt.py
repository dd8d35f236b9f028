"""The terms of a glossary as words that the model expects: as many as the model's prompt can hold.

Touches: nothing.
"""

from __future__ import annotations

from typing import Any

from chunk_job.contract import TranscribeOptions
from chunk_job.glossary import parsed


def with_glossary(options: TranscribeOptions, whisper: Any) -> tuple[TranscribeOptions, int]:
    """*options* with the first terms of the glossary among the hotwords, and how many these are.

    The same for every window of every chunk: it depends on the options and the model's tokens alone. The prompt has
    half of the model's context. Terms leave the rest to an initial prompt, but may take half of the prompt anyway.
    """
    if not options.glossary:
        return options, 0

    def tokens(text: str | None) -> int:
        return len(whisper.hf_tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids) if text else 0

    most = whisper.max_length // 2 - 1
    free = max(most // 2, most - tokens(options.initial_prompt))
    chosen = [options.hotwords.strip()] if options.hotwords else []
    used = 0
    for term, _ in map(parsed, options.glossary):
        # Not what it sounds like: a model that is given wrong words writes them, sometimes a second time.
        if tokens(", ".join([*chosen, term])) > free:
            break
        chosen.append(term)
        used += 1
    return options.model_copy(update={"hotwords": ", ".join(chosen) or None}), used
