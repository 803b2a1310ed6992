"""Small numpy helpers for preparing data."""

import numpy as np


def to_categorical(x, num_classes=None):
    """One-hot rows: integers of shape (...) or (..., 1) to float64 of shape (..., num_classes), as in Keras.

    `num_classes` defaults to `max(x) + 1`. A tensor gives a float32 tensor, and needs `num_classes`.
    Raises `ValueError` for a label outside [0, num_classes).

    Example: `to_categorical([0, 2, 1], 3)` is `[[1, 0, 0], [0, 0, 1], [0, 1, 0]]`.
    """
    from lamina import backend, ops

    if backend.is_tensor(x):
        if num_classes is None:
            raise ValueError("`to_categorical` of a tensor needs `num_classes`.")
        if len(x.shape) > 1 and x.shape[-1] == 1:
            x = ops.squeeze(x, axis=-1)
        return ops.one_hot(x, num_classes)
    x = np.asarray(x)
    if x.dtype.kind == "f" and np.any(x != np.floor(x)):
        raise ValueError(
            f"`to_categorical` needs class indices, integers from 0. Received {x[x != np.floor(x)][0]}"
        )
    x = x.astype("int64")
    if x.ndim > 1 and x.shape[-1] == 1:
        x = x[..., 0]
    if num_classes is None:
        num_classes = int(x.max()) + 1
    bad = (x < 0) | (x >= num_classes)
    if bad.any():
        where = np.argwhere(bad)[0].tolist()
        raise ValueError(f"Label {x[tuple(where)]} at position {where} is outside [0, {num_classes}).")
    rows = np.zeros((*x.shape, num_classes))
    np.put_along_axis(rows, x[..., None], 1.0, axis=-1)
    return rows


def normalize(x, axis=-1, order=2):
    """`x` divided by its `order`-norm along `axis`; zero rows stay zero. numpy in, numpy out; tensors give
    tensors.
    """
    if not isinstance(x, np.ndarray):
        from lamina import ops

        return ops.normalize(x, axis=axis, order=order)
    norm = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norm == 0, 1, norm)


def pad_sequences(sequences, maxlen=None, dtype="int32", padding="pre", truncating="pre", value=0.0):
    """Sequences of different lengths as one array of shape (len(sequences), maxlen, ...).

    Args:
        sequences: a list of sequences; entries may be arrays of one shape.
        maxlen: length of all; by default that of the longest.
        padding, truncating: "pre" or "post": the end at which values are added or removed.
        value: what is added.

    Example: `pad_sequences([[1], [2, 3]])` is `[[0, 1], [2, 3]]`.
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ValueError(f'`{name}` should be "pre" or "post". Received: {side!r}')
    if isinstance(value, str) and np.dtype(dtype).kind not in "OSU":
        raise ValueError(
            f"`dtype` {dtype} is not compatible with `value`'s type: {type(value)}. You should set "
            "`dtype=object` for "
            "variable length strings."
        )
    for i, sequence in enumerate(sequences):
        if not hasattr(sequence, "__len__"):
            raise ValueError(f"`sequences` should be a list of sequences, but entry {i} is {sequence!r}")
    if maxlen is None:
        maxlen = max(map(len, sequences), default=0)
    entry = next((np.shape(s)[1:] for s in sequences if len(s)), ())
    padded = np.full((len(sequences), maxlen, *entry), value, dtype=dtype)
    for i, sequence in enumerate(sequences):
        kept = sequence[max(0, len(sequence) - maxlen) :] if truncating == "pre" else sequence[:maxlen]
        if not len(kept):
            continue
        kept = np.asarray(kept, dtype=dtype)
        if kept.shape[1:] != entry:
            raise ValueError(f"Entries of sequence {i} have shape {kept.shape[1:]}, those before it {entry}.")
        start = maxlen - len(kept) if padding == "pre" else 0
        padded[i, start : start + len(kept)] = kept
    return padded
