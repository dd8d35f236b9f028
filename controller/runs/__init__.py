"""One run in the store: its objects, the results that count, its transcript, and where its outputs go."""
