import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rnnlab.cells import LSTM
from rnnlab.models import LanguageModel
from rnnlab.training.mesh import batch_sharding, make_mesh, place, replicated, shardings_like

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


def test_parameters_are_split_by_words_or_by_features():
    model = LanguageModel(12, 6, cells=(LSTM(8),))
    params = model.init(jax.random.key(0))
    even, odd = model.partition(params, 4), model.partition(params, 3)
    assert (even.embedding, even.kernel, even.bias) == (P("model"), P(None, "model"), P("model"))
    assert (odd.embedding, odd.kernel, odd.bias) == (P("model"), P(None, "model"), P("model"))
    by_features = model.partition(params, 8)
    assert (by_features.embedding, by_features.kernel) == (P(), P("model"))
    assert all(spec == P() for spec in jax.tree.leaves(even.cells))
    tied = LanguageModel(12, 8, cells=(LSTM(8),), tied=True)
    assert tied.partition(tied.init(jax.random.key(0)), 4).kernel is None


def test_the_optimizer_lies_like_its_parameters():
    """Moments have the path and the shape of a parameter; counts and other shapes are copied."""
    params = {"a": {"kernel": jnp.zeros((4, 2))}, "kernel": jnp.zeros((2, 4))}
    opt_state = optax.adam(1e-3).init(params)
    mesh = make_mesh("", 1)
    split, copied = NamedSharding(mesh, P("model")), NamedSharding(mesh, P())
    lying = shardings_like(opt_state, params, {"a": {"kernel": split}, "kernel": copied}, copied)
    assert lying[0].mu == lying[0].nu == {"a": {"kernel": split}, "kernel": copied}
    assert lying[0].count == copied


@pytest.mark.parametrize("shape", [(), (4,), (4, 3), (0, 2)])
def test_placed_arrays_are_the_same(shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    mesh = make_mesh("", 4)
    for sharding in (replicated(mesh), batch_sharding(mesh)):
        if shape or sharding == replicated(mesh):
            placed = place({"x": array}, sharding)["x"]
            np.testing.assert_array_equal(placed, array)
            assert placed.sharding == sharding


def test_one_device_is_the_default():
    assert make_mesh("", 3).devices.size == 1


@pytest.mark.parametrize(
    "spec",
    ["data", "data:0", "data:-1", "data:x", "model:2", "2", "data:2,model:0", "data:2,data:2"],
)
def test_malformed_mesh(spec):
    with pytest.raises(ValueError, match="mesh: expected data:N"):
        make_mesh(spec, 64)


def test_more_devices_than_there_are():
    count = len(jax.devices()) + 1
    with pytest.raises(ValueError, match=r"mesh: expected at most the \d+ device\(s\) there are"):
        make_mesh(f"data:{count}", count)


def test_batch_has_to_divide(monkeypatch):
    devices = jax.devices() * 4
    monkeypatch.setattr(jax, "devices", lambda: devices)
    with pytest.raises(ValueError, match="batch_size: expected a multiple of 4"):
        make_mesh("data:4", 6)
