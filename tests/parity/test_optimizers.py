"""Optimizers against Keras: several steps on the same gradients, slots, configs, schedules."""

import keras
import numpy as np
import pytest

import lamina

STEPS = 6
CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.8, "centered": True, "rho": 0.7}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-5}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.1}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Lamb", {}),
    ("Lion", {}),
    ("Adagrad", {}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Ftrl", {"l1_regularization_strength": 0.01, "l2_regularization_strength": 0.02, "beta": 0.1}),
    ("Ftrl", {"l2_shrinkage_regularization_strength": 0.1, "learning_rate_power": -0.3}),
    ("Adafactor", {}),
    ("Muon", {}),
    ("Muon", {"nesterov": False, "rms_rate": None, "exclude_layers": ["bias"]}),
    ("ScheduleFreeAdamW", {}),
    ("ScheduleFreeAdamW", {"warmup_steps": 3}),
]
COMMON = [
    ("SGD", {"weight_decay": 0.01}),
    ("SGD", {"clipnorm": 0.5}),
    ("Adam", {"clipvalue": 0.1}),
    ("Adam", {"global_clipnorm": 0.7}),
    ("RMSprop", {"loss_scale_factor": 8.0}),
    ("Adam", {"use_ema": True, "ema_momentum": 0.7}),
    ("SGD", {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2, "momentum": 0.9}),
    ("SGD", {"gradient_accumulation_steps": 2}),
    ("Adam", {"gradient_accumulation_steps": 3, "weight_decay": 0.01, "clipnorm": 1.0}),
    ("Nadam", {"gradient_accumulation_steps": 2, "use_ema": True}),
]
IDS = ["-".join([n, *k]) for n, k in CASES + COMMON]


SHAPES = {"kernel": (4, 3), "bias": (3,)}
# Optimizers that treat matrices of any form, or more axes, in their own way.
MORE_SHAPES = {"Muon": {"tall": (5, 2)}, "Adafactor": {"filters": (2, 2, 3, 2), "scale": ()}}


def variables(module, name=""):
    rng = np.random.default_rng(0)
    shapes = {**SHAPES, **MORE_SHAPES.get(name, {})}
    return [module.Variable(rng.normal(size=s).astype("float32"), name=n) for n, s in shapes.items()]


def run(module, name, kwargs, steps=STEPS, rates=None):
    weights = variables(module, name)
    optimizer = getattr(module.optimizers, name)(**kwargs)
    optimizer.build(weights)
    rng = np.random.default_rng(1)
    for step in range(steps):
        if rates:
            optimizer.learning_rate = rates[step]
        grads = [rng.normal(size=tuple(v.shape)).astype("float32") for v in weights]
        grads = [module.ops.convert_to_tensor(g) for g in grads]
        optimizer.apply(grads, weights)
    return optimizer, weights


def assert_alike(mine, theirs, rtol=2e-5):
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), np.asarray(b), rtol=rtol, atol=2e-6, err_msg=b.path)


@pytest.mark.parametrize(("name", "kwargs"), CASES + COMMON, ids=IDS)
def test_steps(name, kwargs):
    # Keras's accumulation is compiled anew at each step: as few as show one update and the start of the next.
    steps = kwargs.get("gradient_accumulation_steps", STEPS - 1) + 1
    mine, w = run(lamina, name, kwargs, steps)
    theirs, v = run(keras, name, kwargs, steps)
    assert_alike(w, v)
    assert_alike(mine.variables, theirs.variables)
    assert [tuple(a.shape) for a in mine.variables] == [tuple(b.shape) for b in theirs.variables]
    if name not in ("Nadam", "Adafactor"):  # Keras gives some of their scalars no path
        assert [a.path for a in mine.variables] == [b.path for b in theirs.variables]
    assert int(mine.iterations) == int(theirs.iterations)


@pytest.mark.parametrize(("name", "kwargs"), CASES + COMMON, ids=IDS)
def test_config_goes_both_ways(name, kwargs):
    mine, theirs = getattr(lamina.optimizers, name)(**kwargs), getattr(keras.optimizers, name)(**kwargs)
    assert mine.get_config() == theirs.get_config()
    assert type(mine).from_config(mine.get_config()).get_config() == mine.get_config()
    assert (
        lamina.optimizers.deserialize(keras.optimizers.serialize(theirs)).get_config() == theirs.get_config()
    )
    if name != "Lamb":  # Keras cannot read its own
        again = keras.optimizers.deserialize(lamina.optimizers.serialize(mine))
        assert again.get_config() == mine.get_config()


def test_learning_rate_can_change():
    rates = [0.1, 0.05, 0.05, 0.2, 0.01, 0.1]
    _, w = run(lamina, "Adam", {"learning_rate": 0.1}, rates=rates)
    _, v = run(keras, "Adam", {"learning_rate": 0.1}, rates=rates)
    assert_alike(w, v)


