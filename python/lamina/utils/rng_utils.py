"""Seeds of everything random."""

import random

import numpy as np


def set_random_seed(seed):
    """Seeds Python's `random`, numpy and lamina's global `SeedGenerator`: the same program then gives the
    same numbers.

    Example: `lamina.utils.set_random_seed(0)` before the model is made.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ValueError(
            f"Expected `seed` argument to be an integer. Received: seed={seed!r} (of type {type(seed)})"
        )
    from lamina.random import set_global_seed

    random.seed(int(seed))
    np.random.seed(int(seed) % 2**32)
    set_global_seed(int(seed))
