"""The chunk job: a short-lived process that reads a task, transcribes one chunk, writes the result and exits."""
