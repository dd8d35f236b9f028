"""The loop over one or many runs: observe, decide, act, until every run has ended."""
