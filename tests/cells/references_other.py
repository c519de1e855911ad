"""References of the cells with a depth, a memory or a convolution, and of wrappers."""

import itertools

import numpy as np

from rnnlab.cells import AttentionCell, ConvGRU, ConvLSTM, Highway, LSTMCarry, NTMCarry, Zoneout
from tests.cells.numpy_parts import by_gate, sigmoid, softplus


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def lstm_step(c, preactivations):
    i, f, g, o = np.split(preactivations, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def rhn(cell, params, xs, s):
    """Zilly et al. 2016, eq. 6-9."""
    ys = []
    for x in xs:
        for layer, (U, b) in enumerate(zip(params.recurrent_kernel, params.bias, strict=True)):
            a = s @ U + b + (x @ params.kernel if layer == 0 else 0)
            h, t, *c = np.split(a, 2 if cell.coupled else 3, axis=-1)
            s = np.tanh(h) * sigmoid(t) + s * (sigmoid(c[0]) if c else 1 - sigmoid(t))
        ys.append(s)
    return s, np.stack(ys)


def mogrifier_lstm(cell, params, xs, carry):
    """Melis et al. 2019, eq. 1-2; matrices of odd rounds are their Q, of even ones their R."""
    c, h = carry
    Q_and_R = [m[0] if cell.rank is None else m[0] @ m[1] for m in params.mogrifiers]
    ys = []
    for x in xs:
        for number, matrix in enumerate(Q_and_R, 1):
            if number % 2:
                x = 2 * sigmoid(h @ matrix) * x
            else:
                h = 2 * sigmoid(x @ matrix) * h
        c, h = lstm_step(c, x @ params.kernel + h @ params.recurrent_kernel + params.bias)
        ys.append(h)
    return LSTMCarry(c, h), np.stack(ys)


def ntm(cell, params, xs, carry):
    """Graves et al. 2014, section 3, one slot at a time."""
    memory, h, read, reading, writing = carry
    width, slots = cell.slot_features, range(cell.slots)

    def address(head, logits):
        key, (beta, g, s0, s1, s2, gamma) = head[..., :width], np.moveaxis(head[..., width:], -1, 0)
        shift = softmax(np.stack([s0, s1, s2], axis=-1))
        cosines = []
        for slot in slots:
            row = memory[..., slot, :]
            size = np.sqrt((key**2).sum(-1) * (row**2).sum(-1) + 1e-8)
            cosines.append((key * row).sum(-1) / size)
        content = softmax(softplus(beta)[..., None] * np.stack(cosines, axis=-1))
        g = sigmoid(g)[..., None]
        mixed = g * content + (1 - g) * softmax(logits)
        moved = np.zeros_like(mixed)
        for slot, (turn, by) in itertools.product(slots, enumerate((-1, 0, 1))):
            moved[..., (slot + by) % cell.slots] += shift[..., turn] * mixed[..., slot]
        sharp = moved ** (1 + softplus(gamma))[..., None]
        return np.log(sharp / sharp.sum(-1, keepdims=True))

    ys = []
    for x in xs:
        before = np.concatenate([h, read], axis=-1)
        h = np.tanh(x @ params.kernel + before @ params.recurrent_kernel + params.bias)
        out = h @ params.head_kernel + params.head_bias
        cuts = np.cumsum([width + 6, width + 6, width])
        of_reading, of_writing, erase, add = np.split(out, cuts, axis=-1)
        writing = address(of_writing, writing)
        w = softmax(writing)[..., None]
        memory = memory * (1 - w * sigmoid(erase)[..., None, :]) + w * np.tanh(add)[..., None, :]
        reading = address(of_reading, reading)
        read = sum(softmax(reading)[..., [slot]] * memory[..., slot, :] for slot in slots)
        ys.append(np.concatenate([h, read], axis=-1) @ params.output_kernel)
    return NTMCarry(memory, h, read, reading, writing), np.stack(ys)


def convolution(x, kernel):
    """Position by position of the window, over an x padded with zeros."""
    *window, _, columns = kernel.shape
    dims = len(window)
    sizes = x.shape[-dims - 1 : -1]
    pads = [(0, 0)] * (x.ndim - dims - 1) + [((w - 1) // 2, w // 2) for w in window] + [(0, 0)]
    x = np.pad(x, pads)
    y = np.zeros((*x.shape[: -dims - 1], *sizes, columns))
    for position in itertools.product(*map(range, window)):
        part = tuple(slice(p, p + n) for p, n in zip(position, sizes, strict=True))
        y = y + x[(..., *part, slice(None))] @ kernel[position]
    return y


def conv_lstm(reference, cell, params, xs, carry):
    """Shi et al. 2015, eq. 3 without peepholes."""
    c, h = carry
    ys = []
    for x in xs:
        both = convolution(x, params.kernel) + convolution(h, params.recurrent_kernel)
        c, h = lstm_step(c, both + params.bias)
        ys.append(h)
    return LSTMCarry(c, h), np.stack(ys)


def conv_gru(reference, cell, params, xs, h):
    """Ballas et al. 2016, eq. 7-10, z as in Cho et al. 2014."""
    W, U, b = (by_gate("rzn", a) for a in params)
    ys = []
    for x in xs:
        r, z = (sigmoid(convolution(x, W[g]) + convolution(h, U[g]) + b[g]) for g in "rz")
        n = np.tanh(convolution(x, W["n"]) + convolution(r * h, U["n"]) + b["n"])
        h = z * h + (1 - z) * n
        ys.append(h)
    return h, np.stack(ys)


def attention_cell(reference, cell, params, xs, carry):
    """Bahdanau et al. 2015, eq. 5-6 and A.1.2; Luong et al. 2015, eq. 5-8 and section 3.3."""
    (inner, y, context), kernels = carry, params.kernels
    values, keys, valid = params.memory

    def look(query):
        if cell.attention == "luong":
            scores = (query[..., None, :] * keys).sum(-1)
        else:
            scores = np.tanh((query @ kernels.query)[..., None, :] + keys) @ kernels.score
        weights = np.exp(scores) * (valid > 0.5)
        total = weights.sum(-1, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
        return (weights[..., None] * values).sum(-2)

    ys = []
    for x in xs:
        if cell.attention == "bahdanau":
            context = look(y)
        joined = np.concatenate([x, context if cell.attention == "bahdanau" else y], axis=-1)
        inner, (y,) = reference(cell.cell, params.cell, joined[None], inner)
        if cell.attention == "luong":
            context = look(y)
            y = np.tanh(np.concatenate([context, y], axis=-1) @ kernels.output)
        ys.append(y if cell.attention == "luong" else np.concatenate([y, context], axis=-1))
    return type(carry)(inner, y, context), np.stack(ys)


def highway(reference, cell, params, xs, carry):
    """Srivastava et al. 2015, eq. 3."""
    carry, ys = reference(cell.cell, params.cell, xs, carry)
    t = sigmoid(xs @ params.kernel + params.bias)
    return carry, t * ys + (1 - t) * xs


def zoneout(reference, cell, params, xs, carry, keep=None):
    """Krueger et al. 2016, eq. 3-6; in evaluation the expectation. Of an LSTM."""
    ys = []
    for t, x in enumerate(xs):
        new, _ = reference(cell.cell, params, x[None], carry)
        d = cell.rate if keep is None else [leaf[t] for leaf in keep]
        carry = LSTMCarry(*(r * a + (1 - r) * b for r, a, b in zip(d, carry, new, strict=True)))
        ys.append(carry.h)
    return carry, np.stack(ys)


OTHER = {"rhn": rhn, "mogrifier_lstm": mogrifier_lstm, "ntm": ntm}

BY_TYPE = {
    ConvLSTM: conv_lstm,
    ConvGRU: conv_gru,
    AttentionCell: attention_cell,
    Highway: highway,
    Zoneout: zoneout,
}
"""What is not in `CELLS`; these take what finds the reference of a cell inside."""
