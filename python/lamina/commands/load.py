"""From the FILE of a command line to a model."""

import importlib
import json
import os
import sys
import traceback

from lamina.commands import CommandError


def load_model(target, weights=None, need_weights=False):
    """The model that FILE means.

    Args:
        target: `module:attribute`, where the attribute is a model or a function without arguments that makes
            one; or a file of `model.to_json()`, with weights beside it.
        weights: the weights file; default: what `weights_beside` finds.
        need_weights: whether a JSON file without weights is an error.
    """
    if is_reference(target):
        model = _from_module(target)
    else:
        model = _from_json(target)
        weights = weights or weights_beside(target)
        if weights is None and need_weights:
            raise CommandError(
                f"There are no weights for {target}: the answers would be those of random numbers.\n"
                f"expected: {' or '.join(_beside(target))}\n"
                'fix: `model.save_weights("' + _beside(target)[-1] + '")`, or give the file with --weights'
            )
    if weights is not None:
        model.load_weights(weights)
    return model


def is_reference(target):
    """Whether FILE is `module:attribute` and not a file."""
    return ":" in target and not os.path.exists(target) and not target.endswith(".json")


def weights_beside(path):
    """The weights file next to `model.json`: `model.npz` or `model.weights.npz`, if there is one."""
    return next((name for name in _beside(path) if os.path.exists(name)), None)


def _beside(path):
    base = os.path.splitext(path)[0]
    return f"{base}.npz", f"{base}.weights.npz"


def read_config(path):
    """The dict in a file of `model.to_json()`."""
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except FileNotFoundError:
        raise CommandError(
            f"There is no file {path}.\n"
            "expected: a file of `model.to_json()`, or `module:attribute` for a model in Python"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        why = e if isinstance(e, json.JSONDecodeError) else "it is no text"
        raise CommandError(
            f"{path} is not JSON: {why}.\nexpected: a file of `model.to_json()`, such as model.json"
        ) from None
    inner = config.get("config") if isinstance(config, dict) and "class_name" in config else None
    layers = inner.get("layers", []) if isinstance(inner, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise CommandError(f"{path} does not describe a model.\nexpected: a file of `model.to_json()`")
    return config


def _from_json(path):
    from lamina.models import Model
    from lamina.saving import deserialize_keras_object

    config = read_config(path)
    try:
        model = deserialize_keras_object(config)
    except Exception as e:  # a damaged description can fail anywhere
        raise CommandError(f"{path} describes no model that can be made: {type(e).__name__}: {e}") from None
    if not isinstance(model, Model):
        raise CommandError(f"{path} describes a {type(model).__name__}, not a model.")
    return model


def _from_module(target):
    from lamina.models import Model

    name, _, attribute = target.partition(":")
    if not name or not attribute:
        raise CommandError(f"{target} is not `module:attribute`, such as `networks:build_model`.")
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name != name and not name.startswith(f"{e.name}."):
            raise CommandError(_own_line(f"The module {name} could not be imported", e)) from None
        raise CommandError(f"There is no module {name} in {os.getcwd()} or on Python's path.") from None
    except Exception as e:
        raise CommandError(_own_line(f"The module {name} could not be imported", e)) from None
    finally:
        sys.path.pop(0)
    for part in attribute.split("."):
        if not hasattr(found, part):
            from lamina.errors import did_you_mean

            raise CommandError(f"{name} has no attribute '{part}'.{did_you_mean(part, dir(found))}")
        found = getattr(found, part)
    if callable(found) and not isinstance(found, Model):
        try:
            found = found()
        except Exception as e:
            raise CommandError(_own_line(f"{target}() did not make a model", e)) from None
    if not isinstance(found, Model):
        raise CommandError(
            f"{target} is of type {type(found).__name__}.\n"
            "expected: a model, or a function without arguments that returns one"
        )
    return found


def _own_line(what, error):
    """What went wrong in the user's file, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    home = os.path.dirname(os.path.dirname(__file__))
    theirs = [
        f for f in frames if not f.filename.startswith((home, "<frozen")) and "importlib" not in f.filename
    ]
    where = f"\nwhere: {theirs[-1].filename}, line {theirs[-1].lineno}: {theirs[-1].line}" if theirs else ""
    return f"{what}: {type(error).__name__}: {error}{where}"
