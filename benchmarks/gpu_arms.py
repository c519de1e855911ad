"""The arms that jax runs: rnnlab's strategies, and cuDNN through `jax.experimental.rnn`."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab
from benchmarks import timing
from benchmarks.gpu_plan import STRATEGIES, Case, Data, NotMeasured

DTYPES = {"bfloat16": jnp.bfloat16, "tf32": jnp.float32, "float32": jnp.float32}


class Arm(NamedTuple):
    """One way of computing one pass of a case, ready to be timed."""

    call: Callable[[], Any]  # forward: the outputs; backward: gradients of params and inputs too
    compared: Callable[[Any], list[np.ndarray]]  # forward: [ys]; backward: [dxs, dU of layer 1]
    costs: dict[str, float]  # what it took to make, and the memory it takes


def precision(name: str) -> contextlib.AbstractContextManager[Any]:
    """What jax does float32 matmuls in: on a GPU its default is TF32."""
    if name == "float32":
        return jax.default_matmul_precision("highest")
    return contextlib.nullcontext()


def rnnlab_arm(name: str, case: Case, data: Data, backward: bool) -> Arm:
    """A strategy of rnnlab, by its name in `STRATEGIES`."""
    strategy, cells = STRATEGIES[name], case.cells()

    def outputs(params, xs):
        if case.variant == "both directions":
            return rnnlab.bidirectional(cells[0], cells[1], params, xs, strategy=strategy)[1]
        return rnnlab.sequences.stack(cells, params, xs, strategy=strategy)[1]

    def compared(result):
        if not backward:
            return _arrays(result)
        dparams, dxs = result[1]
        recurrent = [p.recurrent_kernel for p in dparams[:1] if hasattr(p, "recurrent_kernel")]
        return _arrays(dxs, *recurrent)

    args = jax.tree.map(lambda a: jnp.asarray(a, DTYPES[case.precision]), tuple(data))
    return _compiled(outputs, args, backward, case.precision, compared)


def cudnn_arm(case: Case, data: Data, backward: bool) -> Arm:
    """The LSTM of `jax.experimental.rnn`: float32, batch before time, all weights in one array."""
    if case.cell != "lstm" or case.precision == "bfloat16":
        raise NotMeasured("it is an LSTM in float32 only")
    from jax.experimental import rnn  # not part of every jax

    features, batch, length = case.shape
    both = case.variant == "both directions"
    copies = len(data.params)
    kernels = [k.T.ravel() for p in data.params for k in (p.kernel, p.recurrent_kernel)]
    biases = [b for p in data.params for b in (p.bias, np.zeros_like(p.bias))]
    sizes: Any = (features, features, 1 if both else copies)
    lengths = jnp.full(batch, length, jnp.int32)
    zeros = jnp.zeros((copies, batch, features))

    def outputs(params, xs):
        results: Any = rnn.lstm(xs, zeros, zeros, params, lengths, *sizes, 0.0, both)
        return results[0]

    def compared(result):
        return [a.swapaxes(0, 1) for a in _arrays(result[1][1] if backward else result)]

    flat = np.concatenate([*kernels, *biases])
    args = tuple(jnp.asarray(a) for a in (flat, *(a.swapaxes(0, 1) for a in data[1:])))
    return _compiled(outputs, args, backward, case.precision, compared)


def _compiled(outputs, args: tuple[Any, ...], backward: bool, precision_name: str, compared) -> Arm:
    """`outputs(params, xs)` as an arm, or it and its gradients; args: params, xs, cotangents."""

    def with_gradients(params, xs, weights):
        ys, vjp = jax.vjp(outputs, params, xs)
        return ys, vjp(weights)

    args = args if backward else args[:2]
    with precision(precision_name):
        program = timing.compile_program(with_gradients if backward else outputs, *args)
    compiled: Any = program.call
    costs = {
        "compile_seconds": program.trace_seconds + program.compile_seconds,
        "bytes": program.temporary_bytes + compiled.memory_analysis().output_size_in_bytes,
    }
    return Arm(lambda: program.call(*args), compared, costs)


def _arrays(*leaves: Any) -> list[np.ndarray]:
    return [np.asarray(leaf, np.float32) for leaf in leaves]
