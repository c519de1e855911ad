"""References of the gated cells beyond LSTM and GRU, as `references.py` describes them."""

import numpy as np

from rnnlab.cells import CoRNNCarry, LEMCarry, LSTMCarry, SLSTMCarry
from tests.cells.numpy_parts import ACTIVATIONS, by_gate, sigmoid


def mgu(cell, params, xs, h):
    """Zhou et al. 2016, f on the product h U and its bias, and keeping the old state."""
    W, U, b = (by_gate("fn", a) for a in params[:3])
    ys = []
    for x in xs:
        f = sigmoid(x @ W["f"] + h @ U["f"] + b["f"])
        n = np.tanh(x @ W["n"] + b["n"] + f * (h @ U["n"] + params.recurrent_bias))
        h = f * h + (1 - f) * n
        ys.append(h)
    return h, np.stack(ys)


def li_gru(cell, params, xs, h):
    """Ravanelli et al. 2018, without batch norm."""
    W, U, b = (by_gate("zn", a) for a in params)
    ys = []
    for x in xs:
        z = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
        h = z * h + (1 - z) * ACTIVATIONS["relu"](x @ W["n"] + h @ U["n"] + b["n"])
        ys.append(h)
    return h, np.stack(ys)


def ugrnn(cell, params, xs, h):
    """Collins et al. 2017."""
    W, U, b = (by_gate("zn", a) for a in params)
    ys = []
    for x in xs:
        g = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
        h = g * h + (1 - g) * np.tanh(x @ W["n"] + h @ U["n"] + b["n"])
        ys.append(h)
    return h, np.stack(ys)


def ran(cell, params, xs, c):
    """Lee et al. 2017; h is recomputed from c, which is all that is carried."""
    W, (U, b) = by_gate("ifg", params.kernel), (by_gate("if", a) for a in params[1:])
    activation = ACTIVATIONS.get(cell.activation, cell.activation)
    ys = []
    for x in xs:
        h = activation(c)
        i, f = (sigmoid(x @ W[gate] + h @ U[gate] + b[gate]) for gate in "if")
        c = i * (x @ W["g"]) + f * c
        ys.append(activation(c))
    return c, np.stack(ys)


def janet(cell, params, xs, h):
    """Van der Westhuizen & Lasenby 2018."""
    W, U, b = (by_gate("fg", a) for a in params)
    ys = []
    for x in xs:
        s, g = (x @ W[gate] + h @ U[gate] + b[gate] for gate in "fg")
        h = sigmoid(s) * h + (1 - sigmoid(s - cell.beta)) * np.tanh(g)
        ys.append(h)
    return h, np.stack(ys)


def ind_rnn(cell, params, xs, h):
    """Li et al. 2018."""
    activation = ACTIVATIONS.get(cell.activation, cell.activation)
    ys = []
    for x in xs:
        h = activation(x @ params.kernel + params.recurrent_kernel * h + params.bias)
        ys.append(h)
    return h, np.stack(ys)


def co_rnn(cell, params, xs, carry):
    """Rusch & Mishra 2021, eq. 3 with explicit damping: y and z are h and v here."""
    W_y, W_z = np.split(params.recurrent_kernel, 2)
    y, z = carry
    ys = []
    for x in xs:
        force = np.tanh(y @ W_y + z @ W_z + x @ params.kernel + params.bias)
        z = z + cell.time_step * (force - cell.gamma * y - cell.epsilon * z)
        y = y + cell.time_step * z
        ys.append(y)
    return CoRNNCarry(y, z), np.stack(ys)


def lem(cell, params, xs, carry):
    """Rusch et al. 2022, eq. 3: z and y are c and h here."""
    V, b = (by_gate("12zy", a) for a in (params.kernel, params.bias))
    W = by_gate("12z", params.recurrent_kernel)
    z, y = carry
    ys = []
    for x in xs:
        d1, d2 = (cell.time_step * sigmoid(y @ W[g] + x @ V[g] + b[g]) for g in "12")
        z = (1 - d1) * z + d1 * np.tanh(y @ W["z"] + x @ V["z"] + b["z"])
        y = (1 - d2) * y + d2 * np.tanh(z @ params.memory_kernel + x @ V["y"] + b["y"])
        ys.append(y)
    return LEMCarry(z, y), np.stack(ys)


