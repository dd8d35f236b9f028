"""The controller: one loop over runs that reads, observes, decides, acts, merges and writes."""
