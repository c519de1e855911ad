import json

import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.training import Ratio
from rnnlab.training.task import Mean, PackedMetrics


def packed(total, weight):
    return PackedMetrics.of({"loss": Ratio(jnp.float32(total), jnp.float32(weight))})


def test_mean_weighs_batches_by_their_weight():
    mean = Mean()
    mean.add(packed(6.0, 3.0))
    mean.add(packed(1.0, 1.0))
    assert mean.sums() == {"loss": (7.0, 4.0)}
    assert mean.values() == {"loss": 1.75}


def test_ratio_mean():
    values, weights = jnp.array([[1.0, 2.0], [3.0, 9.0]]), jnp.array([[1.0, 1.0], [1.0, 0.0]])
    assert float(Ratio.mean(values, weights).value) == 2.0


@pytest.mark.parametrize("cut", [0, 3, 10])
def test_sums_saved_and_restored_go_on_bit_for_bit(cut):
    values = np.random.default_rng(0).normal(size=10).astype(np.float32)
    ratios = [packed(value, 1.1) for value in values]
    straight, before = Mean(), Mean()
    for ratio in ratios:
        straight.add(ratio)
    for ratio in ratios[:cut]:
        before.add(ratio)
    after = Mean(json.loads(json.dumps(before.sums())))
    for ratio in ratios[cut:]:
        after.add(ratio)
    assert after.sums() == straight.sums()


def test_a_metric_without_weight_has_no_value():
    mean = Mean()
    mean.add(PackedMetrics.of({"loss": Ratio(2.0, 1.0), "rare": Ratio(0.0, 0.0)}))
    assert mean.values() == {"loss": 2.0}
    assert mean.sums()["rare"] == (0.0, 0.0)


def test_bfloat16_totals_are_not_rounded_again():
    metrics = PackedMetrics.of({"loss": Ratio(jnp.bfloat16(3.0), jnp.float32(2049.0))})
    assert metrics.values.tolist() == [[3.0, 2049.0]]


@pytest.mark.parametrize("name", ["../escaped.txt", "/tmp/x", "", "..", "run.json", "checkpoints"])
def test_assets_stay_in_the_run_directory(make_task, name):
    with pytest.raises(ValueError, match="assets: expected"):
        make_task(assets={name: "text"})


def test_sets_have_plain_names(make_task):
    with pytest.raises(ValueError, match="eval_batches: expected a plain file name"):
        make_task(eval_batches={"../valid": lambda: []})
