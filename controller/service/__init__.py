"""The transcription service: an HTTP API and a loop over runs that are requested by it; all state is in the store."""
