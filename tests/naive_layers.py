"""Layers in plain NumPy loops, written from their definitions: what the networks' own are compared with.

Images are (H,W,C), one example at a time; `params` are a Flax module's parameters.
"""

import numpy as np
from scipy.signal import correlate


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def leaky_relu(x):
    return np.where(x < 0, 0.2 * x, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def conv(x, params, stride=1, padding=None):
    """Cross-correlation, one channel pair after another; padded to ceil(size / stride), or by `padding` all round."""
    kernel = np.asarray(params['kernel'], np.float64)
    pads = []
    for axis in (0, 1):
        size, reach = x.shape[axis], kernel.shape[axis]
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        pads.append((total // 2, total - total // 2) if padding is None else (padding, padding))
    x = np.pad(np.asarray(x, np.float64), [*pads, (0, 0)])
    maps = [sum(correlate(x[..., i], kernel[..., i, o], 'valid', 'direct') for i in range(x.shape[-1]))
            for o in range(kernel.shape[-1])]
    out = np.stack(maps, -1)[::stride, ::stride]
    return out + np.asarray(params['bias']) if 'bias' in params else out


def instance_norm(x):
    """Every channel with its own mean and variance over space."""
    return (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)


def example_norm(x, params):
    """One mean and variance for the whole example, then scale and bias of each channel."""
    normal = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return normal * np.asarray(params['scale']) + np.asarray(params['bias'])


def conv_norm(x, params, stride=1):
    return leaky_relu(example_norm(conv(x, params['Conv_0'], stride), params['ExampleNorm_0']))


def residual_block(x, params):
    y = x
    for i in range(2):
        y = conv(leaky_relu(example_norm(y, params[f'ExampleNorm_{i}'])), params[f'Conv_{i}'])
    return y + (conv(x, params['Conv_2']) if 'Conv_2' in params else x)


def generated_conv(x, theta):
    """(H,W,I) by (O,I+1) rows of weights and bias -> (H,W,O), pixel by pixel."""
    out = np.zeros((*x.shape[:2], len(theta)))
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            for o, (*weights, bias) in enumerate(theta):
                out[row, column, o] = bias + sum(w * value for w, value in zip(weights, x[row, column], strict=True))
    return out


def row_mlp(matrix, params, kernels):
    """Each row standardised, two layers, leaky ReLU between: (C,C) -> (kernels,C,inputs+1)."""
    out = []
    for row in matrix:
        row = (row - row.mean()) / np.sqrt(row.var() + 1e-5)
        hidden = leaky_relu(row @ np.asarray(params['Dense_0']['kernel']) + np.asarray(params['Dense_0']['bias']))
        out.append(hidden @ np.asarray(params['Dense_1']['kernel']) + np.asarray(params['Dense_1']['bias']))
    return np.stack([row.reshape(kernels, -1) for row in out], 1)


def randomized(variables, seed=0):
    """The same tree, its constants (biases 0, scales 1) disturbed too: a forgotten one would show."""
    import jax
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(x + 0.3 * rng.normal(size=x.shape), np.float32), variables)
