import os
import pathlib
import subprocess
import sys

import jax
import pytest

from rnnlab.training.mesh import data_mesh

SCRIPT = """
import itertools
import jax, jax.numpy as jnp, numpy as np, optax
from rnnlab.cells import LSTM
from rnnlab.data import Streams
from rnnlab.models import LanguageModel
from rnnlab.training import FitConfig, Ratio, Task, fit

model = LanguageModel(5, 4, cells=(LSTM(8),))
tokens = np.random.default_rng(0).integers(0, 5, 200).astype(np.int32)

def loss(params, carry, window, key):
    carry, logits = model.apply(params, window.inputs.T, carry, start=window.start)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets.T)
    return Ratio.mean(losses, window.weights.T), (carry, {})

task = Task(
    init=model.init, loss=loss, optimizer=optax.sgd(0.5),
    train_batches=Streams(tokens, 4, 5).windows,
    eval_batches={"valid": Streams(tokens, 3, 5).epoch},
    initial_state=model.initial_carry,
)
results = {}
for name, mesh, steps in (("one", "", 8), ("two", "data:2", 4), ("two", "data:2", 8)):
    config = FitConfig(workdir=name, steps=steps, batch_size=4, mesh=mesh, eval_every=4)
    results[name] = fit(task, config)
one, two = results["one"], results["two"]
for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
assert abs(one.metrics["valid"]["loss"] - two.metrics["valid"]["loss"]) < 1e-5
assert len(two.params.bias.sharding.device_set) == 2
"""


@pytest.mark.slow
def test_two_devices_train_as_one_and_resume(tmp_path):
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    environment["PYTHONPATH"] = str(root)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "resumed at step 4" in done.stdout


def test_one_device_is_the_default():
    assert data_mesh("", 3).devices.size == 1


@pytest.mark.parametrize("spec", ["data", "data:0", "data:-1", "data:x", "model:2", "2"])
def test_malformed_mesh(spec):
    with pytest.raises(ValueError, match="mesh: expected data:N"):
        data_mesh(spec, 64)


def test_more_devices_than_there_are():
    count = len(jax.local_devices()) + 1
    with pytest.raises(ValueError, match=r"mesh: expected at most the \d+ local device"):
        data_mesh(f"data:{count}", count)


def test_batch_has_to_divide(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices() * 4)
    with pytest.raises(ValueError, match="batch_size: expected a multiple of 4"):
        data_mesh("data:4", 6)
