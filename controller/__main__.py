"""``python -m controller``: the same as ``stenofleet``."""

from controller.cli import main

main()
