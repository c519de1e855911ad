"""R13: a run goes on with another number of devices: the same state, samples and losses."""

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
ORDERS = list(itertools.permutations((1, 2, 8)))

SCRIPT = """
import sys
from experiments import language_model
workdir, *meshes = sys.argv[1:]
for number, mesh in enumerate(meshes, start=1):
    flags = "--features=32 --embedding_features=16 --batch_size=8 --seq_length=16 --length=1"
    flags += " --dropout=0.1 --log_every=5 --eval_every=10 --save_every=10 --decay_steps=60"
    flags += f" --steps={20 * number} --workdir={workdir} --mesh={mesh}"
    language_model.main(["", *flags.split()])
"""


@pytest.fixture(scope="session")
def train(tmp_path_factory):
    """`(name, meshes) -> run directory` of 20 steps on each mesh, made once."""
    folder = tmp_path_factory.mktemp("devices")
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run(*meshes):
        workdir = folder / "-".join(meshes).replace(",", "+")
        if not workdir.exists():
            command = [sys.executable, "-c", SCRIPT, str(workdir), *meshes]
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr
            workdir.joinpath("output.txt").write_text(done.stdout)
        return workdir

    return run


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {(line["split"], line["step"]): line["loss"] for line in lines}


def quick_first(cases):
    return [
        pytest.param(case, marks=[pytest.mark.slow] + [pytest.mark.full] * (number > 0))
        for number, case in enumerate(cases)
    ]


@pytest.mark.promise("R13")
@pytest.mark.parametrize("order", quick_first(ORDERS))
def test_any_order_of_device_counts_has_the_losses_of_one(train, order):
    expected = losses(train(*["data:1"] * 3))
    found = losses(train(*[f"data:{count}" for count in order]))
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.promise("R13")
def test_shared_parameters_have_the_losses_of_one(train):
    """An embedding and an output split over devices, then gathered on one, then split in two."""
    expected = losses(train(*["data:1"] * 3))
    found = losses(train("data:2,model:4", "data:1", "data:4,model:2"))
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.promise("R13")
def test_the_same_number_of_devices_is_bitwise(train, tmp_path):
    """Three runs of 20 steps, and the last 20 of them again."""
    whole = train(*["data:8"] * 3)
    again = tmp_path / "again"
    shutil.copytree(whole, again)
    shutil.rmtree(again / "checkpoints" / "60")
    command = [sys.executable, "-m", "experiments.language_model"]
    done = subprocess.run(
        [*command, f"--flagfile={whole / 'flags.txt'}", f"--workdir={again}", "--length=1"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "resumed at step 50" in done.stdout, done.stderr
    assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    digests = [path / "checkpoints" / "60" / "digests" / "metadata" for path in (whole, again)]
    one, other = (json.loads(path.read_text()) for path in digests)
    assert (one["params"], one["training"]) == (other["params"], other["training"])
