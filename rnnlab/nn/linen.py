"""`RNN` and `Bidirectional` for Flax Linen, with the arguments of `flax.linen.RNN`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnlab.core.cell import Cell
from rnnlab.core.types import Array, PyTree
from rnnlab.nn.sequence_calls import Layout, Merge, check_rnns, either, run, run_bidirectional
from rnnlab.strategies.base import Strategy
from rnnlab.strategies.scan import Scan


class RNN(nn.Module):
    """Runs a cell over sequences: `flax.linen.RNN` for rnnlab's cells.

    The parameters are those of the cell, under the names they have there: "kernel", a nested
    "norms.input", "0.kernel" of the first layer of a `Stack`, and "array" for a lone array. The
    number of input features is taken from the inputs at `init`.

    Differences from Flax: outputs of padding are 0; a sequence of length 0 returns its initial
    carry; what padding holds changes nothing, be it NaN; lengths, carries and any number of batch
    axes go together. Instead of `unroll=n` there is `strategy=Scan(unroll=n)`, and a carry is
    drawn without `init_key`.

    Attributes:
      cell: what to run, such as `rnnlab.cells.LSTM(128)`.
      time_major: arrays are `[time, *batch, ...]`, not `[*batch, time, ...]`.
      return_carry: a call returns `(carry, ys)`, not `ys`.
      reverse: processes the last step first, within lengths.
      keep_order: with `reverse`, outputs are in input order, not in processing order.
      strategy: how to run the cell; see `rnnlab.strategies`.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.nn.linen import RNN
        >>> rnn = RNN(rnnlab.cells.LSTM(8), return_carry=True)
        >>> inputs = jnp.ones((2, 5, 3))
        >>> variables = rnn.init(jax.random.key(0), inputs)
        >>> (c, h), ys = rnn.apply(variables, inputs, seq_lengths=jnp.array([5, 2]))
        >>> ys.shape, h.shape
        ((2, 5, 8), (2, 8))
    """

    cell: Cell
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    strategy: Strategy = Scan()

    @nn.compact
    def cell_params(self, in_features: int) -> PyTree:
        """The parameters as the cell's own tree, for `rnn.cell.step` and `rnnlab.unroll`.

        Args:
          in_features: F, the size of the last axis of the inputs.

        Example:
            >>> import jax, jax.numpy as jnp, rnnlab
            >>> from rnnlab.nn.linen import RNN
            >>> rnn = RNN(rnnlab.cells.GRU(8))
            >>> variables = rnn.init(jax.random.key(0), jnp.ones((5, 3)))
            >>> params = rnn.apply(variables, 3, method="cell_params")
            >>> params.kernel.shape
            (3, 24)
        """
        shapes = jax.eval_shape(lambda: self.cell.init(jax.random.key(0), in_features))
        paths, tree = jax.tree.flatten_with_path(shapes)
        names = [
            jax.tree_util.keystr(path, simple=True, separator=".") or "array" for path, _ in paths
        ]
        complete = all(self.has_variable("params", name) for name in names)
        if complete or not self.is_mutable_collection("params"):  # Flax compares the shapes
            leaves = [jnp.zeros(leaf.shape, leaf.dtype) for _, leaf in paths]
        else:  # all of them from one key
            leaves = jax.tree.leaves(self.cell.init(self.make_rng("params"), in_features))
        return jax.tree.unflatten(
            tree,
            [
                self.param(name, lambda _, leaf=leaf: leaf)
                for name, leaf in zip(names, leaves, strict=True)
            ],
        )

    def __call__(
        self,
        inputs: PyTree,
        *,
        initial_carry: PyTree | None = None,
        seq_lengths: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        mask: Array | None = None,
        reset: Array | None = None,
    ) -> Any:
        """Runs the cell over `inputs`; an option that is None is the module's own.

        Args:
          inputs: `[*batch, time, F]`, any number of batch axes, none included; or a tree of such
            arrays for a cell that reads one, the first of which has F features.
          initial_carry: what to start from; plain tuples such as `(c, h)` will do.
          seq_lengths: integers `[*batch]` from 0 to T; what follows is padding.
          return_carry: returns `(carry, ys)`.
          time_major: `inputs`, `mask`, `reset` and outputs are led by `[time, *batch]`.
          reverse: processes the last step first, within lengths.
          keep_order: with `reverse`, outputs are in input order; otherwise each sequence is flipped
            within its length, as it was processed.
          mask: bool `[*batch, time]`; a masked (False) step leaves the carry and puts out 0.
            Together with `seq_lengths` both have to let a step through.
          reset: bool `[*batch, time]`, True at the first step of a segment: the carry starts anew
            there, in either direction.

        Returns:
          The outputs `[*batch, time, ...]`, or with `return_carry` the carry after the last step
          processed and the outputs.

        Raises:
          TypeError: arrays of the wrong type, dtype or structure.
          ValueError: shapes that do not fit, lengths outside 0 to T, a strategy that cannot run
            the cell, or a mask with `reverse` and without `keep_order`.
        """
        time_major = either(time_major, self.time_major)
        Layout.of(self.cell, inputs, time_major)  # refuses what has no features to count
        carry, ys = run(
            self.cell,
            self.cell_params(jax.tree.leaves(inputs)[0].shape[-1]),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            mask=mask,
            reset=reset,
            time_major=time_major,
            reverse=either(reverse, self.reverse),
            keep_order=either(keep_order, self.keep_order),
            strategy=self.strategy,
        )
        return (carry, ys) if either(return_carry, self.return_carry) else ys


class Bidirectional(nn.Module):
    """Runs one `RNN` forward and one backward and merges their outputs.

    As in Flax, the order of both modules is overruled: the first runs from the start, the second
    from the end with its outputs in input order. One module given twice shares its parameters.

    Attributes:
      forward_rnn: reads from the first step to the last.
      backward_rnn: reads from the last step to the first.
      merge_fn: "concat", "sum", "mean", "product", or a function of both outputs.
      time_major: arrays are `[time, *batch, ...]`, not `[*batch, time, ...]`.
      return_carry: a call returns `((forward carry, backward carry), ys)`, not `ys`.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.nn.linen import RNN, Bidirectional
        >>> rnn = Bidirectional(RNN(rnnlab.cells.GRU(8)), RNN(rnnlab.cells.GRU(8)))
        >>> inputs = jnp.ones((2, 5, 3))
        >>> variables = rnn.init(jax.random.key(0), inputs)
        >>> rnn.apply(variables, inputs, seq_lengths=jnp.array([5, 2])).shape
        (2, 5, 16)

    References: Schuster & Paliwal 1997, "Bidirectional recurrent neural networks".
    """

    forward_rnn: RNN
    backward_rnn: RNN
    merge_fn: Merge = "concat"
    time_major: bool = False
    return_carry: bool = False

    def __call__(
        self,
        inputs: PyTree,
        *,
        initial_carry: tuple[PyTree, PyTree] | None = None,
        seq_lengths: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        mask: Array | None = None,
        reset: Array | None = None,
    ) -> Any:
        """Runs both directions; arguments as for `RNN`, `initial_carry` a pair of carries.

        Returns:
          The merged outputs, or with `return_carry` `((forward carry, backward carry), ys)`.

        Raises:
          TypeError: one of the two is not an `RNN` of this module.
          ValueError: an unknown `merge_fn`; and all that a call of `RNN` raises.
        """
        check_rnns(RNN, forward_rnn=self.forward_rnn, backward_rnn=self.backward_rnn)
        carries, ys = run_bidirectional(
            self.forward_rnn,
            self.backward_rnn,
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            mask=mask,
            reset=reset,
            time_major=either(time_major, self.time_major),
            merge_fn=self.merge_fn,
        )
        return (carries, ys) if either(return_carry, self.return_carry) else ys
