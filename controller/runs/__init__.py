"""One run in the store: its objects, its valid results, its transcript, and the copies of its outputs."""
