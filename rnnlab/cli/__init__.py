"""The console command `rnnlab`: one module a command, of which only the chosen one is loaded."""

from rnnlab.cli.command_line import main

__all__ = ["main"]
