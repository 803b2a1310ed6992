"""What users pass as arrays, made into numpy arrays and checked, without copies where none is needed."""

import math
import numbers

import numpy as np

from lamina import config, tree

_SCALARS = (numbers.Number, np.generic, str, bytes)
# Integer widths that numpy has and the engine does not.
_WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}


def is_array_like(value):
    """Whether `value` is one array: numpy, lamina, torch, tensorflow, jax, pandas, scipy sparse."""
    return isinstance(value, np.ndarray) or any(
        hasattr(value, name) for name in ("__array__", "to_numpy", "tocsr")
    )


def is_arrays(value):
    """Whether `value` is an array, numbers in lists, or a list, tuple or dict of those."""
    if isinstance(value, dict):
        return all(is_arrays(v) for v in value.values())
    return value is None or isinstance(value, (list, tuple, range, *_SCALARS)) or is_array_like(value)


def standardize(value, name, count=None):
    """`value` with an array at every leaf; `None` stays.

    Numbers in nested lists are one array, unless the model takes `count` > 1 inputs and the outer list has as
    many entries.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        return {key: standardize(v, f"{name}[{key!r}]") for key, v in value.items()}
    if isinstance(value, (list, tuple)) and not (
        _holds_numbers(value) and not (count or 1) == len(value) > 1
    ):
        return type(value)(standardize(v, f"{name}[{i}]") for i, v in enumerate(value))
    return as_array(value, name)


def _holds_numbers(value):
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (list, tuple, *_SCALARS))


def as_array(value, name):
    """One array with a batch axis. `ValueError` for text, ragged lists and scalars, naming the first bad
    value.
    """
    if hasattr(value, "tocsr"):  # scipy sparse: rows are made dense batch by batch
        return value.tocsr()
    if isinstance(value, np.ndarray):
        array = value
    elif hasattr(value, "to_numpy"):  # pandas, polars
        array = value.to_numpy()
    elif hasattr(value, "detach"):  # torch
        array = value.detach().cpu().numpy()
    elif isinstance(value, (list, tuple)):
        array = _from_lists(value, name)
    elif hasattr(value, "__array__") or isinstance(value, (range, *_SCALARS)):
        array = np.asarray(value)
    else:
        raise TypeError(f"`{name}` should be an array. Received: {type(value).__name__}")
    if array.dtype.kind in "OUS":
        array = _numeric(array, name, getattr(value, "columns", None))
    elif array.dtype.kind == "c":
        raise ValueError(
            f"`{name}` holds complex numbers. Give their parts as features: "
            f"np.stack([{name}.real, {name}.imag], axis=-1)"
        )
    elif array.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` has dtype {array.dtype}, which is no number. Convert it to numbers first."
        )
    if array.ndim == 0:
        raise ValueError(
            f"`{name}` is a single number ({array}); data needs a batch axis: np.array([{array}])"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _from_lists(value, name):
    try:
        return np.asarray(value)
    except ValueError:
        pass
    where, row, other = _ragged(value)
    raise ValueError(
        f"`{name}` is a ragged list: {where}row 0 has {other[0]}, row {row} has {other[1]}. Give every row "
        f"one length, for instance lamina.utils.pad_sequences({name})."
    )


def _ragged(value, where=""):
    """(the path to it, row, (size of row 0, size of that row)) of the first row that is unlike row 0."""
    shapes = []
    for i, row in enumerate(value):
        try:
            shapes.append(np.shape(row))
        except ValueError:  # ragged itself
            if len(row) == len(value[0]):
                return _ragged(row, f"{where}in row {i}, ")
            shapes.append((len(row),))
        if shapes[i] != shapes[0]:
            return where, i, (_size(shapes[0]), _size(shapes[i]))
    raise AssertionError("not ragged")


def _size(shape):
    return (
        f"length {shape[0]}"
        if len(shape) == 1
        else f"shape {shape}"
        if shape
        else "no length (a single value)"
    )


def _numeric(array, name, columns):
    try:
        # numpy would make NaN of None: a hole in the data should be said, not trained on.
        if array.dtype.kind == "O" and not any(entry is None for entry in array.flat):
            return array.astype(config.floatx())
    except (TypeError, ValueError):
        pass
    for index in np.ndindex(array.shape):
        entry = array[index]
        if isinstance(entry, (str, bytes)) or not isinstance(entry, numbers.Number):
            column = f", column {columns[index[1]]!r}" if columns is not None and len(index) > 1 else ""
            entry = entry.item() if isinstance(entry, np.generic) else entry
            raise ValueError(
                f"`{name}` should hold numbers, but position {tuple(map(int, index))}{column} "
                f"is {entry!r} ({type(entry).__name__}). Encode it as a number first."
            )
    raise ValueError(f"`{name}` has dtype {array.dtype}, which could not be read as numbers.")


def target_dtype(array):
    """The dtype in which the engine should get `array`, or None to leave it: floats become `floatx`, as in
    Keras.
    """
    if array.dtype.kind == "f" and array.dtype.name != config.floatx():
        return config.floatx()
    return _WIDER.get(array.dtype.name)


def take(array, rows, dtype=None):
    """`rows` (a slice or an index array) of `array`, as `dtype` when given. A slice of a dense array is a
    view.
    """
    if hasattr(array, "tocsr"):
        part = array[rows].toarray()
    else:
        part = array[rows] if isinstance(rows, slice) else array.take(rows, axis=0)
    return part if dtype is None else part.astype(dtype)


def check_cardinality(x, y, sample_weight):
    """The number of samples. `ValueError` with every count when the arrays do not agree."""
    counts = {
        name: [int(a.shape[0]) for a in tree.flatten(part) if a is not None]
        for name, part in (("x", x), ("y", y), ("sample_weight", sample_weight))
    }
    sizes = {n for part in counts.values() for n in part}
    if not sizes:
        raise ValueError("No data: `x` is None.")
    if len(sizes) > 1:
        listed = "\n".join(
            f"'{name}' sizes: {', '.join(map(str, part))}" for name, part in counts.items() if part
        )
        hint = ""
        if isinstance(x, (list, tuple)) and counts["y"] == [len(x)]:
            hint = "\nA list stands for several inputs; for a list of samples write `np.stack(x)`."
        raise ValueError(
            "Data cardinality is ambiguous. Make sure all arrays contain the same number of samples "
            f"(the length of their first axis).\n{listed}{hint}"
        )
    return sizes.pop()


def class_weight_to_sample_weights(y, class_weight):
    """One weight per label of `y` (class indices or one-hot rows): `class_weight[label]`, 1 where it has
    none.
    """
    if tree.is_nested(y):
        raise ValueError("`class_weight` is only supported for Models with a single output.")
    if y is None:
        raise ValueError("`class_weight` needs targets `y`.")
    labels = np.asarray(y)
    if labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(axis=-1)
    found, where = np.unique(np.round(labels).astype("int64"), return_inverse=True)
    weights = np.array([class_weight.get(int(c), 1.0) for c in found], dtype=config.floatx())
    return weights[where].reshape(labels.shape)


def match_sample_weight(y, sample_weight):
    """`sample_weight` in the structure of `y`: one array stands for every output."""
    if sample_weight is None or not tree.is_nested(y):
        return sample_weight
    if tree.is_nested(sample_weight):
        try:
            tree.assert_same_paths(y, sample_weight)
        except ValueError as error:
            raise ValueError(f"`sample_weight` should have one array per output in `y`. {error}") from None
        return tree.pack_sequence_as(y, tree.flatten(sample_weight))
    if sample_weight.ndim > 1 and sample_weight.shape[1:] != (1,):
        raise ValueError(
            "For a model with multiple outputs, a single `sample_weight` array should have one weight per "
            f"sample: shape (num_samples,). Received shape {sample_weight.shape}. Pass one array per "
            "output instead."
        )
    return tree.map_structure(lambda _: sample_weight, y)


def train_validation_split(arrays, validation_split):
    """((x, y, w), (x, y, w)): the last `validation_split` of the samples, before any shuffling, are for
    validation.
    """
    if not 0.0 < validation_split < 1.0:
        raise ValueError(f"`validation_split` should be between 0 and 1. Received: {validation_split}")
    x, y, sample_weight = arrays
    if not all(is_arrays(a) for a in arrays):
        raise ValueError(
            "Argument `validation_split` is only supported for arrays. "
            f"Received `x` of type {type(x).__name__}: pass `validation_data` instead."
        )
    x, y = standardize(x, "x"), standardize(y, "y")
    sample_weight = standardize(sample_weight, "sample_weight")
    n = check_cardinality(x, y, sample_weight)
    split = math.floor(n * (1.0 - validation_split))
    if split in (0, n):
        raise ValueError(
            f"Training data contains {n} samples, which is not sufficient to split it into a validation and "
            f"training set as specified by `validation_split={validation_split}`. Either provide more "
            "data, or a different value for the `validation_split` argument."
        )

    def part(start, stop):
        return tuple(
            tree.map_structure(lambda a: None if a is None else a[start:stop], data)
            for data in (x, y, sample_weight)
        )

    return part(0, split), part(split, n)
