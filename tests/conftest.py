"""Settings for all tests: Keras, the judge of parity, computes with jax on the CPU; every test starts from
one seed.
"""

import os

# Before anything imports keras or jax.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Keras's models here are small: compiling them takes longer than running them.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import sys

import numpy as np
import pytest

import lamina

lamina.config.disable_traceback_filtering()  # a failing test shows where in lamina it failed


@pytest.fixture(autouse=True)
def _same_start():
    """Seeds everything and starts names anew, so that no test depends on the ones before it."""
    lamina.utils.set_random_seed(1234)
    lamina.utils.clear_session(free_memory=False)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session(free_memory=False)
    yield
    lamina.config.set_floatx("float32")
    lamina.config.set_image_data_format("channels_last")


@pytest.fixture
def rng():
    """A numpy generator with a fixed seed."""
    return np.random.default_rng(7)
