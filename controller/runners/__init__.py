"""Where jobs run: processes of this machine (``local``), Jobs of a cluster (``kubernetes``)."""
