"""The transcript: its document, the merge of results, and its output formats. No input or output."""
