"""faster-whisper on CTranslate2: from a model's name and samples to segments. Nothing else loads these libraries."""
