"""Weight normalisation: the length of every column of a kernel apart from its direction."""

import jax
import jax.numpy as jnp

from rnnlab.core.types import Array, PyTree


def column_norms(
    params: PyTree, names: tuple[str, ...] = ("kernel", "recurrent_kernel")
) -> dict[str, Array]:
    """The length of every column of the kernels with these names: the g that training starts from.

    Args:
      params: a cell's parameters, or a tuple of them.
      names: fields to normalise, wherever in the tree they are.

    Returns:
      Path of a kernel -> `[K]`, or `[N, K]` of a block-diagonal one.

    Raises:
      ValueError: no parameter has one of the names, or one has no columns.
    """
    kernels = {path: a for path, a in _by_path(params).items() if _name(path) in names}
    if not kernels:
        found = sorted({_name(path) for path in _by_path(params)})
        raise ValueError(f"weight_norm: expected a parameter named {names}, got {found}.")
    for path, kernel in kernels.items():
        if kernel.ndim < 2:
            raise ValueError(f"weight_norm: expected a matrix, got {path} {kernel.shape}.")
    return {path: jnp.linalg.norm(kernel, axis=-2) for path, kernel in kernels.items()}


def weight_norm(params: PyTree, gains: dict[str, Array]) -> PyTree:
    """Kernels whose columns have the lengths `gains` and the directions that they have in `params`.

        w = g v / |v|,    column by column

    Train both, and unroll with the result: `unroll(cell, weight_norm(params, gains), xs)`.

    Args:
      params: a cell's parameters, or a tuple of them; its kernels are v.
      gains: g, what `column_norms` returned or what was trained since.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: a path of `gains` is not in `params`.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.weight_norm import column_norms, weight_norm
        >>> cell = rnnlab.cells.GRU(8)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> gains = column_norms(params)
        >>> carry, ys = rnnlab.unroll(cell, weight_norm(params, gains), jnp.ones((5, 2, 3)))

    References: Salimans & Kingma 2016, "Weight normalization". Their data-dependent start is left
    out: gains start at the norms, so that nothing changes at first.
    """
    known = _by_path(params)
    unknown = sorted(gains.keys() - known.keys())
    if unknown:
        raise ValueError(f"gains: expected paths of the parameters {sorted(known)}, got {unknown}.")
    norms = {path: jnp.linalg.norm(known[path], axis=-2) for path in gains}
    scaled = {
        path: kernel * (gains[path] / norms[path])[..., None, :] if path in gains else kernel
        for path, kernel in known.items()
    }
    return jax.tree.unflatten(jax.tree.structure(params), list(scaled.values()))


def _by_path(params: PyTree) -> dict[str, Array]:
    leaves = jax.tree.leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _name(path: str) -> str:
    return path.rsplit(".", 1)[-1]
