"""faster-whisper on CTranslate2: from a model's name and samples to segments. Only this package loads the libraries."""
