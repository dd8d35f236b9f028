"""A client of the transcription service's HTTP API, for commands that work on a batch there."""
