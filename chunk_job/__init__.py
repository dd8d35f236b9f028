"""One short-lived stenographer: a task in, one chunk transcribed, a result committed, the process gone."""
