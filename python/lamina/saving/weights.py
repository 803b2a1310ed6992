"""Weights in a file: one array a variable, under the path of its layer in the model.

The paths are those of Keras's weight files (`layers/dense/vars/0`), so that another container can take this
one's place.
"""

import os
import tempfile

import numpy as np

from lamina.engine.naming import to_snake_case
from lamina.engine.tracebacks import warn
from lamina.errors import FileFormatError


class Store:
    """A nested name space of arrays; `store["layers/dense"]["0"] = array`."""

    def __init__(self, arrays=None):
        self.arrays = {} if arrays is None else arrays

    def group(self, path):
        """The variables of the object at `path`, as a dict-like view."""
        return _Group(self.arrays, f"{path}/vars/" if path else "vars/")


class _Group:
    def __init__(self, arrays, prefix):
        self._arrays, self._prefix = arrays, prefix

    def keys(self):
        return [k[len(self._prefix) :] for k in self._arrays if k.startswith(self._prefix)]

    def __len__(self):
        return len(self.keys())

    def __iter__(self):
        return iter(self.keys())

    def __contains__(self, key):
        return self._prefix + key in self._arrays

    def __getitem__(self, key):
        return self._arrays[self._prefix + key]

    def __setitem__(self, key, value):
        self._arrays[self._prefix + key] = np.asarray(value)


def walk(model):
    """(path, object) for the model, every layer inside, and its optimizer, each once."""
    seen = set()

    def visit(thing, path):
        if id(thing) in seen:
            return
        seen.add(id(thing))
        if hasattr(thing, "save_own_variables"):
            yield path, thing
        for name, child in _children(thing):
            yield from visit(child, f"{path}/{name}" if path else name)

    yield from visit(model, "")
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and getattr(optimizer, "built", False):
        yield from visit(optimizer, "optimizer")


def _children(thing):
    """(name, child) for the layers and seed generators inside, named as Keras names them."""
    if hasattr(thing, "_functional") or hasattr(thing, "_graph"):  # Sequential and functional models
        used = {}
        for layer in thing.layers:
            name = to_snake_case(type(layer).__name__)
            count = used.get(name, 0)
            used[name] = count + 1
            yield f"layers/{name}_{count}" if count else f"layers/{name}", layer
        return
    for attribute in sorted(vars(thing)):
        if attribute.startswith("__") or attribute in _SKIPPED:
            continue
        yield from _trackable(attribute, vars(thing)[attribute])


_SKIPPED = {
    "_tracker",
    "_inbound_nodes",
    "_outbound_nodes",
    "_init_arguments",
    "optimizer",
    "_losses",
    "_flat_layers",
}


def _trackable(name, value):
    if hasattr(value, "save_own_variables"):
        yield name, value
    elif isinstance(value, (list, tuple, set, dict)):
        used = {}
        for e in value.values() if isinstance(value, dict) else value:
            nested = isinstance(e, (list, tuple, set, dict))
            base = "container" if nested else to_snake_case(type(e).__name__)
            count = used.get(base, 0)
            used[base] = count + 1
            yield from _trackable(f"{name}/{base}_{count}" if count else f"{name}/{base}", e)


def save_weights(model, filepath, overwrite=True):
    """Writes all weights of a model, and the state of its optimizer if there is one, to an `.npz` file.

    Args:
        filepath: ends in `.npz` (by convention `.weights.npz`). The file appears whole or not at all.
        overwrite: if false, raise `FileExistsError` when the file is there.

    Raises `ValueError` for a model that is not built, and for another ending.
    """
    filepath = _checked_path(filepath)
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"The file {filepath} exists; pass `overwrite=True` to replace it.")
    if not model.built:
        raise ValueError(
            f"The model '{model.name}' is not built: its input shape is unknown, so it has no weights to "
            "save. Call it on data or use `build(input_shape)`."
        )
    store = Store()
    for path, thing in walk(model):
        thing.save_own_variables(store.group(path))
    folder = os.path.dirname(filepath) or "."
    handle, aside = tempfile.mkstemp(dir=folder, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **store.arrays)
        os.replace(aside, filepath)
    except BaseException:
        os.unlink(aside)
        raise


def load_weights(model, filepath, skip_mismatch=False):
    """Reads the weights that `save_weights` wrote into a model of the same architecture.

    Args:
        skip_mismatch: skip layers whose weights differ in number or shape, with a warning, in place of an
            error.

    Nothing changes unless everything fits. Raises `FileFormatError` for a file that is not one of
    `save_weights`, and `ValueError` where it does not fit the model.
    """
    filepath = _checked_path(filepath)
    store = Store(_read(filepath))
    if not model.built:
        raise ValueError(
            f"The model '{model.name}' is not built: its input shape is unknown, so there is nothing to load "
            "weights into. Call it on data or use `build(input_shape)`."
        )
    fitting, problems = [], []
    for path, thing in walk(model):
        group = store.group(path)
        if path == "optimizer" and not len(group):
            continue  # saved from a model that was not compiled
        problem = _problem(thing, group)
        if problem:
            problems.append(f"'{path or model.name}' ({type(thing).__name__}): {problem}")
        else:
            fitting.append((thing, group))
    if problems and not skip_mismatch:
        raise ValueError(
            f"The weights in {filepath} do not fit the model '{model.name}':\n"
            + "\n".join(f"  {p}" for p in problems)
        )
    for problem in problems:
        warn(f"Skipped {problem}")
    for thing, group in fitting:
        if len(group):
            thing.load_own_variables(group)


def _problem(thing, group):
    """Why arrays do not fit the variables of an object, or `None`."""
    own = thing._own_variables if hasattr(thing, "_own_variables") else getattr(thing, "variables", None)
    if own is None or type(thing).save_own_variables.__module__.partition(".")[0] != "lamina":
        return None  # the object reads what it wrote itself
    if len(own) != len(group):
        return f"it has {len(own)} variables, the file has {len(group)} for it"
    for i, v in enumerate(own):
        if f"{i}" not in group:
            return f"the file lacks its variable {i}"
        if tuple(group[f"{i}"].shape) != tuple(v.shape):
            return f"`{v.path}` has shape {tuple(v.shape)}, the file has {tuple(group[f'{i}'].shape)}"
    return None


def _read(filepath):
    import zipfile

    try:
        with np.load(filepath, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as e:
        raise FileFormatError(f"{filepath} is not a weights file of lamina, or is damaged: {e}") from e


def _checked_path(filepath):
    filepath = os.fspath(filepath)
    if not filepath.endswith(".npz"):
        raise ValueError(
            f"The filename must end in `.npz` (such as `model.weights.npz`). Received: filepath={filepath}"
        )
    return filepath
