"""Host memory of chunk jobs, and the space for a copy of their model.

Touches: nothing.
"""

from __future__ import annotations

from chunk_job.model_manifest import is_url
from chunk_job.names import MODELS

LARGEST_MODEL_MB = max(model.size_mb for model in MODELS.values())

# Measured on CPUs with files in float16: the weights, and what the model computes (1.9 times the weights for base and
# small); the libraries; the spectrogram of sequential decoding (in batches it is a tenth of that). On a GPU, the model
# computes in the GPU's memory.
_WEIGHTS_MARGIN_CPU, _WEIGHTS_MARGIN_CUDA = 2.0, 1.15
_LIBRARIES_MB = 200
_MB_PER_AUDIO_S = 1.2
_CUDA_CONTEXT_MB = 1_000
"""Host memory that the driver and cuBLAS map into a process, with a margin."""


def weights_mb(model: str) -> int:
    """Size of a model's weights in MB. For an unknown model, the size of the largest known one."""
    known = MODELS.get(model)
    return known.size_mb if known else LARGEST_MODEL_MB


def copied_mb(model: str, *, has_volume: bool) -> int:
    """Space in MB that a pod needs for its own copy of a model in S3; 0 if the model comes from elsewhere."""
    return LARGEST_MODEL_MB if is_url(model) and not has_volume else 0


def chunk_memory_mb(*, model_mb: int, cuda: bool, audio_s: int) -> float:
    """Memory in MB of a chunk job for *audio_s* seconds of audio, by the size of its model's weights."""
    model = _WEIGHTS_MARGIN_CUDA * model_mb + _CUDA_CONTEXT_MB if cuda else _WEIGHTS_MARGIN_CPU * model_mb
    return model + _LIBRARIES_MB + _MB_PER_AUDIO_S * audio_s
