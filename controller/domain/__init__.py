"""The domain model: documents, jobs, failures, actions, and the interfaces between the packages.

Touches: nothing, except stored_documents, which reads the store. Functions depend only on their arguments; the clock
and the environment are arguments too.
"""
