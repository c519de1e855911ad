"""Each cell once more, as a numpy loop over its paper's equations.

The oracle of the tests: one gate, one matrix and one step at a time, in float64.
A reference takes (cell, params, xs [T, *batch, F], carry) as numpy arrays, returns (carry, ys).
"""

import numpy as np

from rnnlab.cells import CELLS, CausalConvolution, GatedBlock, LSTMCarry, Residual, Stack
from tests.cells.numpy_parts import ACTIVATIONS, by_gate, normalise, sigmoid
from tests.cells.references_gated import GATED
from tests.cells.references_linear import LINEAR, causal_convolution
from tests.cells.references_matrix import MATRIX
from tests.cells.references_other import BY_TYPE, OTHER


def elman(cell, params, xs, h):
    """Elman 1990."""
    activation = ACTIVATIONS.get(cell.activation, cell.activation)
    ys = []
    for x in xs:
        h = activation(x @ params.kernel + h @ params.recurrent_kernel + params.bias)
        ys.append(h)
    return h, np.stack(ys)


def lstm(cell, params, xs, carry):
    """Hochreiter & Schmidhuber 1997; Gers 2000; Greff 2015; Ba 2016 eq. 20-22; Sak 2014."""
    names = "fgo" if cell.coupled else "ifgo"
    W, U, b = (by_gate(names, a) for a in params[:3])
    peep = dict.fromkeys(names, 0.0)
    if cell.peephole:
        peep |= by_gate(names.replace("g", ""), params.peephole)
    c, h = carry
    ys = []
    for x in xs:
        from_x, from_h = ({gate: a @ M[gate] for gate in names} for a, M in ((x, W), (h, U)))
        if cell.layer_norm:  # over the summed inputs to all of the gates at once
            everything = [np.concatenate(list(a.values()), axis=-1) for a in (from_x, from_h)]
            from_x = by_gate(names, params.norms.input * normalise(everything[0]))
            from_h = by_gate(names, params.norms.hidden * normalise(everything[1]))
        f = sigmoid(from_x["f"] + from_h["f"] + peep["f"] * c + b["f"])
        i = 1 - f
        if not cell.coupled:
            i = sigmoid(from_x["i"] + from_h["i"] + peep["i"] * c + b["i"])
        c = f * c + i * np.tanh(from_x["g"] + from_h["g"] + b["g"])
        if cell.cell_clip is not None:
            c = np.minimum(np.maximum(c, -cell.cell_clip), cell.cell_clip)
        o = sigmoid(from_x["o"] + from_h["o"] + peep["o"] * c + b["o"])
        seen = c
        if cell.layer_norm:
            seen = params.norms.cell * normalise(c) + params.norms.cell_bias
        h = o * np.tanh(seen)
        if cell.projection is not None:
            h = h @ params.projection
        ys.append(h)
    return LSTMCarry(c, h), np.stack(ys)


def gru(cell, params, xs, h):
    """Cho et al. 2014 as cuDNN has it: the reset gate acts on the product h U and its bias."""
    W, U, b = (by_gate("rzn", a) for a in params[:3])
    ys = []
    for x in xs:
        r = sigmoid(x @ W["r"] + h @ U["r"] + b["r"])
        z = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
        n = np.tanh(x @ W["n"] + b["n"] + r * (h @ U["n"] + params.recurrent_bias))
        h = z * h + (1 - z) * n
        ys.append(h)
    return h, np.stack(ys)


def reset_before_gru(cell, params, xs, h):
    """Cho et al. 2014, eq. 5-8: the reset gate acts on h."""
    W, U, b = (by_gate("rzn", a) for a in params)
    ys = []
    for x in xs:
        r = sigmoid(x @ W["r"] + h @ U["r"] + b["r"])
        z = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
        n = np.tanh(x @ W["n"] + (r * h) @ U["n"] + b["n"])
        h = z * h + (1 - z) * n
        ys.append(h)
    return h, np.stack(ys)


def min_gru(cell, params, xs, h):
    """Feng et al. 2024, section 3.1: z takes in the new value."""
    W, b = (by_gate("zn", a) for a in params)
    ys = []
    for x in xs:
        z = sigmoid(x @ W["z"] + b["z"])
        h = (1 - z) * h + z * (x @ W["n"] + b["n"])
        ys.append(h)
    return h, np.stack(ys)


def lru(cell, params, xs, h):
    """Orvieto et al. 2023, eq. 7 with the parameters of sections 3.3 and 3.4."""
    eigenvalues = np.exp(-np.exp(params.nu_log) + 1j * np.exp(params.theta_log))
    B = params.kernel_real + 1j * params.kernel_imag
    C = params.output_real + 1j * params.output_imag
    ys = []
    for x in xs:
        h = eigenvalues * h + np.exp(params.gamma_log) * (x @ B)
        ys.append((h @ C).real + x @ params.skip)
    return h, np.stack(ys)


def gated_block(cell, params, xs, carry):
    """Gu & Dao 2023, figure 3; Dao & Gu 2024, figure 6."""
    us, gate = np.split(xs @ params.kernel, [cell.cell_features], axis=-1)
    carry, ys = reference(cell.cell, params.cell, us, carry)
    ys = ys * ACTIVATIONS["silu"](gate)
    if cell.normalised:
        ys = params.norm * ys / np.sqrt((ys**2).mean(-1, keepdims=True) + 1e-5)
    return carry, ys @ params.output_kernel


REFERENCES = {
    "elman": elman,
    "lstm": lstm,
    "gru": gru,
    "reset_before_gru": reset_before_gru,
    "min_gru": min_gru,
    "lru": lru,
    **GATED,
    **LINEAR,
    **MATRIX,
    **OTHER,
    "mamba": gated_block,
    "mamba2": gated_block,
}
"""The reference of every cell of `rnnlab.cells.CELLS`, by the same name."""


def stack(cell, params, xs, carry):
    """Each layer over the whole sequence, one after another."""
    after = []
    for layer in zip(cell.cells, params, carry, strict=True):
        h, xs = reference(*layer[:2], xs, layer[2])
        after.append(h)
    return tuple(after), xs


def residual(cell, params, xs, carry):
    carry, ys = reference(cell.cell, params, xs, carry)
    return carry, xs + ys


def reference(cell, params, xs, carry):
    """The reference of any cell of the catalogue, or of a stack or residual of such."""
    if isinstance(cell, Stack):
        return stack(cell, params, xs, carry)
    if isinstance(cell, Residual):
        return residual(cell, params, xs, carry)
    if isinstance(cell, GatedBlock):
        return gated_block(cell, params, xs, carry)
    if type(cell) in BY_TYPE:
        return BY_TYPE[type(cell)](reference, cell, params, xs, carry)
    if isinstance(cell, CausalConvolution):
        return causal_convolution(cell, params, xs, carry)
    name = next(name for name, make in CELLS.items() if type(cell) is type(make(1)))
    return REFERENCES[name](cell, params, xs, carry)
