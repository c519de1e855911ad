"""Checkpoints, and the only module that knows orbax.

A checkpoint holds three items: `params`, `training` (whatever else training needs, a tree of
arrays) and `meta` (a JSON object). Writing is atomic: a checkpoint is there as a whole or not.
Trees are stored in a list of one, for orbax takes no bare array.
"""

import pathlib
from typing import Any

import orbax.checkpoint as ocp

from rnnlab.training.task import PyTree


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
            item_names=("params", "training", "meta"),
            options=ocp.CheckpointManagerOptions(
                enable_async_checkpointing=False,  # a save has happened when it returns
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
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
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave([params]),
                training=ocp.args.StandardSave([training]),
                meta=ocp.args.JsonSave(meta),
            ),
        )
        for old in self.steps()[: -self._keep]:
            if old != best:
                self._manager.delete(old)

    def restore(self, step: int, params: PyTree, training: PyTree) -> tuple[PyTree, PyTree]:
        """`params` and `training` of a step, shaped and placed like the trees given."""
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore([params]),
                training=ocp.args.StandardRestore([training]),
            ),
        )
        return restored["params"][0], restored["training"][0]

    def restore_params(self, step: int, params: PyTree) -> PyTree:
        """`params` of a step alone, shaped and placed like the tree given."""
        args = ocp.args.Composite(params=ocp.args.StandardRestore([params]))
        return self._manager.restore(step, args=args)["params"][0]

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON object of a step."""
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["meta"]
