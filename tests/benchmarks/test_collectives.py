import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks.programs import Collective, collectives

ROOT = pathlib.Path(__file__).parents[2]

PROGRAM = """HloModule jit_packed, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (state: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-reduce.1 = f32[4,2]{1,0} all-reduce(%part), to_apply=%add
  ROOT %next = (s32[], f32[4]) tuple(%i, %all-reduce.1)
}

%condition (state: (s32[], f32[4])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %loop = (s32[], f32[4]) while(%x), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %all-reduce.2 = (f32[3], bf16[2,2]{1,0}, pred[7], f32[]) all-reduce(%a, %b), to_apply=%add
  ROOT %all-gather.1 = s64[2]{0} all-gather-start(%c), dimensions={0}
}
"""

SCRIPT = """
import sys
from benchmarks.collectives import build
from benchmarks.programs import collectives
for case in sys.argv[1:]:
    text, parameters = build(case, "data:8")
    print(*[(one.kind, one.times, one.bytes - 4 * parameters) for one in collectives(text)])
"""


def test_operations_in_loops_count_as_often_as_those_turn():
    assert list(collectives(PROGRAM)) == [
        Collective("all-reduce", 5, 32),
        Collective("all-reduce", 1, 12 + 8 + 7 + 4),
        Collective("all-gather", 1, 16),
    ]


@pytest.mark.slow
def test_an_update_has_one_all_reduce_of_the_gradients():
    """And of a handful of numbers beside them: totals and weights of the metrics."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "lstm, auto", "mingru, associative"],
        cwd=ROOT,
        env={**environment, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        assert line.startswith("('all-reduce', 1, ") and line.count("(") == 1
        assert 0 < int(line.removesuffix(")").split(", ")[2]) <= 32
