"""Captions: a transcript as cues with limits of width, time and reading speed, and the check of such files."""
