"""Times lamina alone on a few models: latency and training steps, with the arithmetic rate that they reach.

python benches/models/bench.py
"""

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

import lamina
from lamina.models.costs import model_cost

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
from models import cnn, mlp, text_cnn, tiny


def median(call, seconds=0.5):
    """The median time of a call."""
    call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def line(name, seconds):
    """One row."""
    unit, scale = next(
        (u, s) for u, s in (("s", 1), ("ms", 1e3), ("us", 1e6)) if seconds * s >= 1 or u == "us"
    )
    print(f"{name:<34}{seconds * scale:>9.2f} {unit}", flush=True)


def main():
    """Prints a table."""
    rng = np.random.default_rng(0)
    for name, build, shape, batches in (
        ("3-4-4-1", tiny, (3,), (1,)),
        ("MLP 784-512-512-10", mlp, (784,), (1, 32, 1024)),
        ("CNN 28x28", cnn, (28, 28, 1), (1, 32, 256)),
        ("text CNN", text_cnn, (400,), (1, 64)),
    ):
        model = build(lamina)
        for batch in batches:
            ids = build is text_cnn
            x = (
                rng.integers(0, 20000, (batch, *shape), "int32")
                if ids
                else rng.random((batch, *shape), "float32")
            )
            line(f"call {name}, batch {batch}", median(partial(model, x)))
    for name, build, shape, loss, batch in (
        ("3-4-4-1", tiny, (3,), "mse", 32),
        ("MLP 784-512-512-10", mlp, (784,), "sparse_categorical_crossentropy", 32),
        ("CNN 28x28", cnn, (28, 28, 1), "sparse_categorical_crossentropy", 32),
    ):
        model = build(lamina)
        model.compile("adam", loss)
        x = rng.random((batch, *shape), "float32")
        y = rng.random((batch, 1), "float32") if loss == "mse" else rng.integers(0, 10, batch)
        line(f"train step {name}, batch {batch}", median(partial(model.train_on_batch, x, y)))


def memory():
    """Intermediate values of the larger models: the plan's arena beside the bytes that are alive at once."""
    for name, build, batches in (("CNN 28x28", cnn, (1, 256)), ("text CNN", text_cnn, (1, 64))):
        for batch in batches:
            found = model_cost(build(lamina), batch)
            arena, alive = found.arena_bytes / 1e6, found.live_bytes / 1e6
            print(f"memory {name}, batch {batch}: arena {arena:.2f} MB, alive at once {alive:.2f} MB")


if __name__ == "__main__":
    main()
    memory()
