"""Trains a model that counts which examples it was shown, to be run by one process or several.

python -m tests.reliability.counting WORKDIR STEPS
"""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import optax

from rnnlab.data import Batches
from rnnlab.training import FitConfig, Ratio, Task, fit
from rnnlab.training.processes import is_first, join

EXAMPLES, BATCH_SIZE = 20, 8  # an epoch ends within a batch


def loss(params, state, batch, key):
    """Its gradient is minus how often each example is in the batch, as it is scaled by the rows."""
    shown = params[batch.examples].sum()
    return Ratio(-shown * BATCH_SIZE, jnp.asarray(BATCH_SIZE, jnp.float32)), (state, {})


def main(workdir: str, steps: int) -> None:
    join(heartbeat_seconds=10)
    task = Task(
        init=lambda key: jnp.zeros(EXAMPLES),
        loss=loss,
        optimizer=optax.sgd(1.0),
        train_batches=Batches(np.arange(EXAMPLES), BATCH_SIZE, seed=3).batches,
        eval_batches={},
    )
    result = fit(task, FitConfig(workdir=workdir, steps=steps, batch_size=BATCH_SIZE))
    if is_first():
        np.save(pathlib.Path(workdir, "counts.npy"), np.asarray(result.params))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
