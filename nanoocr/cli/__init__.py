"""The command line for people. `main` is the address of the installed command `nanoocr`."""

from nanoocr.cli.main import main

__all__ = ["main"]
