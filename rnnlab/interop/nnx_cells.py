"""Cells of `flax.nnx`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rnnlab.core.types import Array, Key, PyTree
from rnnlab.interop.foreign import Adapter, Foreign, check_maker, path_name, wrap


def from_nnx(make: Callable[[Any], Any], in_features: int) -> Foreign:
    """A `flax.nnx` cell, an `nnx.RNNCellBase`, as an rnnlab cell.

    Of the module's state only its `nnx.Param`s are parameters, also those that `initialize_carry`
    reads; every other array is refused. Generators of random numbers may stand in it as long as no
    step draws from them. A first carry that is random comes from key 0: pass one of your own, as a
    `ForeignCarry`.

    Args:
      make: takes `nnx.Rngs` and returns the module. The parameters of a module that is there
        already are `nnx.to_pure_dict(nnx.state(module, nnx.Param))`. A function at the top of a
        file: every lambda and every partial makes another cell, which is traced anew.
      in_features: F.

    Raises:
      TypeError: a module instead of a function that makes one.
      ValueError: a module with state that is no `nnx.Param`, that draws random numbers in its
        step, without parameters, or not of `in_features`.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from flax import nnx
        >>> from rnnlab.interop.cells import from_nnx
        >>> def make(rngs):
        ...     return nnx.GRUCell(3, 8, rngs=rngs)
        >>> cell = from_nnx(make, in_features=3)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """
    from flax import nnx

    check_maker("from_nnx", make, "rngs", nnx.Module)
    adapter = _NNX(make)
    _ = adapter.parts  # refuses what is no cell before a step is tried
    fits = f"an nnx.RNNCellBase that reads inputs [{in_features}] and draws no random numbers"
    return wrap("from_nnx", adapter, in_features, fits)


@dataclasses.dataclass(frozen=True)
class _NNX(Adapter):
    make: Callable[[Any], Any]

    @functools.cached_property
    def parts(self) -> tuple[Any, Any, Any]:
        """Graph, params and generators as shapes: the static part, which no step builds again."""
        return jax.eval_shape(self._split, jax.random.key(0))

    def _split(self, key: Key) -> tuple[Any, Any, Any]:
        from flax import nnx

        module = self.make(nnx.Rngs(key))
        _refuse_state(module)
        graph, params, generators = nnx.split(module, nnx.Param, ...)
        return graph, params, generators

    def _module(self, params: PyTree, generators: Any = None) -> Any:
        """The module of `params`; nothing can be drawn from generators that are shapes alone."""
        from flax import nnx

        graph, state, shapes = self.parts
        expected, got = (len(jax.tree.leaves(tree)) for tree in (state, params))
        if expected != got:
            raise ValueError(f"params: expected {expected} arrays, as init draws, got {got}.")
        state, generators = _copy(state), _copy(shapes if generators is None else generators)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state, generators)

    def draw(self, key: Key, in_features: int) -> PyTree:
        from flax import nnx

        return nnx.to_pure_dict(self._split(key)[1])

    def start(self, params: PyTree, in_features: int) -> PyTree:
        from flax import nnx

        return self._module(params).initialize_carry((in_features,), nnx.Rngs(0))

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        return self._module(params)(carry, x)

    def refuse_step(self, params: PyTree, carry: PyTree, x: Array) -> None:
        from flax import nnx

        graph, _, generators = self.parts
        changed: list[str] = []

        def step(generators: Any) -> Any:
            module = self._module(params, generators)
            out = module(carry, x)
            after, state, _ = nnx.split(module, nnx.Param, ...)
            new = jax.tree.leaves_with_path(nnx.to_pure_dict(state))
            pairs = zip(new, jax.tree.leaves(params), strict=False)
            other = [path_name(path) for (path, a), given in pairs if a is not given]
            changed.extend(other if after == graph else ["attributes of the module"])
            return out

        program = jax.make_jaxpr(step)(generators).jaxpr
        if changed:
            raise ValueError(
                f"it changes {', '.join(changed)}, an update that would be lost: what a step"
                f" changes belongs in the carry."
            )
        _refuse_draws(program, generators)


def _refuse_draws(program: Any, generators: Any) -> None:
    """Refuses a step whose jaxpr reads one of its inputs, the `generators`."""
    read = {id(a) for equation in program.eqns for a in equation.invars}
    leaves = jax.tree.leaves_with_path(generators, is_leaf=_is_variable)
    pairs = zip(leaves, program.invars, strict=True)
    drawn = [path_name(path) for (path, _), a in pairs if id(a) in read]
    if drawn:
        raise ValueError(
            f"it draws from {', '.join(drawn)}, which no step can change: every step, example"
            f" and call would see the same numbers. Make it deterministic, or drop out the"
            f" cell's inputs and outputs."
        )


def _is_variable(a: Any) -> bool:
    from flax import nnx

    return isinstance(a, nnx.Variable)


def _refuse_state(module: Any) -> None:
    from flax import nnx

    if not isinstance(module, nnx.Module):
        raise TypeError(f"from_nnx: expected make to return an nnx.Module, got {module!r}.")
    state = [
        f"{path_name(path)} ({type(a).__name__ if _is_variable(a) else 'array'})"
        for path, a in nnx.iter_graph(module)
        if isinstance(a, (nnx.Variable, jax.Array, np.ndarray))
        and not isinstance(a, (nnx.Param, nnx.RngState))
    ]
    if state:
        raise ValueError(
            f"from_nnx: expected a module whose only state is nnx.Param, got {', '.join(state)}."
            f" Updates would be lost, and a value drawn by make would not be that of your module:"
            f" carry what changes in the carry, make what is drawn once an nnx.Param that the"
            f" optimizer leaves alone, and keep constants outside of the module."
        )


def _copy(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: a, tree)
