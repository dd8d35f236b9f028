"""Leadership: at most one process at a time works on a run, in each machine, cluster or store."""
