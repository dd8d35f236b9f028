"""What everything else is about: documents, jobs, failures, actions, and the interfaces between the packages.

Touches: nothing. Functions of their arguments alone; the clock and the environment are arguments too.
"""
