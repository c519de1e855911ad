"""What this machine has: Python, jax's devices, packages, cluster, disks, settings, signals.

The exit code is 1 where something that everything needs is broken, else 0. Devices are looked for
in a process of its own; starting a GPU or a TPU can take longer than all the rest.
"""

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any

from rnnlab.cli import machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--data_dir", metavar="DIR", help="whose disk to look at")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=60.0, help="for devices; default: 60"
    )


def run(arguments: argparse.Namespace) -> int:
    """Examines, prints, and judges."""
    facts = examine(arguments.data_dir, arguments.timeout)
    facts["problems"] = problems = find_problems(facts)
    if arguments.json:
        print(json.dumps(facts))
    else:
        for line in lines(facts):
            print(line)
    return int(bool(problems))


def examine(data_dir: str | None, timeout: float) -> dict[str, Any]:
    """Everything that is known, section by section."""
    process = machine.start_jax()  # the slowest by far, so the others run beside it
    facts: dict[str, Any] = {
        "system": machine.system(),
        "packages": {name: machine.version(name) for name in machine.CORE},
        "extras": machine.extras(),
        "distributed": machine.distributed(os.environ),
        "disk": machine.disks(data_dir),
        "settings": machine.settings(os.environ),
        "sigterm": machine.sigterm(),
    }
    facts["jax"] = machine.finish_jax(process, timeout)
    return facts


def find_problems(facts: Mapping[str, Any]) -> list[str]:
    """What nothing can do without, and is broken."""
    packages = facts["packages"].items()
    problems = [f"{name} is not installed" for name, version in packages if version is None]
    if "problem" in facts["jax"]:
        problems.append(facts["jax"]["problem"])
    if facts["sigterm"]["self-test"] != "caught":
        problems.append("a process did not get the SIGTERM that was sent to it")
    return problems


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts to read: a heading for each section, a line for each fact."""
    order = ("system", "jax", "packages", "extras", "distributed", "disk", "settings", "sigterm")
    result = []
    for section in order:
        result.append(section)
        known = facts[section] or {"none": ""}
        width = max(map(len, known)) + 2
        for name, value in known.items():
            value = "; ".join(value) if isinstance(value, list) else value
            result.append(f"  {name:{width}}{'not installed' if value is None else value}".rstrip())
    verdict = [f"broken: {problem}" for problem in facts["problems"]]
    return [*result, *(verdict or ["all that rnnlab needs is here"])]
