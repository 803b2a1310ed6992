"""What steps return, as people read it."""


def pythonify_logs(logs):
    """`logs` with Python floats for scalar tensors, nested dicts spread out, sorted by name as in Keras."""
    result = {}
    for key, value in sorted((logs or {}).items()):
        if isinstance(value, dict):
            result.update(pythonify_logs(value))
            continue
        # What has axes stays as it is: the outputs of `predict`, a confusion matrix.
        result[key] = float(value) if getattr(value, "shape", None) == () else value
    return result


def one_or_all(values):
    """A single value by itself, several as the list that they are."""
    return values[0] if len(values) == 1 else values
