import json
import shutil
import sys

import numpy as np
import pytest

from rnnlab.cli import main
from rnnlab.training.checkpoint import Checkpoints
from tests.cli.conftest import ENDED, RUNNING


def params(step):
    """As a model of two layers has them, of a value for each step."""
    layer = {"kernel": np.full((2, 3), step, np.float32), "bias": np.arange(3, dtype=np.float32)}
    return {"cells": [layer, {"scale": np.full(4, -step, np.float32)}]}


@pytest.fixture
def make_saved(make_run):
    """A run directory with a checkpoint for each of some steps."""

    def make(steps=(10, 20), best=10, summary=ENDED, params=params):
        path = make_run("saved", summary, flags="--features=8\n--workdir=/home/me\n")
        with Checkpoints(path / "checkpoints", keep=9) as checkpoints:
            for step in steps:
                meta = {"progress": {"best_step": best}}
                checkpoints.save(step, params(step), {"moment": np.ones(3)}, meta, best)
        return path

    return make


@pytest.fixture
def saved(make_saved):
    return make_saved()


def test_ls(saved, capsys):
    assert main(["ckpt", "ls", str(saved)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line[:2] for line in lines[2:]] == [["10", "best"], ["20", "latest"]]


def test_verify_of_good_ones(saved, capsys):
    assert main(["ckpt", "verify", str(saved)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["step 10: good", "step 20: good", "2 checkpoints, 0 bad"]


def test_verify_finds_files_that_are_gone(saved, capsys):
    for folder in (saved / "checkpoints" / "20" / "params").rglob("d"):
        shutil.rmtree(folder)
    assert main(["ckpt", "verify", str(saved)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["step 10: good", "step 20: bad"]
    assert lines[2].startswith("  ")
    assert lines[-1] == "2 checkpoints, 1 bad"


def swap_params(saved):
    """Puts the parameters of step 20, whole as they are, in the place of those of step 10."""
    ours, theirs = (saved / "checkpoints" / step / "params" for step in ("10", "20"))
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)


def test_verify_finds_other_values_than_were_saved(saved, capsys):
    swap_params(saved)
    assert main(["ckpt", "verify", str(saved)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[2]) == ("step 10: bad", "step 20: good")
    assert "cells.0.kernel, cells.1.scale" in lines[1]


def test_verify_finds_values_that_are_not_finite(make_saved, capsys):
    saved = make_saved(params=lambda step: {"kernel": np.array([1, np.nan if step > 10 else 2])})
    assert main(["ckpt", "verify", str(saved)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["step 10: good", "step 20: bad", "  params.kernel: not finite", lines[-1]]


@pytest.fixture
def export(saved, tmp_path):
    """Exports, and returns arrays and metadata of the file."""
    safetensors = pytest.importorskip("safetensors")

    def run(*options):
        out = tmp_path / "out.safetensors"
        assert main(["ckpt", "export", str(saved), f"--out={out}", "--force", *options]) == 0
        with safetensors.safe_open(out, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dict
            return arrays, file.metadata()

    return run


@pytest.mark.parametrize(
    ("option", "step"), [((), 10), (("--step=latest",), 20), (("--step=20",), 20)]
)
def test_export_writes_the_parameters_to_the_bit(export, option, step):
    arrays, metadata = export(*option)
    (first, second) = params(step)["cells"]
    expected = {
        "cells.0.kernel": first["kernel"],
        "cells.0.bias": first["bias"],
        "cells.1.scale": second["scale"],
    }
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])
    assert metadata["step"] == str(step)
    assert json.loads(metadata["flags"]) == {"features": "8"}


def test_export_of_a_run_that_is_going_asks_its_checkpoint_for_the_best(make_saved, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    saved, out = make_saved(summary=RUNNING), tmp_path / "out.safetensors"
    assert main(["ckpt", "export", str(saved), f"--out={out}"]) == 0
    with safetensors.safe_open(out, "numpy") as file:
        assert file.metadata()["step"] == "10"


def test_export_does_not_write_over_a_file(saved, tmp_path, refused):
    out = tmp_path / "out.safetensors"
    out.write_text("precious")
    assert "--force replaces it" in refused("ckpt", "export", saved, f"--out={out}")
    assert out.read_text() == "precious"


def test_export_of_a_step_that_is_not_there(saved, tmp_path, refused):
    message = refused("ckpt", "export", saved, f"--out={tmp_path / 'x'}", "--step=15")
    assert "--step: expected best, latest or one of 10, 20, got '15'" in message
    assert not (tmp_path / "x").exists()


def test_export_refuses_a_changed_checkpoint(saved, tmp_path, refused):
    swap_params(saved)
    message = refused("ckpt", "export", saved, f"--out={tmp_path / 'x'}")
    assert "step 10 cannot be restored" in message
    assert "cells.0.kernel" in message
    assert not (tmp_path / "x").exists()


def test_missing_safetensors_says_how_to_install_it(saved, tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    message = refused("ckpt", "export", saved, f"--out={tmp_path / 'x'}")
    assert "pip install 'rnnlab[export]'" in message


@pytest.mark.parametrize("action", ["ls", "verify"])
def test_what_is_no_run_or_has_no_checkpoint(action, make_run, make_saved, tmp_path, refused):
    assert "expected a run directory" in refused("ckpt", action, tmp_path)
    assert "found none" in refused("ckpt", action, make_run("bare"))
    assert "expected a checkpoint" in refused("ckpt", action, make_saved(steps=()))
