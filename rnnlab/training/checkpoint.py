"""Checkpoints, and the only module that knows orbax.

A checkpoint holds four items: `params`, `training` (whatever else training needs, a tree of
arrays), `meta` (a JSON object) and `digests`, one of every leaf: orbax restores most flipped bits
without a word, this module does not. Writing is atomic: a checkpoint is there as a whole or not.
Trees are stored in a list of one, for orbax takes no bare array.
"""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rnnlab.training.task import PyTree

SPARE_BYTES = 2**20
"""What a checkpoint takes besides its arrays, at most: names, shapes, digests."""


class DiskFull(OSError):
    """There is no room for a checkpoint."""


class Checkpoints:
    """The checkpoints of one run, by step. A context manager: leaving it releases its resources.

    Args:
      directory: made where it is missing, unless `read_only`.
      keep: how many of the newest are kept.
      read_only: for looking at a run that belongs to somebody else.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 2, read_only: bool = False):
        if keep < 1:
            raise ValueError(f"keep: expected at least 1 checkpoint, got {keep}.")
        if read_only and not directory.is_dir():
            raise FileNotFoundError(f"{directory}: expected the checkpoints of a run, found none.")
        self._directory, self._keep = directory, keep
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            item_names=("params", "training", "meta", "digests"),
            options=ocp.CheckpointManagerOptions(
                enable_async_checkpointing=False,  # a save has happened when it returns
                cleanup_tmp_directories=not read_only,
                create=not read_only,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps there are, oldest first."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """The newest step, None where there is none."""
        return max(self.steps(), default=None)

    def save(
        self, step: int, params: PyTree, training: PyTree, meta: dict[str, Any], best: int | None
    ) -> None:
        """Saves `step`, then deletes all but the newest ones and the `best` one."""
        digests: dict[str, Any] = {"params": _digests(params), "training": _digests(training)}
        digests["meta"] = _text_digest(meta)
        self._check_space(params, training)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave([params]),
                    training=ocp.args.StandardSave([training]),
                    meta=ocp.args.JsonSave(meta),
                    digests=ocp.args.JsonSave(digests),
                ),
            )
        except Exception:
            for part in self._directory.glob(f"{step}.orbax-checkpoint-tmp*"):
                shutil.rmtree(part, ignore_errors=True)
            self._check_space(params, training)  # where that was the reason, say it
            raise
        for old in self.steps()[: -self._keep]:
            if old != best:
                self._manager.delete(old)

    def _check_space(self, *trees: PyTree) -> None:
        leaves = jax.tree.leaves(trees)
        needed = sum(leaf.nbytes for leaf in leaves) + SPARE_BYTES
        free = shutil.disk_usage(self._directory).free
        if free < needed:
            raise DiskFull(
                f"{self._directory}: expected {needed:,} bytes free for a checkpoint, got {free:,}."
                " Make room, and the same command goes on from the last checkpoint."
            )

    def set_aside(self, step: int) -> pathlib.Path:
        """Moves a step out of the way, beside the directory of the checkpoints; its new place."""
        folder = self._directory.parent / "bad_checkpoints"
        folder.mkdir(exist_ok=True)
        number = sum(path.name.split("-")[0] == str(step) for path in folder.iterdir())
        target = folder / (f"{step}-{number}" if number else str(step))
        (self._directory / str(step)).rename(target)
        self._manager.reload()
        return target

    def restore(self, step: int, params: PyTree, training: PyTree) -> tuple[PyTree, PyTree]:
        """`params` and `training` of a step, shaped and placed like the trees given."""
        restored = self._restore(step, params=[params], training=[training])
        return restored["params"], restored["training"]

    def restore_params(self, step: int, params: PyTree) -> PyTree:
        """`params` of a step alone, shaped and placed like the tree given."""
        return self._restore(step, params=[params])["params"]

    def restore_raw(self, step: int) -> dict[str, PyTree]:
        """Both trees of a step as nested dictionaries and lists of numpy arrays."""
        return jax.device_get(self._restore(step, params=None, training=None))

    def verify(self, step: int) -> list[str]:
        """What is wrong with a step; nothing where it can be restored to the bit."""
        try:
            restored = self.restore_raw(step)
            self.meta(step)
        except Exception as error:  # whatever is wrong with the files
            return [f"{type(error).__name__}: {error}"]
        return [
            f"{item}.{name}: not finite"
            for item, tree in restored.items()
            for name, leaf in named_leaves(tree)
            # the state of an optimizer may begin at infinity, parameters may not
            if item == "params" and not np.all(np.isfinite(np.asarray(leaf, np.float64)))
        ]

    def _restore(self, step: int, **targets: PyTree | None) -> dict[str, PyTree]:
        """The items named, checked against their digests; a target of None is any tree."""
        args = {
            item: ocp.args.StandardRestore(target, fallback_sharding=_one_device())
            if target is None
            else ocp.args.StandardRestore(target)
            for item, target in targets.items()
        }
        restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        saved, trees = self._read_json(step, "digests"), {}
        for item in targets:
            trees[item] = restored[item][0]
            found = _digests(trees[item])
            bad = [name for name in saved[item] | found if saved[item].get(name) != found.get(name)]
            if bad:
                raise ValueError(self._changed(step, item, f", in {', '.join(bad)}"))
        return trees

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON object of a step."""
        meta = self._read_json(step, "meta")
        if _text_digest(meta) != self._read_json(step, "digests")["meta"]:
            raise ValueError(self._changed(step, "meta", ""))
        return meta

    def _changed(self, step: int, item: str, leaves: str) -> str:
        return (
            f"{self._directory / str(step)}: expected the {item} that was saved, but it has changed"
            f" since{leaves}. Remove this checkpoint, and an older one is used."
        )

    def _read_json(self, step: int, item: str) -> dict[str, Any]:
        args = ocp.args.Composite(**{item: ocp.args.JsonRestore()})
        return self._manager.restore(step, args=args)[item]


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves of a tree with their paths, such as `cells.0.kernel`."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def _digests(tree: PyTree) -> dict[str, str]:
    """Path -> SHA-256 of the dtype, shape and bytes of a leaf."""
    leaves = named_leaves(jax.device_get(tree))
    digests = {name: _digest(np.asarray(leaf)) for name, leaf in leaves}
    if len(digests) < len(leaves):
        raise ValueError(
            f"params: expected a path for each leaf, got {[name for name, _ in leaves]}."
        )
    return digests


def _text_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(leaf: np.ndarray) -> str:
    digest = hashlib.sha256(f"{leaf.dtype} {leaf.shape} ".encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _one_device() -> jax.sharding.SingleDeviceSharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
