"""The store that the processes share: objects with keys, each complete or absent, with one interface (``base``).

``file://`` is a folder of this machine (``files``), ``s3://`` is a bucket (``s3``). Only ``open_store`` selects one.
"""
