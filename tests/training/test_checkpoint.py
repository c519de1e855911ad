from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.training.checkpoint import Checkpoints, named_leaves


class Pair(NamedTuple):
    first: jax.Array
    second: jax.Array


TREES = {
    "nested": {"a": Pair(jnp.arange(3.0), jnp.ones((2, 2), jnp.bfloat16)), "b": [jnp.int32(7)]},
    "with nothing in it": (),
    "bare array": jnp.arange(4.0),
    "complex and missing": (jnp.ones(2, jnp.complex64) * 1j, None, ()),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_come_back_bit_for_bit(tmp_path, name):
    tree, meta = TREES[name], {"number": 0.1 + 0.2, "nested": {"none": None}}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, tree, TREES["nested"], meta, best=None)
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        params, training = checkpoints.restore(3, tree, TREES["nested"])
        assert checkpoints.meta(3) == meta
        again = checkpoints.restore_params(3, tree)
    for got, want in ((params, tree), (again, tree), (training, TREES["nested"])):
        assert jax.tree.structure(got) == jax.tree.structure(want)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_restores_to_shapes_alone(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, jnp.arange(4.0), (), {}, best=None)
        shape = jax.ShapeDtypeStruct((4,), jnp.float32)
        restored = checkpoints.restore_params(0, shape)
    assert restored.tolist() == [0, 1, 2, 3]


def test_keeps_the_newest_and_the_best(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest() is None
        for step in range(5):
            checkpoints.save(step, jnp.zeros(1), (), {}, best=1 if step else None)
        assert checkpoints.steps() == [1, 3, 4]
        assert checkpoints.latest() == 4


def test_a_step_may_be_replaced(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for value in (1.0, 2.0):
            checkpoints.save(3, jnp.full(1, value), (), {}, best=None)
        assert checkpoints.restore_params(3, jnp.zeros(1)).tolist() == [2]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])  # the second stands for a kill
def test_a_replacement_broken_off_leaves_the_checkpoint_there_was(tmp_path, monkeypatch, error):
    def fail(*args, **options):
        raise error

    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, jnp.ones(1), (), {}, best=None)
        monkeypatch.setattr(checkpoints._manager, "save", fail)
        with pytest.raises(error):
            checkpoints.save(3, jnp.zeros(1), (), {}, best=None)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore_params(3, jnp.zeros(1)).tolist() == [1]


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="keep: expected at least 1"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(FileNotFoundError, match="expected the checkpoints of a run"):
        Checkpoints(tmp_path / "nowhere", read_only=True)


@pytest.mark.parametrize("item", ["params", "training", "meta"])
def test_a_changed_value_is_named(tmp_path, item, monkeypatch):
    saved = {"params": {"a": jnp.ones(3)}, "training": {"b": jnp.ones(2)}, "meta": {"batches": 7}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, **saved, best=None)
        assert checkpoints.verify(1) == []
    metadata = tmp_path / "1" / "meta" / "metadata"
    if item == "meta":
        metadata.write_text(metadata.read_text().replace("7", "6"))
    with Checkpoints(tmp_path) as checkpoints:
        if item != "meta":  # stands for a flipped bit that orbax does not see
            restore = checkpoints._manager.restore

            def flipped(*args, **options):
                restored = restore(*args, **options)
                if item not in restored:
                    return restored
                tree = jax.tree.map(lambda leaf: np.full_like(leaf, 2), restored[item])
                return {**dict(restored.items()), item: tree}

            monkeypatch.setattr(checkpoints._manager, "restore", flipped)
        (problem,) = checkpoints.verify(1)
        assert f"expected the {item} that was saved, but it has changed since" in problem
        leaf = {"params": ", in a.", "training": ", in b.", "meta": ". Remove"}[item]
        assert leaf in problem


def test_two_leaves_of_one_path_are_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="a path for each"):
        checkpoints.save(1, {"a.b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, (), {}, best=None)


def test_a_raw_tree_needs_no_target_and_names_its_leaves(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, TREES["nested"], (), {}, best=None)
        raw = checkpoints.restore_raw(1)
    names = [name for name, _ in named_leaves(raw["params"])]
    assert sorted(names) == sorted(name for name, _ in named_leaves(TREES["nested"]))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(raw))
