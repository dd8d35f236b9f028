"""The store between the processes: named objects, whole or absent, behind one protocol (``base``).

``file://`` is a folder of this machine (``files``), ``s3://`` a bucket (``s3``): chosen in ``open_store`` alone.
"""