def antisymmetric_rnn(cell, params, xs, h):
    """Chang et al. 2019, with and without the gate."""
    M = params.recurrent_kernel
    names = "zn" if cell.gated else "n"
    V, b = (by_gate(names, a) for a in (params.kernel, params.bias))
    ys = []
    for x in xs:
        u = h @ (M - M.T - cell.gamma * np.eye(len(M)))
        z = sigmoid(u + x @ V["z"] + b["z"]) if cell.gated else 1.0
        h = h + cell.time_step * z * np.tanh(u + x @ V["n"] + b["n"])
        ys.append(h)
    return h, np.stack(ys)


def lipschitz_rnn(cell, params, xs, h):
    """Erichson et al. 2021, by forward Euler."""

    def bounded(M, gamma):
        symmetric, skew = M + M.T, M - M.T
        return (1 - cell.beta) * symmetric + cell.beta * skew - gamma * np.eye(len(M))

    A = bounded(params.linear_kernel, cell.linear_gamma)
    U = bounded(params.recurrent_kernel, cell.gamma)
    ys = []
    for x in xs:
        h = h + cell.time_step * (h @ A + np.tanh(h @ U + x @ params.kernel + params.bias))
        ys.append(h)
    return h, np.stack(ys)


def diagonal_gru(cell, params, xs, h):
    """Danieli et al. 2025, ParaGRU, with z keeping the old state."""
    B, a, b = (by_gate("rzn", a) for a in params)
    ys = []
    for x in xs:
        r, z = (sigmoid(a[gate] * h + x @ B[gate] + b[gate]) for gate in "rz")
        h = z * h + (1 - z) * np.tanh(a["n"] * (r * h) + x @ B["n"] + b["n"])
        ys.append(h)
    return h, np.stack(ys)


def diagonal_lstm(cell, params, xs, carry):
    """Danieli et al. 2025, ParaLSTM: coupled gates and peepholes."""
    B, a, b = (by_gate("fgo", a) for a in params[:3])
    peep = by_gate("fo", params.peephole)
    c, h = carry
    ys = []
    for x in xs:
        s = {gate: a[gate] * h + x @ B[gate] + b[gate] for gate in "fgo"}
        f = sigmoid(s["f"] + peep["f"] * c)
        c = f * c + (1 - f) * np.tanh(s["g"])
        h = sigmoid(s["o"] + peep["o"] * c) * np.tanh(c)
        ys.append(h)
    return LSTMCarry(c, h), np.stack(ys)


def slstm(cell, params, xs, carry):
    """Beck et al. 2024, section 2.2, stabilised; gate by gate, head by head."""
    W, b = (by_gate("ifzo", a) for a in (params.kernel, params.bias))
    R = [by_gate("ifzo", block) for block in params.recurrent_kernel]
    c, n, m, h = carry
    ys = []
    for x in xs:
        heads = np.split(h, cell.heads, axis=-1)
        s = {}
        for gate in "ifzo":
            past = [head @ block[gate] for head, block in zip(heads, R, strict=True)]
            s[gate] = x @ W[gate] + np.concatenate(past, axis=-1) + b[gate]
        log_f = s["f"] if cell.forget_gate == "exp" else np.log(sigmoid(s["f"]))
        before, m = m, np.maximum(log_f + m, s["i"])
        i, f = np.exp(s["i"] - m), np.exp(log_f + before - m)
        c, n = f * c + i * np.tanh(s["z"]), f * np.abs(n) + i
        h = sigmoid(s["o"]) * c / n
        ys.append(h)
    return SLSTMCarry(c, n, m, h), np.stack(ys)


GATED = {
    "mgu": mgu,
    "li_gru": li_gru,
    "ugrnn": ugrnn,
    "ran": ran,
    "janet": janet,
    "ind_rnn": ind_rnn,
    "co_rnn": co_rnn,
    "lem": lem,
    "antisymmetric_rnn": antisymmetric_rnn,
    "lipschitz_rnn": lipschitz_rnn,
    "diagonal_gru": diagonal_gru,
    "diagonal_lstm": diagonal_lstm,
    "slstm": slstm,
}
"""The references of this file, by the names of `rnnlab.cells.CELLS`."""
