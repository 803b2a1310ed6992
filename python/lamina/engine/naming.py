"""Names: `Conv2D` -> `conv2d`, and the counters that make `dense`, `dense_1`, ..."""

import contextlib
import re

_counts = {}


def to_snake_case(name):
    """`"MaxPooling2D"` -> `"max_pooling2d"`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(prefix):
    """A name not given before in this session: `dense`, then `dense_1`, ..."""
    return uniquify(to_snake_case(prefix))


def uniquify(name):
    """`name`, with the least suffix that makes it new."""
    count = _counts.get(name, 0)
    _counts[name] = count + 1
    return f"{name}_{count}" if count else name


def get_uid(prefix=""):
    """Counts the calls with `prefix`: 1, 2, ..."""
    _counts[prefix] = _counts.get(prefix, 0) + 1
    return _counts[prefix]


@contextlib.contextmanager
def names_kept():
    """Names given out inside do not count: what is made there is thrown away."""
    before = dict(_counts)
    try:
        yield
    finally:
        _counts.clear()
        _counts.update(before)


def reset_uids():
    """Starts all names anew."""
    _counts.clear()


def clear_session(free_memory=True):
    """Forgets names that were given out, so that the next `Dense` is called `dense` again."""
    reset_uids()
    if free_memory:
        import gc

        gc.collect()
