"""Weight normalisation: the length of every column of a kernel apart from its direction."""

import jax
import jax.numpy as jnp

from rnnlab.core.checks import check_names
from rnnlab.core.ops import wide_dtype
from rnnlab.core.types import Array, PyTree


def column_norms(
    params: PyTree, names: tuple[str, ...] = ("kernel", "recurrent_kernel")
) -> dict[str, Array]:
    """The length of every column of the kernels with these names: the g that training starts from.

    A column is what one output sums over. In a `kernel` it runs over all axes but the last, so over
    window and features of a convolution, `[*window, F, K]`. Another kernel has as many axes
    as the `kernel` beside it, or two; any before those count heads or layers, `[N, D, K]`.

    Args:
      params: a cell's parameters, or a tuple of them.
      names: fields to normalise, wherever in the tree they are.

    Returns:
      Path of a kernel -> `[K]`, or `[N, K]` of a block-diagonal one, in the kernel's dtype.

    Raises:
      TypeError: `names` is one string.
      ValueError: no parameter has one of the names, or one has no columns.
    """
    check_names("column_norms", names)
    known = _by_path(params)
    chosen = [path for path in known if _name(path) in names]
    if not chosen:
        found = sorted({_name(path) for path in known})
        raise ValueError(f"weight_norm: expected a parameter named {names}, got {found}.")
    return {
        path: _norms(known[path], _column(path, known)).astype(known[path].dtype) for path in chosen
    }


def weight_norm(params: PyTree, gains: dict[str, Array]) -> PyTree:
    """Kernels whose columns have the lengths `gains` and the directions that they have in `params`.

        w = g v / |v|,    column by column

    Train both, and unroll with the result: `unroll(cell, weight_norm(params, gains), xs)`. A
    column of zeros has no direction: it stays zero, with gradients of zero.

    Args:
      params: a cell's parameters, or a tuple of them; its kernels are v.
      gains: g, what `column_norms` returned or what was trained since.

    Returns:
      A tree like `params`, computed in the wide dtype.

    Raises:
      ValueError: a path of `gains` is not in `params`, or its g has not one length a column.

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
    scaled = {
        path: _with_norms(path, kernel, gains[path], _column(path, known))
        if path in gains
        else kernel
        for path, kernel in known.items()
    }
    return jax.tree.unflatten(jax.tree.structure(params), list(scaled.values()))


def _with_norms(path: str, kernel: Array, gain: Array, column: tuple[int, ...]) -> Array:
    """A kernel with columns of the lengths `gain`."""
    norms = _norms(kernel, column)
    if jnp.shape(gain) != norms.shape:
        raise ValueError(
            f"gains[{path!r}]: expected one length a column, {norms.shape} of a kernel"
            f" {kernel.shape}, got {jnp.shape(gain)}. Start from column_norms(params)."
        )
    empty = norms == 0
    scale = jnp.asarray(gain, norms.dtype) / jnp.where(empty, 1, norms)
    scale = jnp.expand_dims(jnp.where(empty, 0, scale), column)
    return (kernel.astype(norms.dtype) * scale).astype(kernel.dtype)


def _norms(kernel: Array, column: tuple[int, ...]) -> Array:
    """Lengths over the axes of a column, in the wide dtype; 0 has the gradient 0."""
    power = jnp.sum(jnp.square(kernel.astype(wide_dtype(kernel))), axis=column)
    empty = power == 0
    return jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, power)))


def _column(path: str, known: dict[str, Array]) -> tuple[int, ...]:
    """The axes that a column of a kernel runs over."""
    kernel = known[path]
    if kernel.ndim < 2:
        raise ValueError(f"weight_norm: expected a matrix, got {path} {kernel.shape}.")
    beside = known.get(path.removesuffix(_name(path)) + "kernel")
    rank = 2 if beside is None else max(2, beside.ndim)
    return tuple(range(max(0, kernel.ndim - rank), kernel.ndim - 1))


def _by_path(params: PyTree) -> dict[str, Array]:
    leaves = jax.tree.leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _name(path: str) -> str:
    return path.rsplit(".", 1)[-1]
