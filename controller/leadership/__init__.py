"""Which process works on a run: at most one at a time, of all that share a machine, a cluster or a store."""
