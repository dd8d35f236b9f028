"""What the result of a chunk job says: figures of a row, or why there are none."""

import hashlib
from typing import Any

from bench.chunk_jobs import EndedJob
from chunk_job.contract import ChunkResult, Usage

PARTS = ("startup", "load", "kernels", "fetch", "speech", "features", "decode", "align", "commit", "total")


def failure(ended: EndedJob | None) -> dict[str, Any]:
    """Why there is no result; empty if there is one."""
    if ended is None:
        return {"remark": "skipped: no time left"}
    return {} if ended.result else {"remark": ending(ended.code, ended.output)}


def ending(code: int | None, output: str) -> str:
    if code is None:
        return "stopped: no time left"
    return f"exit code {code}: {' '.join(output.split())[-300:]}"


def split(ended: EndedJob | None) -> dict[str, Any]:
    """The parts of a job in seconds."""
    assert ended
    assert ended.result
    usage = ended.result.usage
    return {
        "wall s": ended.wall_s,
        "CPU s": ended.cpu_s,
        **{part: getattr(usage, f"{part}_ms") / 1000 for part in PARTS},
    }


def work(ended: EndedJob | None) -> dict[str, Any]:
    """What a job did: the share of its time that was decoding, its speed, and whether all passed at the first try."""
    assert ended
    assert ended.result
    result, usage = ended.result, ended.result.usage
    return {
        "CPU s": ended.cpu_s,
        "peak MiB": round(ended.peak_mib),
        "decoding RTFx": decoding_rtfx(ended),
        "useful share": useful(usage),
        "load s": usage.load_ms / 1000,
        "decode s": usage.decode_ms / 1000,
        "align s": usage.align_ms / 1000,
        "batch": result.engine.batch_size,
        "windows": len(result.windows),
        "tried again": sum(len(window.tries) > 1 for window in result.windows),
        "words": sum(len(segment.words) for segment in result.segments),
    }


def useful(usage: Usage) -> float:
    return (usage.decode_ms + usage.align_ms) / max(1, usage.total_ms)


def decoding_rtfx(ended: EndedJob) -> float:
    assert ended.result
    return ended.result.audio_ms / max(1, ended.result.usage.transcribe_ms)


def spoken(result: ChunkResult) -> str:
    """Digest of what does not depend on the attempt."""
    document = result.model_dump_json(include={"text", "segments", "windows", "language", "speech_ms", "quality"})
    return hashlib.sha256(document.encode()).hexdigest()
