"""References of the cells with a matrix as state, as `references.py` describes them.

States are laid out as the papers have them, values by keys, one head and one example at a time.
"""

import numpy as np

from rnnlab.core.matrix_cell import MatrixCarry
from tests.cells.numpy_parts import ACTIVATIONS, by_gate, sigmoid, softplus

EPSILON = 1e-6


def silu(x):
    return ACTIVATIONS["silu"](x)


def unit(x):
    return x / np.sqrt(np.sum(x**2) + EPSILON)


def over_examples_and_heads(cell, step, zs, states):
    """Runs step(state, z of one head) -> (state, y) over all heads, examples and steps.

    zs: a dict of arrays [T, *batch, N * size]; states: [*batch, N, ...]. Gives the last states and
    the outputs [T, *batch, H].
    """
    zs = {name: z.reshape(*z.shape[:-1], cell.heads, -1) for name, z in zs.items()}
    states = [np.array(s) for s in states]
    some = next(iter(zs.values()))
    ys = np.zeros((*some.shape[:-1], cell.features // cell.heads))
    for t in range(len(some)):
        for at in np.ndindex(some.shape[1:-1]):
            now = {name: z[(t, *at)] for name, z in zs.items()}
            new, ys[(t, *at)] = step([s[at] for s in states], now)
            for s, value in zip(states, new, strict=True):
                s[at] = value
    return states, ys.reshape(*ys.shape[:-2], cell.features)


def swapped(memory):
    return memory.swapaxes(-1, -2)


def linear_attention(cell, params, xs, carry):
    """Katharopoulos et al. 2020, eq. 16 to 20; plain: Yang et al. 2024, section 2."""

    def phi(x):
        return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1) + 1

    def step(state, z):
        S, s = state
        if not cell.normalised:
            S = S + np.outer(z["v"], z["k"])
            return (S, s), S @ z["q"] / np.sqrt(len(z["q"]))
        S, s = S + np.outer(z["v"], phi(z["k"])), s + phi(z["k"])
        return (S, s), S @ phi(z["q"]) / (s @ phi(z["q"]))

    size = cell.features // cell.heads
    S = swapped(carry.memory)
    start = (S[..., :size, :], S[..., -1, :])
    (S, s), ys = over_examples_and_heads(cell, step, by_gate("qkv", xs @ params.kernel), start)
    if cell.normalised:
        S = np.concatenate([S, s[..., None, :]], axis=-2)
    return MatrixCarry(swapped(S)), ys


def mlstm(cell, params, xs, carry):
    """Beck et al. 2024, eq. 19 to 27, without the stabiliser; it is put back at the end."""

    def step(state, z):
        C, n, log_scale = state
        i = np.exp(z["i"])
        f = np.exp(z["f"]) if cell.forget_gate == "exp" else sigmoid(z["f"])
        k = z["k"] / np.sqrt(len(z["k"]))
        C, n = f * C + i * np.outer(z["v"], k), f * n + i * k
        h = C @ z["q"] / max(abs(n @ z["q"]), 1)
        log_scale = np.maximum(np.log(f) + log_scale, z["i"])
        return (C, n, log_scale), sigmoid(z["o"]) * h

    C, log_scale = swapped(carry.memory) * np.exp(carry.log_scale[..., None]), carry.log_scale
    zs = by_gate("qkvo", xs @ params.kernel + params.bias)
    zs |= by_gate("if", xs @ params.gate_kernel + params.gate_bias)
    start = (C[..., :-1, :], C[..., -1, :], log_scale)
    (C, n, log_scale), ys = over_examples_and_heads(cell, step, zs, start)
    C = np.concatenate([C, n[..., None, :]], axis=-2) * np.exp(-log_scale[..., None])
    return MatrixCarry(swapped(C), log_scale), ys


def delta_net(cell, params, xs, carry):
    """Yang et al. 2024, "Parallelizing linear transformers with the delta rule", section 3."""

    def step(state, z):
        (S,) = state
        k = unit(silu(z["k"]))
        S = S + sigmoid(z["beta"]) * np.outer(z["v"] - S @ k, k)
        return (S,), S @ unit(silu(z["q"])) / np.sqrt(len(k))

    zs = by_gate("qkv", xs @ params.kernel) | {"beta": xs @ params.gate_kernel}
    (S,), ys = over_examples_and_heads(cell, step, zs, [swapped(carry.memory)])
    return MatrixCarry(swapped(S)), ys


def gated_delta_net(cell, params, xs, carry):
    """Yang et al. 2024, "Gated delta networks", eq. 10."""

    def step(state, z):
        (S,) = state
        k, beta = unit(silu(z["k"])), sigmoid(z["beta"])
        S = S @ (z["alpha"] * (np.eye(len(k)) - beta * np.outer(k, k)))
        S = S + beta * np.outer(silu(z["v"]), k)
        return (S,), S @ unit(silu(z["q"])) / np.sqrt(len(k))

    zs = by_gate("qkv", xs @ params.kernel)
    beta, alpha = np.split(xs @ params.gate_kernel, 2, axis=-1)
    alpha = np.exp(-np.exp(params.rate_log) * softplus(alpha + params.step_bias))
    zs |= {"beta": beta, "alpha": alpha}
    (S,), ys = over_examples_and_heads(cell, step, zs, [swapped(carry.memory)])
    return MatrixCarry(swapped(S)), ys


def rwkv7(cell, params, xs, carry):
    """Peng et al. 2025, section 4: the weight preparation, the state and the bonus."""

    def step(state, z):
        (S,) = state
        removal = unit(z["removal"])
        transition = np.diag(z["w"]) - np.outer(removal, z["a"] * removal)
        S = S @ transition + np.outer(z["v"], z["replacement"])
        return (S,), S @ z["r"] + (z["r"] @ (z["bonus"] * z["replacement"])) * z["v"]

    z = by_gate("rkvda", xs @ params.kernel)
    bias_d, bias_a = np.split(params.gate_bias, 2)
    a = sigmoid(z["a"] + bias_a)
    replacement = z["k"] * ((1 - params.replacement) + params.replacement * a)
    zs = {
        "r": z["r"],
        "v": z["v"],
        "w": np.exp(-np.exp(-0.5) * sigmoid(z["d"] + bias_d)),
        "a": a,
        "removal": z["k"] * params.removal,
        "replacement": replacement,
        "bonus": np.broadcast_to(params.bonus, replacement.shape),
    }
    (S,), ys = over_examples_and_heads(cell, step, zs, [swapped(carry.memory)])
    return MatrixCarry(swapped(S)), ys


MATRIX = {
    "mlstm": mlstm,
    "linear_attention": linear_attention,
    "delta_net": delta_net,
    "gated_delta_net": gated_delta_net,
    "rwkv7": rwkv7,
}
"""The references of this file, by the names of `rnnlab.cells.CELLS`."""
