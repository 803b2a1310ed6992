"""A model's variables as nested dicts by path, and back."""

_KINDS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")


def _variables(model, kind):
    if kind == "optimizer_variables":
        return model.optimizer.variables if model.optimizer is not None else []
    return getattr(model, kind)


def get_state_tree(model, value_format):
    """`{kind: {"sequential": {"dense": {"kernel": value}}}}`. Two equal paths are a `ValueError`."""
    if value_format not in ("backend_tensor", "numpy_array"):
        raise ValueError(
            "Invalid `value_format` argument. Expected one of {'numpy_array', 'backend_tensor'}. Received: "
            f"value_format={value_format}"
        )
    state = {}
    for kind in _KINDS:
        nested, seen = state.setdefault(kind, {}), set()
        for v in _variables(model, kind):
            if v.path in seen:
                raise ValueError(
                    f"The following variable path is found twice in the model: '{v.path}'. "
                    "`get_state_tree()` can only be called when all variable paths are unique. Make sure to "
                    "give unique names to your layers (and other objects)."
                )
            seen.add(v.path)
            *scopes, name = v.path.split("/")
            inner = nested
            for scope in scopes:
                inner = inner.setdefault(scope, {})
            inner[name] = v.value if value_format == "backend_tensor" else v.numpy()
    return state


def set_state_tree(model, state):
    """Assigns the values of such dicts; paths that the model lacks are left out."""
    for kind, nested in state.items():
        if kind not in _KINDS:
            raise ValueError(f"Unknown variable name: {kind}")
        by_path = {v.path: v for v in _variables(model, kind)}
        for path, value in _flat(nested):
            if path in by_path:
                by_path[path].assign(value)


def _flat(nested, prefix=""):
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value
