"""A small stateful task, and ways to interrupt it."""

import itertools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.data import Streams
from rnnlab.training import FitConfig, Ratio, Task
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.mesh import make_mesh
from rnnlab.training.optimizers import make_optimizer, make_schedule
from rnnlab.training.steps import initial_train_state
from tests.compile_once import compile_once as compile_once

TOKENS = np.random.default_rng(0).integers(0, 7, 400).astype(np.int32)


class Params(NamedTuple):
    embedding: jax.Array  # [7, 8]
    kernel: jax.Array  # [8, 7]
    bias: jax.Array  # [7]


def init(key):
    values = jax.random.normal(key, (2, 7, 8))
    return Params(values[0], values[1].T, jnp.zeros(7))


def loss(params, carry, window, key):
    """A leaky sum of embeddings, with noise in training: little to compile, and all it takes."""

    def step(h, token):
        h = 0.5 * h + params.embedding[token]
        return h, h

    carry = jnp.where(window.start[:, None], 0, carry)
    carry, hs = jax.lax.scan(step, carry, window.inputs.T)
    if key is not None:
        hs = hs + 0.1 * jax.random.normal(key, hs.shape)
    logits = (hs.astype(params.kernel.dtype) @ params.kernel + params.bias).astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets.T)
    return Ratio.mean(losses, window.weights.T), (carry, {})


@pytest.fixture
def make_task():
    def make(interrupt_at=None, **fields):
        streams = Streams(TOKENS[:301], num_streams=4, seq_length=6)

        def train_batches(first_step):
            for step in itertools.count(first_step):
                if step == interrupt_at:
                    raise KeyboardInterrupt
                yield streams.window(step)

        held_out = Streams(TOKENS[300:], num_streams=2, seq_length=6)
        defaults = {
            "init": init,
            "loss": loss,
            "optimizer": make_optimizer(
                "adamw", make_schedule("cosine", 1e-2, 3, 30), clip_norm=1.0, weight_decay=0.1
            ),
            "train_batches": train_batches,
            "eval_batches": {"valid": held_out.epoch, "test": held_out.epoch},
            "initial_state": lambda params, batch_size: jnp.zeros((batch_size, 8)),
            "assets": {"vocabulary.json": "{}"},
            "unit": "tok",
        }
        return Task(**{**defaults, **fields})

    return make


@pytest.fixture
def make_config(tmp_path):
    def make(workdir="run", **fields):
        defaults = {
            "steps": 20,
            "batch_size": 4,
            "log_every": 4,
            "eval_every": 7,
            "save_every": 5,
            "flags": {"features": "8", "steps": "20"},
            "data": {"train": "abc"},
        }
        return FitConfig(workdir=str(tmp_path / workdir), **{**defaults, **fields})

    return make


@pytest.fixture
def constant_task():
    """A task whose validation losses are given; its parameter counts the updates."""

    def make(losses, **fields):
        def loss(params, state, batch, key):
            value = losses_at(params) if key is None else params
            return Ratio(value, jnp.ones(())), (state, {})

        def losses_at(params):
            return jnp.asarray(losses, jnp.float32)[params.astype(int)]

        batch = {"x": np.zeros(1, np.float32)}
        return Task(
            init=lambda key: jnp.zeros(()),
            loss=loss,
            optimizer=optax.sgd(-1.0),  # adds the gradient, 1
            train_batches=lambda first_step: itertools.repeat(batch),
            **{"eval_batches": {"valid": lambda: [batch], "test": lambda: [batch]}, **fields},
        )

    return make


@pytest.fixture
def saved_bytes():
    """Everything in the newest checkpoint of a run, bit for bit."""

    def read(task, config):
        mesh = make_mesh("", config.batch_size)
        train, _ = initial_train_state(task, jax.random.key(0), config.batch_size, mesh)
        with Checkpoints(pathlib.Path(config.workdir) / "checkpoints") as checkpoints:
            rest = train._replace(params=())
            tree = checkpoints.restore(checkpoints.latest(), train.params, rest)
        leaves = jax.tree.leaves(jax.device_get(tree))
        return [(leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in leaves]

    return read


@pytest.fixture
def no_cache_chosen():
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)
