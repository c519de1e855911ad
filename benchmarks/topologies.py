"""Does a run have the same losses wherever it goes on?

    python -m benchmarks.topologies

A language model with carried state and dropout is trained on one device; and once more, but stopped
every so often and resumed on 2 and 8 devices, in 2 processes, and on shared parameters. The losses
stand beside each other.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

from absl import app, flags

from benchmarks import timing

STEPS = 20  # on each
RUN = (
    *(sys.executable, "-m", "experiments.language_model", "--features=64", "--dropout=0.1"),
    *("--embedding_features=32", "--batch_size=16", "--seq_length=32", "--warmup_steps=10"),
    *("--log_every=10", "--eval_every=20", "--save_every=20", "--length=1"),
)
ALLOWED = 1e-5

_OUT = flags.DEFINE_string("out", "", "Markdown file to write; empty writes none.")


class Place(NamedTuple):
    """Where a part of a run is trained."""

    processes: int
    devices: int  # of each process
    mesh: str

    def describe(self) -> str:
        return f"{self.processes} process(es), --mesh={self.mesh}"


ALONE = Place(1, 1, "data:1")
PLACES = (
    ALONE,
    Place(1, 2, "data:2"),
    Place(1, 8, "data:8"),
    Place(2, 1, "data:2"),
    Place(1, 8, "data:4,model:2"),
    Place(2, 2, "data:2,model:2"),
    ALONE,
)


def train(workdir: pathlib.Path, place: Place, steps: int) -> None:
    """Goes on with the run in `workdir` up to `steps`."""
    launcher = []
    if place.processes > 1:
        launcher = [sys.executable, "-m", "rnnlab.launch", f"--nproc={place.processes}", "--"]
    flags_ = [f"--workdir={workdir}", f"--steps={steps}", f"--mesh={place.mesh}"]
    devices = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(place.devices)}
    done = subprocess.run(
        [*launcher, *RUN, *flags_], env=os.environ | devices, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{place}: expected exit code 0, got {done.returncode}: {done.stderr}")


def losses(workdir: pathlib.Path) -> dict[tuple[int, str], float]:
    """(step, split) -> loss, of all but the test set, which each end scores."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {(one["step"], one["split"]): one["loss"] for one in lines if one["split"] != "test"}


def main(arguments: list[str]) -> None:
    del arguments
    with tempfile.TemporaryDirectory() as folder:
        alone, moving = pathlib.Path(folder, "alone"), pathlib.Path(folder, "moving")
        train(alone, ALONE, STEPS * len(PLACES))
        for number, place in enumerate(PLACES, start=1):
            train(moving, place, STEPS * number)
        expected, found = losses(alone), losses(moving)
    if expected.keys() != found.keys():
        raise RuntimeError(f"expected the lines {sorted(expected)}, got {sorted(found)}")
    worst = max(abs(found[key] - expected[key]) for key in expected)
    lines = [
        "# One run on many topologies",
        "",
        "Written by `python -m benchmarks.topologies --out=FILE.md`: losses in nats of a language"
        " model that stays on one device, and of one that is resumed elsewhere every"
        f" {STEPS} steps.",
        "",
        *(f"- {name}: {value}" for name, value in timing.machine().items()),
        "",
        "| step | split | trained by | one device | resumed | difference |",
        "|---|---|---|---|---|---|",
        *(
            f"| {step} | {split} | {PLACES[(step - 1) // STEPS].describe()}"
            f" | {expected[step, split]:.7f} | {found[step, split]:.7f}"
            f" | {found[step, split] - expected[step, split]:+.1e} |"
            for step, split in expected
        ),
        "",
        f"Largest difference {worst:.1e}, allowed {ALLOWED:.0e}.",
    ]
    print("\n".join(lines))
    if _OUT.value:
        pathlib.Path(_OUT.value).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if worst > ALLOWED:
        raise RuntimeError(f"expected differences of at most {ALLOWED}, got {worst}")


if __name__ == "__main__":
    app.run(main)
