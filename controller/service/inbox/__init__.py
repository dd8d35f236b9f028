"""The inbox: recordings that are put under a prefix or into a folder are transcribed once, into an outbox."""
