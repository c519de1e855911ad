import json

import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.training import Ratio
from rnnlab.training.task import Mean


def test_mean_weighs_batches_by_their_weight():
    mean = Mean()
    mean.add({"loss": Ratio(jnp.float32(6.0), jnp.float32(3.0))})
    mean.add({"loss": Ratio(jnp.float32(1.0), jnp.float32(1.0))})
    assert mean.sums() == {"loss": (7.0, 4.0)}
    assert mean.values() == {"loss": 1.75}


def test_ratio_mean():
    values, weights = jnp.array([[1.0, 2.0], [3.0, 9.0]]), jnp.array([[1.0, 1.0], [1.0, 0.0]])
    assert float(Ratio.mean(values, weights).value) == 2.0


@pytest.mark.parametrize("cut", [0, 3, 10])
def test_sums_saved_and_restored_go_on_bit_for_bit(cut):
    values = np.random.default_rng(0).normal(size=10).astype(np.float32)
    ratios = [{"loss": Ratio(jnp.float32(value), jnp.float32(1.1))} for value in values]
    straight, before = Mean(), Mean()
    for ratio in ratios:
        straight.add(ratio)
    for ratio in ratios[:cut]:
        before.add(ratio)
    after = Mean(json.loads(json.dumps(before.sums())))
    for ratio in ratios[cut:]:
        after.add(ratio)
    assert after.sums() == straight.sums()
