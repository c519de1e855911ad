"""References of the linear cells beyond minGRU and LRU, as `references.py` describes them."""

import numpy as np

from tests.cells.numpy_parts import ACTIVATIONS, by_gate, sigmoid, softplus


def given_or_projected(xs, kernel):
    return xs if kernel is None else xs @ kernel


def sru(cell, params, xs, c):
    """Lei et al. 2017, eq. 3 to 7 of the first version."""
    W, b = by_gate("frn", params.kernel), by_gate("fr", params.bias)
    ys = []
    for x, skip in zip(xs, given_or_projected(xs, params.skip_kernel), strict=True):
        f, r = sigmoid(x @ W["f"] + b["f"]), sigmoid(x @ W["r"] + b["r"])
        c = f * c + (1 - f) * (x @ W["n"])
        ys.append(r * ACTIVATIONS[cell.activation](c) + (1 - r) * skip)
    return c, np.stack(ys)


def qrnn(cell, params, xs, c):
    """Bradbury et al. 2016, eq. 3 to 5."""
    names = {"f": "fg", "fo": "fgo", "ifo": "ifgo"}[cell.pooling]
    ys = []
    for z in given_or_projected(xs, params.kernel) + params.bias:
        gate = {name: sigmoid(part) for name, part in by_gate(names, z).items()}
        g = np.tanh(by_gate(names, z)["g"])
        c = gate["f"] * c + gate.get("i", 1 - gate["f"]) * g
        ys.append(gate.get("o", 1) * c)
    return c, np.stack(ys)


def min_lstm(cell, params, xs, h):
    """Feng et al. 2024, section 3.2."""
    W, b = (by_gate("ifg", a) for a in params)
    ys = []
    for x in xs:
        i, f = sigmoid(x @ W["i"] + b["i"]), sigmoid(x @ W["f"] + b["f"])
        h = f / (f + i) * h + i / (f + i) * (x @ W["g"] + b["g"])
        ys.append(h)
    return h, np.stack(ys)


def rg_lru(cell, params, xs, h):
    """De et al. 2024, eq. 1 to 4."""
    W, b = by_gate("ri", params.kernel), by_gate("ri", params.bias)
    ys = []
    for x in given_or_projected(xs, params.input_kernel):
        r, i = sigmoid(x @ W["r"] + b["r"]), sigmoid(x @ W["i"] + b["i"])
        a = sigmoid(params.decay) ** (cell.exponent * r)
        h = a * h + np.sqrt(1 - a**2) * (i * x)
        ys.append(h)
    return h, np.stack(ys)


def s5(cell, params, xs, h):
    """Smith et al. 2022, eq. 2 and 6, the second with a zero-order hold."""
    eigenvalues = -np.exp(params.decay_log) + 1j * params.frequency
    a = np.exp(np.exp(params.step_log) * eigenvalues)
    B = (params.kernel_real + 1j * params.kernel_imag) * (a - 1) / eigenvalues
    C = params.output_real + 1j * params.output_imag
    ys = []
    for x in xs:
        h = a * h + x @ B
        ys.append(2 * (h @ C).real + x @ params.skip)
    return h, np.stack(ys)


def s6(cell, params, xs, h):
    """Gu & Dao 2023, algorithm 2, one channel at a time."""
    rank, states = params.step_kernel.shape[0], cell.state_features
    down, B, C = np.split(params.kernel, [rank, rank + states], axis=1)
    ys = []
    for x in given_or_projected(xs, params.input_kernel):
        step = softplus(x @ down @ params.step_kernel + params.step_bias)
        h, y = h.copy(), np.zeros(x.shape)
        for c, rate in enumerate(-np.exp(params.rate_log)):
            s, u = step[..., [c]], x[..., [c]]
            h[..., c, :] = np.exp(s * rate) * h[..., c, :] + s * (x @ B) * u
            y[..., c] = (h[..., c, :] * (x @ C)).sum(-1) + params.skip[c] * x[..., c]
        ys.append(y)
    return h, np.stack(ys)


def ssd(cell, params, xs, carry):
    """Dao & Gu 2024, eq. 1 with a = exp(step A), one head at a time."""
    h, size, ys = carry.memory, cell.state_features, []
    cuts = np.cumsum([cell.features, size, size])
    for z in given_or_projected(xs, params.kernel):
        x, B, C, step = np.split(z, cuts, axis=-1)
        step = softplus(step + params.step_bias)
        h, y = h.copy(), []
        for n, u in enumerate(np.split(x, cell.heads, axis=-1)):
            s = step[..., [n], None]
            write = np.einsum("...d,...v->...dv", B, u)
            h[..., n, :, :] = np.exp(-s * np.exp(params.rate_log[n])) * h[..., n, :, :] + s * write
            y.append(np.einsum("...dv,...d->...v", h[..., n, :, :], C) + params.skip[n] * u)
        ys.append(np.concatenate(y, axis=-1))
    return carry._replace(memory=h), np.stack(ys)


def causal_convolution(cell, params, xs, window):
    """A sum over the window, of products with numbers or with matrices."""
    channels = params.kernel.shape[1]
    ys = []
    for x in xs:
        window = np.concatenate([window[..., 1:, :], x[..., None, :channels]], axis=-2)
        taps = zip(np.moveaxis(window, -2, 0), params.kernel, strict=True)
        y = sum(u @ w if cell.features else u * w for u, w in taps)
        y = ACTIVATIONS[cell.activation](y + params.bias)
        ys.append(np.concatenate([y, x[..., channels:]], axis=-1))
    return window, np.stack(ys)


LINEAR = {
    "sru": sru,
    "qrnn": qrnn,
    "min_lstm": min_lstm,
    "rg_lru": rg_lru,
    "s5": s5,
    "s6": s6,
    "ssd": ssd,
}
