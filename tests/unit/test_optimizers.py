"""Optimizers by themselves: learning rate, tracing, state, arguments, messages."""

import pickle

import numpy as np
import pytest

import lamina
from lamina import ops, optimizers
from lamina.engine.trace import compile_function


def variables():
    return [
        lamina.Variable(np.arange(6, dtype="float32").reshape(2, 3), name="kernel"),
        lamina.Variable(np.ones(3, "float32"), name="bias"),
    ]


def gradients(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2, 3)).astype("float32"), rng.normal(size=3).astype("float32")]


ALL = [
    "SGD",
    "RMSprop",
    "Adam",
    "AdamW",
    "Adamax",
    "Nadam",
    "Lamb",
    "Lion",
    "Adagrad",
    "Adadelta",
    "Ftrl",
    "Adafactor",
]
ALL += ["Muon", "ScheduleFreeAdamW"]
KINDS = [
    {},
    {"gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 2},
    {"global_clipnorm": 1.0, "weight_decay": 0.1},
]


@pytest.mark.parametrize("kwargs", KINDS, ids=["plain", "accumulated", "clipped"])
@pytest.mark.parametrize("name", ALL)
def test_traced_is_eager(name, kwargs):
    """A compiled step does what the step run op by op does."""
    results = []
    for compiled in (False, True):
        w = variables()
        optimizer = getattr(optimizers, name)(**kwargs)
        optimizer.build(w)

        def step(*grads, optimizer=optimizer, w=w):
            optimizer.apply(list(grads), w)

        with lamina.engine.scope.flag("eager", not compiled):
            step = compile_function(step) if compiled else step
            for i in range(5):
                step(*gradients(i))
        results.append([v.numpy() for v in [*w, *optimizer.variables]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_minimises():
    for name in ("SGD", "Adam", "RMSprop", "AdamW", "Nadam"):
        w = lamina.Variable([4.0, -3.0])
        optimizer = optimizers.get(name)
        optimizer.learning_rate = 0.1
        for _ in range(120):
            optimizer.apply([2.0 * w.value], [w])
        assert np.abs(w.numpy()).max() < 0.5, name


def test_learning_rate_is_a_variable():
    optimizer = optimizers.SGD(0.1)
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    optimizer.learning_rate = 0.5
    w = lamina.Variable([1.0])
    optimizer.apply([np.ones(1, "float32")], [w])
    assert float(w.value[0]) == 0.5
    assert optimizer.get_config()["learning_rate"] == 0.5
    optimizer.learning_rate.assign(0.25)
    optimizer.apply([np.ones(1, "float32")], [w])
    assert float(w.value[0]) == 0.25


def test_learning_rate_schedule_and_callable():
    schedule = optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.5])
    w = lamina.Variable([0.0])
    optimizer = optimizers.SGD(schedule)
    for expected in (-1.0, -1.5):
        optimizer.apply([np.ones(1, "float32")], [w])
        assert float(w.value[0]) == expected
    with pytest.raises(TypeError, match="not settable"):
        optimizer.learning_rate = 0.1
    rates = iter([0.5, 0.25])
    w, optimizer = lamina.Variable([0.0]), optimizers.SGD(lambda: next(rates))
    for expected in (-0.5, -0.75):
        optimizer.apply([np.ones(1, "float32")], [w])
        assert float(w.value[0]) == expected
    fixed = optimizers.SGD(0.1)
    fixed.learning_rate = schedule
    assert len(fixed.variables) == 1
    assert float(fixed.learning_rate) == 1.0


def test_settings_can_change_between_steps():
    w, optimizer = lamina.Variable([0.0]), optimizers.SGD(1.0)
    for clipvalue, expected in ((None, -4.0), (1.0, -5.0), (0.5, -5.5)):
        optimizer.clipvalue = clipvalue
        optimizer.apply([np.full(1, 4.0, "float32")], [w])
        assert float(w.value[0]) == expected


def test_one_call_of_the_engine_is_what_op_by_op_is():
    results = []
    for eager in (True, False):
        w, optimizer = variables(), optimizers.Adam(0.1, clipnorm=1.0, weight_decay=0.1)
        with lamina.engine.scope.flag("eager", eager):
            for i in range(3):
                optimizer.apply(gradients(i), w)
        results.append([v.numpy() for v in [*w, *optimizer.variables]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_constraint_holds_after_a_step():
    w = lamina.Variable([0.2, 1.0])
    w.constraint = lamina.constraints.NonNeg()
    optimizers.SGD(1.0).apply([np.array([1.0, 0.5], "float32")], [w])
    np.testing.assert_allclose(w.numpy(), [0.0, 0.5])


def test_missing_gradients():
    w = variables()
    with pytest.warns(UserWarning, match="bias"):
        optimizers.SGD(1.0).apply([np.ones((2, 3), "float32"), None], w)
    np.testing.assert_array_equal(w[1].numpy(), 1.0)
    with pytest.raises(ValueError, match="No gradients"):
        optimizers.SGD().apply([None, None], w)


def test_apply_without_variables():
    w, optimizer = variables(), optimizers.SGD(1.0)
    with pytest.raises(ValueError, match="already be built"):
        optimizer.apply(gradients())
    optimizer.build(w)
    optimizer.apply(gradients())
    np.testing.assert_allclose(w[1].numpy(), 1.0 - gradients()[1])
    with pytest.raises(ValueError, match="1 gradients"):
        optimizer.apply(gradients()[:1])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([np.ones(1)], [lamina.Variable([1.0])])


def test_apply_gradients_takes_pairs():
    w, optimizer = variables(), optimizers.SGD(1.0)
    assert int(optimizer.apply_gradients(zip(gradients(), w, strict=True))) == 1


def test_iterations_count_updates():
    w, optimizer = variables(), optimizers.SGD(gradient_accumulation_steps=2)
    for _ in range(5):
        optimizer.apply(gradients(), w)
    assert int(optimizer.iterations) == 2


def test_accumulated_gradients_are_averaged():
    w, optimizer = variables(), optimizers.SGD(1.0, gradient_accumulation_steps=2)
    optimizer.apply(gradients(0), w)
    np.testing.assert_array_equal(w[1].numpy(), 1.0)
    optimizer.apply(gradients(1), w)
    np.testing.assert_allclose(w[1].numpy(), 1.0 - (gradients(0)[1] + gradients(1)[1]) / 2, rtol=1e-6)


def test_clipping():
    g = [np.array([3.0, 4.0], "float32"), np.array([0.0, 12.0], "float32")]
    a, b = optimizers.SGD(clipnorm=1.0)._clip_gradients(g)
    np.testing.assert_allclose(np.asarray(a), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(b), [0.0, 1.0], rtol=1e-6)
    a, b = optimizers.SGD(global_clipnorm=1.3)._clip_gradients(g)
    np.testing.assert_allclose(np.asarray(b), [0.0, 1.2], rtol=1e-6)
    a, b = optimizers.SGD(clipvalue=3.5)._clip_gradients(g)
    np.testing.assert_allclose(np.asarray(a), [3.0, 3.5])
    (a,) = optimizers.SGD(clipnorm=1.0)._clip_gradients([np.zeros(2, "float32")])
    np.testing.assert_array_equal(np.asarray(a), 0.0)


def test_infinite_gradient_is_not_clipped_away():
    a, b = optimizers.SGD(global_clipnorm=1.0)._clip_gradients(
        [np.array([np.inf], "float32"), np.ones(1, "float32")]
    )
    assert np.isnan(np.asarray(a)).all() and np.isnan(np.asarray(b)).all()


def test_stateless_apply():
    w, optimizer = variables(), optimizers.Adam(0.1)
    optimizer.build(w)
    state = [v.value for v in optimizer.variables]
    new_w, new_state = optimizer.stateless_apply(state, gradients(), [v.value for v in w])
    np.testing.assert_array_equal(w[1].numpy(), 1.0)
    assert int(optimizer.iterations) == 0
    optimizer.apply(gradients(), w)
    for got, v in zip([*new_w, *new_state], [*w, *optimizer.variables], strict=True):
        np.testing.assert_allclose(np.asarray(got), v.numpy(), rtol=1e-6)


def test_low_precision_variables():
    w = lamina.Variable(np.ones(3), dtype="bfloat16")
    optimizer = optimizers.Adam(0.1)
    optimizer.apply([np.ones(3, "float32")], [w])
    assert {v.dtype for v in optimizer.variables[2:]} == {"bfloat16"}
    np.testing.assert_allclose(w.numpy(), 0.9, rtol=1e-2)


def test_custom_optimizer():
    class SignDescent(optimizers.Optimizer):
        def __init__(self, learning_rate=0.01, sharpness=1.0, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.sharpness = sharpness

        def build(self, variables):
            super().build(variables)
            self.seen = self.add_optimizer_variables(variables, "seen")

        def update_step(self, gradient, variable, learning_rate):
            self.assign_add(self.seen[self._get_variable_index(variable)], ops.abs(gradient))
            self.assign_sub(variable, learning_rate * ops.tanh(gradient * self.sharpness))

        def get_config(self):
            return {**super().get_config(), "sharpness": self.sharpness}

    w, optimizer = variables(), SignDescent(1.0, sharpness=2.0)
    optimizer.apply(gradients(), w)
    np.testing.assert_allclose(w[1].numpy(), 1.0 - np.tanh(2 * gradients()[1]), rtol=1e-5)
    assert SignDescent.from_config(optimizer.get_config()).sharpness == 2.0
    assert [v.name for v in optimizer.variables] == ["iteration", "learning_rate", "kernel_seen", "bias_seen"]


def test_set_and_own_weights():
    w, optimizer = variables(), optimizers.Adam()
    with pytest.raises(ValueError, match="not yet been built"):
        optimizer.set_weights([])
    optimizer.apply(gradients(), w)
    store = {}
    optimizer.save_own_variables(store)
    other = optimizers.Adam()
    with pytest.warns(UserWarning, match="Skipping"):
        other.load_own_variables(store)
    other.build(w)
    other.load_own_variables(store)
    for a, b in zip(other.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(ValueError, match="shape"):
        other.set_weights([np.ones(7)] * len(other.variables))


def test_pickle():
    w, optimizer = variables(), optimizers.Adam(optimizers.schedules.CosineDecay(0.1, 10))
    optimizer.apply(gradients(), w)
    again, w2 = pickle.loads(pickle.dumps((optimizer, w)))
    with pytest.raises(ValueError, match="Unknown variable"):
        again.apply(gradients(), variables())
    optimizer.apply(gradients(), w)
    again.apply(gradients(), w2)
    np.testing.assert_array_equal(w[0].numpy(), w2[0].numpy())


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, "Only one of"),
        ({"gradient_accumulation_steps": 1}, ">= 2"),
        ({"use_ema": True, "ema_momentum": 1.5}, "ema_momentum"),
        ({"use_ema": True, "ema_overwrite_frequency": 0.5}, "ema_overwrite_frequency"),
        ({"momentum": 2.0}, "momentum"),
        ({"foo": 1}, "not recognized"),
    ],
)
def test_bad_arguments(kwargs, match):
    with pytest.raises(ValueError, match=match):
        optimizers.SGD(**kwargs)


def test_decay_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="decay"):
        optimizers.SGD(decay=0.1)


def test_get():
    assert optimizers.get(None) is None
    assert isinstance(optimizers.get("RMSProp"), optimizers.RMSprop)
    assert isinstance(optimizers.get(optimizers.Adam), optimizers.Adam)
    found = optimizers.get({"class_name": "SGD", "config": {"momentum": 0.5}})
    assert found.momentum == 0.5
    with pytest.raises(ValueError, match="Could not interpret optimizer"):
        optimizers.get(3)
