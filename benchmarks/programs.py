"""What can be read from the text of a compiled program."""

import collections
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(?:-start)?\(")
SHAPE = re.compile(r"([a-z]+)(\d+)?\[([\d,]*)\]")
CALLED = re.compile(r"(?:body|condition|to_apply|calls|branch_computations)=\{?%?([\w.\-]+)")
TURNS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


class Collective(NamedTuple):
    """An operation in a compiled program."""

    kind: str
    times: int  # how often it runs
    bytes: int  # that one device hands in each time


def collectives(program: str) -> Iterator[Collective]:
    """Every collective operation of a compiled program, given as its text."""
    lines: dict[str, list[str]] = collections.defaultdict(list)
    entry = name = ""
    for line in program.splitlines():
        if match := COMPUTATION.match(line):
            name = match[2]
            entry = name if match[1] else entry
        lines[name].append(line)

    def walk(computation: str, times: int) -> Iterator[Collective]:
        for line in lines[computation][1:]:
            if match := COLLECTIVE.search(line):
                yield Collective(match[2], times, _bytes(match[1]))
                continue
            turns = TURNS.search(line) if " while(" in line else None
            for called in CALLED.findall(line):
                yield from walk(called, times * int(turns[1]) if turns else times)

    return walk(entry, 1)


def _bytes(shapes: str) -> int:
    total = 0
    for kind, bits, sizes in SHAPE.findall(shapes):
        width = 1 if kind == "pred" else int(bits or 8) // 8
        total += width * math.prod(int(size) for size in sizes.split(",") if size)
    return total
