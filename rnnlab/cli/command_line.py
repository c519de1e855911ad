"""Which commands there are, and how a command line becomes a call and an exit code."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import rnnlab

COMMANDS = {
    "doctor": "what this machine has: versions, devices, extras, cluster, disks, signals",
    "cells": "a table of the cells: strategies, parameters, papers, oracles",
    "runs": "a table of the runs under a directory",
    "plot": "curves of several runs in one picture",
    "ckpt": "list, verify or export the checkpoints of a run",
    "data": "list, fetch or verify data sets",
    "sweep": "train with many values of some flags, and compare the scores",
}
"""Command -> what it does. `rnnlab.cli.COMMAND` has its `add_arguments` and its `run`."""

USER_ERRORS = (ValueError, OSError, ImportError)  # ImportError: an extra that is not installed


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}. '{self.prog} --help' says what there is.\n")


def build_parser(chosen: str | None) -> Parser:
    """The parser of every command's name, and of the arguments of the chosen one."""
    parser = Parser("rnnlab", description="Looks after runs and data.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"rnnlab {rnnlab.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(f"rnnlab.cli.{name}")
            command.description = module.__doc__
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      arguments: without the program's name; those of the process where None.

    Returns:
      The exit code: 0 done, 1 the command found something bad, 2 a wrong use, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    parser = build_parser(next((name for name in given[:1] if name in COMMANDS), None))
    parsed = parser.parse_args(given[:end])
    parsed.trailing = given[end + 1 :]
    if parsed.trailing and given[0] != "sweep":
        parser.error(f"unrecognized arguments after --: {' '.join(parsed.trailing)}")
    try:
        code = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except USER_ERRORS as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
