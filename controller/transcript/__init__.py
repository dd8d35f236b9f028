"""The transcript: its document, the merge of results, and the formats it is written in. Does no input or output."""
