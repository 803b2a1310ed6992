"""Run as a script: what Keras, on its numpy backend, gives for every case of `ops_cases`. Pickles a list to
the path given.

Keras on jax compiles each of these hundreds of tiny calls; on numpy they take seconds.
"""

import copy
import os
import pickle
import sys
import warnings

os.environ["KERAS_BACKEND"] = "numpy"
os.environ["JAX_PLATFORMS"] = "cpu"

import keras
import numpy as np
from ops_cases import ALL


def leaves(value):
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in leaves(v)]
    return [np.asarray(value)]


def main(path):
    warnings.simplefilter("ignore")
    # Copies, because some ops of this backend write into their argument.
    cases = [(getattr(keras.ops, case.name), *copy.deepcopy((case.args, case.kwargs))) for case in ALL]
    results = [leaves(op(*args, **kwargs)) for op, args, kwargs in cases]
    with open(path, "wb") as file:
        pickle.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1])
