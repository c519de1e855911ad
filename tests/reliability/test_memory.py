"""R23: a run that does not fit says how large it was, and which flags to lower."""

import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

from rnnlab.training import fit
from rnnlab.training.trainer import Trainer

pytestmark = pytest.mark.promise("R23")

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = {"batch_size": "4", "seq_length": "6", "features": "8", "cell": "lstm"}
ERRORS = {
    "of a device": jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory allocating 1234567 bytes."
    ),
    "of Python": MemoryError("Unable to allocate 12 GiB"),
}


@pytest.mark.parametrize("where", ["program", "update"])
@pytest.mark.parametrize("error", ERRORS)
def test_it_is_exit_6_with_sizes_and_flags(
    make_task, make_config, monkeypatch, capsys, where, error
):
    def fail(*args):
        raise ERRORS[error]

    monkeypatch.setattr(Trainer, where, fail)
    with pytest.raises(SystemExit) as exit_:
        fit(make_task(), make_config(flags=FLAGS))
    assert exit_.value.code == 6
    printed = capsys.readouterr().out
    assert "out of memory" in printed
    assert "int32[4, 6]" in printed
    assert "--batch_size=4 --seq_length=6 --features=8" in printed
    assert "--microbatches" in printed
    assert str(ERRORS[error]).split(".")[0] in printed


def test_another_error_of_a_device_stays_what_it_is(make_task, make_config, monkeypatch):
    def fail(*args):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(Trainer, "program", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        fit(make_task(), make_config())


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
from experiments import language_model
language_model.main(["program", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_a_real_one_under_a_limit_of_six_gigabytes(tmp_path):
    flags = (
        f"--workdir={tmp_path} --batch_size=65536 --seq_length=5 --features=1024 --strategy=scan"
    )
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *flags.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 6, ended.stderr
    assert re.search(r"error: step [0-3]: out of memory", ended.stdout)
    assert "int32[65536, 5]" in ended.stdout
    assert "--batch_size=65536 --seq_length=5 --features=1024" in ended.stdout
    assert "Traceback" not in ended.stderr
