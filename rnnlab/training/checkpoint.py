"""Checkpoints, and the only module that knows orbax.

A checkpoint holds four items: `params`, `training` (whatever else training needs, a tree of
arrays), `meta` (a JSON object) and `digests`, one of every leaf: orbax restores most flipped bits
without a word, this module does not. Writing is atomic: a checkpoint is there as a whole or not.
Trees are stored in a list of one, for orbax takes no bare array.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import shutil
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rnnlab.training.task import PyTree

SPARE_BYTES = 2**20
"""What a checkpoint takes besides its arrays, at most: names, shapes, digests."""

LARGEST_TEXT = 2**26
"""Bytes of a file that holds no arrays, at most: it is read whole."""


class DiskFull(OSError):
    """There is no room for a checkpoint."""


class Unusable(ValueError):
    """A checkpoint that is not what a run saved."""


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
        self._replaced = directory.parent / "replaced_checkpoints"
        if not read_only:
            directory.mkdir(parents=True, exist_ok=True)
            self._put_back()
        alone = _alone()
        try:
            for path in directory.glob("*/_CHECKPOINT_METADATA"):  # which orbax reads at once
                _check_file(path)
            self._manager = ocp.CheckpointManager(
                directory.absolute(),
                item_handlers={  # named, for what an unread checkpoint declares to be
                    "params": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
                    "training": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
                    "meta": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
                    "digests": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
                },
                options=ocp.CheckpointManagerOptions(
                    enable_async_checkpointing=False,  # a save has happened when it returns
                    cleanup_tmp_directories=not read_only,
                    create=False,
                    multiprocessing_options=alone,
                ),
            )
        except RecursionError as error:
            raise Unusable(
                f"{directory}: expected the checkpoints of a run, got some that cannot be read"
                f" ({error})."
            ) from error

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
        """Saves `step`, then deletes all but the newest ones and the `best` one.

        A checkpoint of this step is replaced, and put back where that comes to nothing.

        Args:
          step: number of the checkpoint.
          params: tree of numpy arrays.
          training: another.
          meta: a JSON object.
          best: a step to keep.

        Raises:
          DiskFull: there is no room.
        """
        digests: dict[str, Any] = {"params": _digests(params), "training": _digests(training)}
        digests["meta"] = _text_digest(meta)
        self._check_space(params, training)
        if step in self.steps():
            self._replaced.mkdir(exist_ok=True)
            self._directory.joinpath(str(step)).rename(self._replaced / str(step))
            self._manager.reload()
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
            self._put_back()
            self._check_space(params, training)  # where that was the reason, say it
            raise
        shutil.rmtree(self._replaced, ignore_errors=True)
        for old in self.steps()[: -self._keep]:
            if old != best:
                self._delete(old)

    def _put_back(self) -> None:
        """Undoes a replacement that was broken off."""
        for path in self._replaced.glob("*"):
            if not self._directory.joinpath(path.name).exists():
                path.rename(self._directory / path.name)
        shutil.rmtree(self._replaced, ignore_errors=True)

    def _delete(self, step: int) -> None:
        path = self._directory / str(step)
        if path.is_symlink():  # what it leads to is somebody else's
            path.unlink()
            self._manager.reload()
        else:
            self._manager.delete(step)

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
        """`params` and `training` of a step, numpy arrays, shaped like the trees given."""
        restored = self._restore(step, params=[params], training=[training])
        return restored["params"], restored["training"]

    def restore_params(self, step: int, params: PyTree) -> PyTree:
        """`params` of a step alone, numpy arrays, shaped like the tree given."""
        return self._restore(step, params=[params])["params"]

    def restore_raw(self, step: int) -> dict[str, PyTree]:
        """Both trees of a step as nested dictionaries and lists of numpy arrays."""
        return self._restore(step, params=None, training=None)

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
        with self._reading(step):
            args = {
                item: ocp.args.StandardRestore(self._target(step, item, target))
                for item, target in targets.items()
            }
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
            saved, trees = self._read_json(step, "digests"), {}
            for item in targets:
                trees[item] = restored[item][0]
                there, found = saved[item], _digests(trees[item])
                bad = [name for name in there | found if there.get(name) != found.get(name)]
                if bad:
                    raise Unusable(self._changed(step, item, f", in {', '.join(bad)}"))
            return trees

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Whatever the files of a step lead to is an error of one kind, which says where."""
        folder = self._directory / str(step)
        try:
            _check_files(folder)
            yield
        except (Unusable, FileNotFoundError):
            raise
        except Exception as error:
            raise Unusable(
                f"{folder}: expected a checkpoint of a run, got one that cannot be read"
                f" ({type(error).__name__}: {error})."
            ) from error

    def _target(self, step: int, item: str, target: PyTree | None) -> PyTree:
        """Room for an item. What it declares to be is looked at before any memory is taken."""
        tree = self._manager.item_metadata(step)[item]
        declared = _declared(tree)
        for name, leaf in named_leaves(tree):
            if math.prod(leaf.storage.chunk_shape) > max(math.prod(leaf.shape), 1):
                raise Unusable(
                    f"{self._directory / str(step)}: expected {name} in parts of at most its shape"
                    f" {leaf.shape}, got {leaf.storage.chunk_shape}."
                )
        if target is None:
            size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in declared.values())
            if size > _memory():
                raise Unusable(
                    f"{self._directory / str(step)}: expected {item} that fit into the"
                    f" {_memory():,} bytes of memory, got {size:,}."
                )
            target = tree
        expected = _declared(target)
        names = [n for n in expected | declared if expected.get(n) != declared.get(n)]
        if names:
            raise Unusable(
                f"{self._directory / str(step)}: expected {item} with"
                f" {_shapes(names, expected)}, got {_shapes(names, declared)}."
            )
        return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), target)

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON object of a step."""
        with self._reading(step):
            meta = self._read_json(step, "meta")
            if _text_digest(meta) != self._read_json(step, "digests")["meta"]:
                raise Unusable(self._changed(step, "meta", ""))
            return meta

    def _changed(self, step: int, item: str, leaves: str) -> str:
        return (
            f"{self._directory / str(step)}: expected the {item} that was saved, but it has changed"
            f" since{leaves}. Remove this checkpoint, and an older one is used."
        )

    def _read_json(self, step: int, item: str) -> dict[str, Any]:
        args = ocp.args.Composite(**{item: ocp.args.JsonRestore()})
        content = self._manager.restore(step, args=args)[item]
        if not isinstance(content, dict):
            raise ValueError(f"{item}: expected a JSON object, got {type(content).__name__}")
        return content


def _check_files(folder: pathlib.Path) -> None:
    """Refuses what is larger than memory, or not made of plain files and folders."""
    total = sum(map(_check_file, (folder, *folder.rglob("*"))))
    if total > _memory():
        raise Unusable(
            f"{folder}: expected files that fit into the {_memory():,} bytes of memory, got"
            f" {total:,}."
        )


def _check_file(path: pathlib.Path) -> int:
    """Its size. A link may lead anywhere, and a pipe has no end."""
    status = path.lstat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise Unusable(f"{path}: expected a file or a folder, got a link, a pipe or the like.")
    if status.st_size > LARGEST_TEXT and path.parent.name != "d":
        raise Unusable(f"{path}: expected at most {LARGEST_TEXT:,} bytes, got {status.st_size:,}.")
    return status.st_size


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves of a tree with their paths, such as `cells.0.kernel`."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def _declared(tree: PyTree) -> dict[str, tuple]:
    return {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in named_leaves(tree)}


def _shapes(names: list[str], leaves: Mapping[str, tuple]) -> str:
    """The first few leaves in words; orbax's list starts with a 0, for the trees are in a list."""
    words = [
        f"{name.removeprefix('0.')} {' '.join(map(str, leaves[name]))}"
        if name in leaves
        else f"no {name.removeprefix('0.')}"
        for name in names[:3]
    ]
    return ", ".join(words) + (" and others" if len(names) > 3 else "")


def _digests(tree: PyTree) -> dict[str, str]:
    """Path -> SHA-256 of the dtype, shape and bytes of a leaf."""
    leaves = named_leaves(tree)
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


def _alone() -> ocp.options.MultiprocessingOptions:
    """Of several processes, the one that reads and writes does so without the others."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"{process}"
    )
