"""R15: the same command in another process gives the same bits."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from rnnlab.training.checkpoint import Checkpoints, named_leaves

ROOT = pathlib.Path(__file__).parents[2]
BOTH = """
import sys
from experiments import classifier, language_model
shared = ["--steps=6", "--eval_every=6", "--log_every=2", "--features=8", "--dropout=0.2"]
language_model.main(["program", *shared, f"--workdir={sys.argv[1]}/language_model", "--length=2",
    "--batch_size=8", "--seq_length=8", "--eval_streams=256", "--embedding_features=4"])
classifier.main(["program", *shared, f"--workdir={sys.argv[1]}/classifier"])
"""
RUNS = ("language_model", "classifier")


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Two directories, each with a run of both experiments, made by a process of its own."""
    folders = [tmp_path_factory.mktemp("twin") for _ in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BOTH, str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            stdout=subprocess.DEVNULL,
        )
        for folder, seed in zip(folders, "12", strict=True)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    return folders


def arrays_of(run):
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        raw = checkpoints.restore_raw(checkpoints.latest())
    leaves = {name: np.asarray(leaf) for name, leaf in named_leaves(raw)}
    return {name: (leaf.dtype, leaf.shape, leaf.tobytes()) for name, leaf in leaves.items()}


@pytest.mark.slow
@pytest.mark.promise("R15")
@pytest.mark.parametrize("run", RUNS)
def test_parameters_optimizer_and_metrics_are_equal_to_the_bit(twins, run):
    one, two = (folder / run for folder in twins)
    assert arrays_of(one) == arrays_of(two)
    for name in ("metrics.jsonl", *(path.name for path in one.glob("*.txt"))):
        first, second = ((run / name).read_text() for run in (one, two))
        assert first.replace(str(one), "") == second.replace(str(two), "")
    assert len((one / "metrics.jsonl").read_text().splitlines()) >= 5