@pytest.mark.parametrize("by_name", [False, True])
def test_exclude_from_weight_decay(by_name):
    results = []
    for module in (lamina, keras):
        weights = variables(module)
        optimizer = module.optimizers.AdamW(weight_decay=0.5)
        excluded = {"var_names": ["bi", "other"]} if by_name else {"var_list": weights[:1]}
        optimizer.exclude_from_weight_decay(**excluded)
        optimizer.apply([module.ops.zeros(v.shape) for v in weights], weights)
        results.append(weights)
    assert_alike(*results)


def test_finalize_and_set_weights():
    results = []
    for module in (lamina, keras):
        optimizer, weights = run(module, "Adam", {"use_ema": True, "ema_momentum": 0.9})
        optimizer.finalize_variable_values(weights)
        other = module.optimizers.Adam(use_ema=True)
        other.build(weights)
        other.set_weights([v.numpy() for v in optimizer.variables])
        other.apply([module.ops.ones(v.shape) for v in weights], weights)
        results.append([*weights, *other.variables])
    assert_alike(*results)


def test_loss_scale():
    """The scale halves where a step overflows, which changes nothing else; it doubles after two others."""
    results = []
    for module in (lamina, keras):
        optimizer = module.optimizers.LossScaleOptimizer(
            module.optimizers.SGD(0.5, momentum=0.9), initial_scale=4.0, dynamic_growth_steps=2
        )
        w = [module.Variable(np.ones(3, "float32"), name="w")]
        optimizer.build(w)
        state, own = [v.value for v in w], [v.value for v in optimizer.variables]
        seen = []
        for g in (1.0, np.inf, 2.0, 3.0, 1.0, 1.0, np.inf):
            grads = [module.ops.convert_to_tensor(np.full(3, g, "float32"))]
            if module is keras:
                state, own = optimizer.stateless_apply(own, grads, state)
                for v, new in zip(w + optimizer.variables, state + own, strict=True):
                    v.assign(new)
            else:
                optimizer.apply(grads, w)
            seen.append((np.array(w[0].value), float(optimizer.scale_loss(1.0))))
        results.append(seen)
    for (a, scale_a), (b, scale_b) in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        assert scale_a == scale_b


SCHEDULES = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.9}),
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 4, "decay_rate": 0.5, "staircase": True},
    ),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.9}),
    (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 4, "decay_rate": 2, "staircase": True},
    ),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 12, "power": 2.0}),
    (
        "PolynomialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "end_learning_rate": 0.01, "cycle": True},
    ),
    ("PiecewiseConstantDecay", {"boundaries": [3, 9], "values": [1.0, 0.5, 0.1]}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 15, "alpha": 0.1}),
    (
        "CosineDecay",
        {"initial_learning_rate": 0.0, "decay_steps": 15, "warmup_target": 0.2, "warmup_steps": 5},
    ),
    (
        "CosineDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 9, "warmup_target": 0.2, "warmup_steps": 0},
    ),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 5}),
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.1, "first_decay_steps": 4, "t_mul": 1.0, "m_mul": 0.7, "alpha": 0.1},
    ),
]


@pytest.mark.parametrize(
    ("name", "kwargs"), SCHEDULES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(SCHEDULES)]
)
def test_schedule(name, kwargs):
    mine = getattr(lamina.optimizers.schedules, name)(**kwargs)
    theirs = getattr(keras.optimizers.schedules, name)(**kwargs)
    for step in (0, 1, 2, 3, 4, 6, 9, 10, 14, 16, 21, 33):
        assert float(mine(step)) == pytest.approx(float(theirs(step)), rel=1e-4, abs=1e-7), step
    assert mine.get_config() == theirs.get_config()
    again = lamina.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(theirs))
    assert type(again) is type(mine)
    assert again.get_config() == mine.get_config()


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_scheduled_steps(name):
    kwargs = {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5}
    results = []
    for module in (lamina, keras):
        rate = module.optimizers.schedules.ExponentialDecay(**kwargs)
        results.append(run(module, name, {"learning_rate": rate, "weight_decay": 0.01})[1])
    assert_alike(*results)


def test_names_mean_the_same():
    for name in ("sgd", "Adam", "rmsprop", "ADAMW", "nadam", "ftrl", "lion"):
        assert type(lamina.optimizers.get(name)).__name__ == type(keras.optimizers.get(name)).__name__
    missing = {n for n in dir(keras.optimizers) if not n.startswith("_")} - set(dir(lamina.optimizers))
    assert missing <= {"MultiOptimizer", "OptimizerMap", "legacy"}
    public = {n for n in dir(keras.optimizers.schedules) if not n.startswith("_")}
    assert public <= set(dir(lamina.optimizers.schedules))
