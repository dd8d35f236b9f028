"""faster-whisper alone, in a process of its own: what the chunk job is compared with.

    python -m bench.bare MODEL AUDIO [--batch N] [--device cpu] [--compute-type int8] [--threads 1]

Default options of the library, with word times, and without the text before as context. Prints one line of JSON.
"""

import argparse
import importlib.util
import json
import sys
import time
from types import ModuleType


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("audio", help="a file of 16 kHz that soundfile reads, mono")
    parser.add_argument("--batch", type=int, default=0, help="windows of a batch; 0: sequential (default)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    # The decoder of other formats. It may be missing, and is not used.
    if importlib.util.find_spec("av") is None:
        sys.modules["av"] = ModuleType("av")
    import soundfile
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    begin_s = time.monotonic()
    model = WhisperModel(
        arguments.model,
        device=arguments.device,
        compute_type=arguments.compute_type,
        cpu_threads=arguments.threads,
        local_files_only=True,
    )
    loaded_s = time.monotonic()
    audio, _ = soundfile.read(arguments.audio, dtype="float32")
    if arguments.batch:
        pipeline = BatchedInferencePipeline(model)
        segments, _ = pipeline.transcribe(audio, language="en", word_timestamps=True, batch_size=arguments.batch)
    else:
        segments, _ = model.transcribe(audio, language="en", word_timestamps=True, condition_on_previous_text=False)
    words = sum(len(segment.words or ()) for segment in segments)
    times = {"load_s": loaded_s - begin_s, "transcribe_s": time.monotonic() - loaded_s}
    print(json.dumps({"words": words, **{name: round(value, 2) for name, value in times.items()}}))


if __name__ == "__main__":
    main()
