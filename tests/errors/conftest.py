"""What every test of an error wants to know: what the user reads, and that nothing was computed before."""

import numpy as np
import pytest

from lamina.errors import ShapeError


@pytest.fixture
def reads():
    """`reads(call, *words)`: the error that `call()` raises, whose text holds all the words.

    Args:
        call: what the user does.
        words: parts of the text.
        first: a part of its first line: what people search for.
        error: the class, which must be a ValueError with parts that programs can read, unless told otherwise.
        untouched: models and layers whose weights and steps must be as before.
    """

    def read(call, *words, first="", error=ShapeError, untouched=()):
        before = [state(thing) for thing in untouched]
        with pytest.raises(error) as caught:
            call()
        text = str(caught.value)
        print(text)  # shown when the test fails
        assert first in text.splitlines()[0]
        for word in words:
            assert word in text, word
        assert issubclass(error, ValueError) or error in (TypeError, AttributeError, RuntimeError)
        for thing, was in zip(untouched, before, strict=True):
            now = state(thing)
            assert now[0] == was[0]
            for a, b in zip(now[1], was[1], strict=True):
                np.testing.assert_array_equal(a, b)
        return caught.value

    return read


def state(thing):
    """(is it built, how many calls it has seen, how many steps it was trained), weights."""
    optimizer = getattr(thing, "optimizer", None)
    steps = int(optimizer.iterations) if optimizer is not None and optimizer.built else 0
    return (thing.built, len(thing._inbound_nodes), steps), thing.get_weights()
