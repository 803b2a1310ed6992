"""Every op against `keras.ops`: values and dtypes; its gradients against finite differences in float64; and
the compiled and the symbolic call against the eager one.
"""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from ops_cases import ALL

import lamina
from lamina import ops
from lamina.engine.trace import compile_function


@pytest.fixture(scope="module")
def keras_values(tmp_path_factory):
    """What Keras gives, by case; computed in a process of its own because the backend is chosen once per
    process.
    """
    pytest.importorskip("keras")
    path = tmp_path_factory.mktemp("keras") / "values.pickle"
    script = os.path.join(os.path.dirname(__file__), "keras_values.py")
    subprocess.run([sys.executable, script, str(path)], check=True)
    with open(path, "rb") as file:
        return dict(zip(map(id, ALL), pickle.load(file), strict=True))


def leaves(value):
    """Outputs as a flat list of numpy arrays."""
    return [np.asarray(v) for v in flat(value)]


def flat(value):
    return [o for v in value for o in flat(v)] if isinstance(value, (list, tuple)) else [value]


def slots_of(case):
    """Where the arrays are among the arguments: (argument, index in its list or None, array)."""
    slots = []
    for key, value in [*enumerate(case.args), *case.kwargs.items()]:
        if isinstance(value, np.ndarray):
            slots.append((key, None, value))
        elif isinstance(value, list) and value and all(isinstance(v, np.ndarray) for v in value):
            slots.extend((key, i, v) for i, v in enumerate(value))
    return slots


def call(case, slots, values):
    """The op with `values` in the slots."""
    args, kwargs = list(case.args), dict(case.kwargs)
    for (key, i, _), value in zip(slots, values, strict=True):
        place = args if isinstance(key, int) else kwargs
        if i is None:
            place[key] = value
        else:
            place[key] = list(place[key])
            place[key][i] = value
    return getattr(ops, case.name)(*args, **kwargs)


def close(got, expected, tolerance, what):
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    if got.dtype.kind in "bui" or expected.dtype.kind in "bui":
        np.testing.assert_array_equal(got, expected, err_msg=what)
    else:
        scale = np.max(np.abs(expected[np.isfinite(expected)]), initial=1.0)
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_values_are_keras_s(case, keras_values):
    slots = slots_of(case)
    got = leaves(call(case, slots, [v for *_, v in slots]))
    expected = keras_values[id(case)] if case.expected is None else case.expected
    assert len(got) == len(expected)
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        close(g, e, case.tolerance, f"{case} output {i}")
        assert g.dtype == e.dtype, f"{case} output {i}: dtype {g.dtype}, Keras has {e.dtype}"


@pytest.mark.parametrize("case", [case for case in ALL if case.grad], ids=str)
def test_gradients_are_finite_differences(case):
    slots = slots_of(case)
    values = [v.astype("float64") if v.dtype.kind == "f" else v for *_, v in slots]
    floats = [i for i, v in enumerate(values) if v.dtype.kind == "f"]
    rng = np.random.default_rng(3)
    weights = [
        rng.uniform(0.5, 1.5, np.shape(o)) for o in flat(call(case, slots, values)) if "float" in o.dtype
    ]

    def total(values):
        outputs = [o for o in flat(call(case, slots, values)) if "float" in o.dtype]
        return sum(ops.sum(o * w) for o, w in zip(outputs, weights, strict=True))

    sources = [ops.convert_to_tensor(values[i]) for i in floats]
    with lamina.GradientTape() as tape:
        tape.watch(sources)
        inside = list(values)
        for i, source in zip(floats, sources, strict=True):
            inside[i] = source
        loss = total(inside)
    gradients = tape.gradient(loss, sources, unconnected_gradients="zero")

    step = 1e-6
    for i, gradient in zip(floats, gradients, strict=True):
        places = list(np.ndindex(values[i].shape))
        if len(places) > 12:  # a sample tells a wrong formula
            places = [places[k] for k in rng.choice(len(places), 12, replace=False)]
        for place in places:
            ends = []
            for sign in (1, -1):
                moved = list(values)
                moved[i] = values[i].copy()
                moved[i][place] += sign * step
                ends.append(float(total(moved)))
            expected = (ends[0] - ends[1]) / (2 * step)
            found = np.asarray(gradient)[place]
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-4), f"{case}: argument {i} at {place}"


@pytest.mark.parametrize("case", [case for case in ALL if case.trace], ids=str)
def test_compiled_and_symbolic_calls(case):
    slots = slots_of(case)
    arrays = [v for *_, v in slots]
    eager = leaves(call(case, slots, arrays))

    compiled = compile_function(lambda *values: call(case, slots, values))
    for i, (g, e) in enumerate(zip(leaves(compiled(*arrays)), eager, strict=True)):
        assert g.dtype == e.dtype
        close(g, e, 2e-6, f"{case} compiled, output {i}")

    specs = [lamina.KerasTensor(v.shape, str(v.dtype)) for v in arrays]
    symbolic = flat(call(case, slots, specs))
    assert [(s.shape, s.dtype) for s in symbolic] == [(e.shape, str(e.dtype)) for e in eager]
