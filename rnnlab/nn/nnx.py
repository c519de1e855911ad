"""`RNN` and `Bidirectional` for Flax NNX, with the arguments of `flax.nnx.RNN`."""

from typing import Any

import jax
from flax import nnx

from rnnlab.core import checks
from rnnlab.core.cell import Cell
from rnnlab.core.types import Array, PyTree
from rnnlab.nn.sequence_calls import Merge, check_rnns, either, run, run_bidirectional
from rnnlab.sequences import merge_function
from rnnlab.strategies.base import Strategy
from rnnlab.strategies.scan import Scan


class RNN(nnx.Module):
    """Runs a cell over sequences: `flax.nnx.RNN` for rnnlab's cells.

    Differences from Flax: outputs of padding are 0; a sequence of length 0 returns its initial
    carry; what padding holds changes nothing, be it NaN; lengths, carries and any number of batch
    axes go together. Instead of `unroll=n` there is `strategy=Scan(unroll=n)`, and a carry is
    drawn without `rngs`.

    Attributes:
      cell: the cell, static configuration.
      params: the tree that `cell.init` returns with an `nnx.Param` for each array, so a state has
        paths such as `("params", "recurrent_kernel")`.

    Example:
        >>> import jax.numpy as jnp, rnnlab
        >>> from flax import nnx
        >>> from rnnlab.nn.nnx import RNN
        >>> rnn = RNN(rnnlab.cells.LSTM(8), 3, rngs=nnx.Rngs(0), return_carry=True)
        >>> (c, h), ys = rnn(jnp.ones((2, 5, 3)), seq_lengths=jnp.array([5, 2]))
        >>> ys.shape, h.shape
        ((2, 5, 8), (2, 8))
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        rngs: nnx.Rngs,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        strategy: Strategy = Scan(),
    ):
        """Draws the parameters.

        Args:
          cell: what to run, such as `rnnlab.cells.LSTM(128)`.
          in_features: F, the size of the last axis of the inputs.
          rngs: its `params` stream gives the key.
          time_major: arrays are `[time, *batch, ...]`, not `[*batch, time, ...]`.
          return_carry: a call returns `(carry, ys)`, not `ys`.
          reverse: processes the last step first, within lengths.
          keep_order: with `reverse`, outputs are in input order, not in processing order.
          strategy: how to run the cell; see `rnnlab.strategies`.

        Raises:
          TypeError: something that is not a cell, an int or `nnx.Rngs`.
          ValueError: `in_features` is not positive.
        """
        checks.check_cell_type(cell)
        checks.check_size("RNN", in_features=in_features)
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(f"rngs: expected flax.nnx.Rngs, such as nnx.Rngs(0), got {rngs!r}.")
        self.cell = cell
        self.params = nnx.data(jax.tree.map(nnx.Param, cell.init(rngs.params(), in_features)))
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.strategy = strategy

    @property
    def cell_params(self) -> PyTree:
        """The parameters as plain arrays, for `rnn.cell.step` and `rnnlab.unroll`."""
        return jax.tree.map(lambda p: p[...], self.params, is_leaf=_is_variable)

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
            arrays for a cell that reads one.
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
        carry, ys = run(
            self.cell,
            self.cell_params,
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            mask=mask,
            reset=reset,
            time_major=either(time_major, self.time_major),
            reverse=either(reverse, self.reverse),
            keep_order=either(keep_order, self.keep_order),
            strategy=self.strategy,
        )
        return (carry, ys) if either(return_carry, self.return_carry) else ys


class Bidirectional(nnx.Module):
    """Runs one `RNN` forward and one backward and merges their outputs.

    As in Flax, the order of both modules is overruled: the first runs from the start, the second
    from the end with its outputs in input order. One module given twice shares its parameters.

    Example:
        >>> import jax.numpy as jnp, rnnlab
        >>> from flax import nnx
        >>> from rnnlab.nn.nnx import RNN, Bidirectional
        >>> cell, rngs = rnnlab.cells.GRU(8), nnx.Rngs(0)
        >>> rnn = Bidirectional(RNN(cell, 3, rngs=rngs), RNN(cell, 3, rngs=rngs))
        >>> rnn(jnp.ones((2, 5, 3)), seq_lengths=jnp.array([5, 2])).shape
        (2, 5, 16)

    References: Schuster & Paliwal 1997, "Bidirectional recurrent neural networks".
    """

    def __init__(
        self,
        forward_rnn: RNN,
        backward_rnn: RNN,
        *,
        merge_fn: Merge = "concat",
        time_major: bool = False,
        return_carry: bool = False,
    ):
        """Joins two modules.

        Args:
          forward_rnn: reads from the first step to the last.
          backward_rnn: reads from the last step to the first.
          merge_fn: "concat", "sum", "mean", "product", or a function of both outputs.
          time_major: arrays are `[time, *batch, ...]`, not `[*batch, time, ...]`.
          return_carry: a call returns `((forward carry, backward carry), ys)`, not `ys`.

        Raises:
          TypeError: one of the two is not an `RNN` of this module.
        """
        check_rnns(RNN, forward_rnn=forward_rnn, backward_rnn=backward_rnn)
        merge_function(merge_fn, "merge_fn")
        self.forward_rnn = forward_rnn
        self.backward_rnn = backward_rnn
        self.merge_fn = merge_fn
        self.time_major = time_major
        self.return_carry = return_carry

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
          ValueError: an unknown `merge_fn`; and all that a call of `RNN` raises.
        """
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


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
