"""Learning-rate schedules: `schedule(step)` is a scalar tensor; `step` a number or a tensor."""

import math

from lamina import backend, ops
from lamina.engine.tracebacks import UserMade


class LearningRateSchedule(UserMade):
    """A learning rate as a function of the step. Subclasses write `__call__(step)` and `get_config()`.

    >>> class Warmup(LearningRateSchedule):
    ...     def __init__(self, rate, steps):
    ...         self.rate, self.steps = rate, steps
    ...     def __call__(self, step):
    ...         return self.rate * ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
    """

    def __call__(self, step):
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `__call__(self, step)`."
        )

    def get_config(self):
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `get_config()` in order to be "
            "serializable."
        )

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class _Decay(LearningRateSchedule):
    """A schedule whose config is the attributes named in `settings`; `decay_steps` must be positive."""

    settings = ()
    _period = "decay_steps"

    def _set(self, **values):
        for key, value in values.items():
            setattr(self, key, value)
        period = values.get(self._period, 1)
        if period <= 0:
            raise ValueError(f"Argument `{self._period}` must be > 0. Received: {self._period}={period}")

    def get_config(self):
        return {key: getattr(self, key) for key in self.settings}


def _number(step):
    return ops.cast(step, backend.floatx())


class ExponentialDecay(_Decay):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`; `staircase`: a whole exponent."""

    settings = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase", "name")

    def __init__(
        self, initial_learning_rate, decay_steps, decay_rate, staircase=False, name="ExponentialDecay"
    ):
        self._set(
            initial_learning_rate=initial_learning_rate,
            decay_steps=decay_steps,
            decay_rate=decay_rate,
            staircase=staircase,
            name=name,
        )

    def __call__(self, step):
        p = _number(step) / self.decay_steps
        if self.staircase:
            p = ops.floor(p)
        return self.initial_learning_rate * ops.power(float(self.decay_rate), p)


class InverseTimeDecay(_Decay):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`; `staircase`: a whole quotient."""

    settings = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase", "name")

    def __init__(
        self, initial_learning_rate, decay_steps, decay_rate, staircase=False, name="InverseTimeDecay"
    ):
        self._set(
            initial_learning_rate=initial_learning_rate,
            decay_steps=decay_steps,
            decay_rate=decay_rate,
            staircase=staircase,
            name=name,
        )

    def __call__(self, step):
        p = _number(step) / self.decay_steps
        if self.staircase:
            p = ops.floor(p)
        return self.initial_learning_rate / (1.0 + self.decay_rate * p)


class PolynomialDecay(_Decay):
    """From the initial to the end learning rate as `(1 - step / decay_steps) ** power`, then constant.

    With `cycle`, `decay_steps` is stretched to its next multiple each time the end is reached.
    """

    settings = ("initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle", "name")

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        end_learning_rate=0.0001,
        power=1.0,
        cycle=False,
        name="PolynomialDecay",
    ):
        self._set(
            initial_learning_rate=initial_learning_rate,
            decay_steps=decay_steps,
            end_learning_rate=end_learning_rate,
            power=power,
            cycle=cycle,
            name=name,
        )

    def __call__(self, step):
        step, period = _number(step), float(self.decay_steps)
        if self.cycle:
            period = period * ops.maximum(ops.ceil(step / period), 1.0)
        else:
            step = ops.minimum(step, period)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * ops.power(1.0 - step / period, float(self.power)) + self.end_learning_rate


class PiecewiseConstantDecay(LearningRateSchedule):
    """`values[0]` up to and with step `boundaries[0]`, `values[1]` up to `boundaries[1]`, and so on.

    >>> float(PiecewiseConstantDecay([100], [1.0, 0.5])(101))
    0.5
    """

    def __init__(self, boundaries, values, name="PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                "The length of boundaries should be 1 less than the length of values. Received: "
                f"boundaries={boundaries} of length {len(boundaries)}, and values={values} of length "
                f"{len(values)}."
            )
        self.boundaries, self.values, self.name = boundaries, values, name

    def __call__(self, step):
        step = ops.convert_to_tensor(step)
        rate = ops.convert_to_tensor(self.values[0], dtype=backend.floatx())
        for boundary, value in zip(self.boundaries, self.values[1:], strict=True):
            rate = ops.where(ops.greater(step, ops.cast(boundary, step.dtype)), float(value), rate)
        return rate

    def get_config(self):
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


def _half_cosine(fraction, alpha, height=1.0):
    """From 1 at `fraction` 0 down to `alpha` at 1, along a cosine of the given height."""
    return (1.0 - alpha) * (0.5 * height * (1.0 + ops.cos(math.pi * fraction))) + alpha


class CosineDecay(_Decay):
    """Half a cosine, from the learning rate down to `alpha` times it (Loshchilov, Hutter, 2016).

    With `warmup_target`, the rate first rises from `initial_learning_rate` to the target in `warmup_steps`
    straight steps, and decays from there.
    """

    settings = ("initial_learning_rate", "decay_steps", "alpha", "name", "warmup_target", "warmup_steps")

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        alpha=0.0,
        name="CosineDecay",
        warmup_target=None,
        warmup_steps=0,
    ):
        self._set(
            initial_learning_rate=initial_learning_rate,
            decay_steps=decay_steps,
            alpha=alpha,
            name=name,
            warmup_target=warmup_target,
            warmup_steps=warmup_steps,
        )

    def __call__(self, step):
        step = _number(step)
        if self.warmup_target is None:
            done = ops.minimum(step, float(self.decay_steps)) / self.decay_steps
            return self.initial_learning_rate * _half_cosine(done, self.alpha)
        done = ops.clip((step - self.warmup_steps) / self.decay_steps, 0.0, 1.0)
        decayed = self.warmup_target * _half_cosine(done, self.alpha)
        if not self.warmup_steps:
            return decayed
        rise = (self.warmup_target - self.initial_learning_rate) * (step / self.warmup_steps)
        return ops.where(ops.less(step, self.warmup_steps), rise + self.initial_learning_rate, decayed)


class CosineDecayRestarts(_Decay):
    """Half cosines, each `t_mul` times as long and `m_mul` times as high as the one before.

    `first_decay_steps` is the length of the first one, `alpha` the lowest rate as a part of the initial one.
    """

    settings = ("initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha", "name")
    _period = "first_decay_steps"

    def __init__(
        self, initial_learning_rate, first_decay_steps, t_mul=2.0, m_mul=1.0, alpha=0.0, name="SGDRDecay"
    ):
        self._set(
            initial_learning_rate=initial_learning_rate,
            first_decay_steps=first_decay_steps,
            t_mul=t_mul,
            m_mul=m_mul,
            alpha=alpha,
            name=name,
        )

    def __call__(self, step):
        done, ratio = _number(step) / self.first_decay_steps, float(self.t_mul)
        if ratio == 1.0:
            restarts = ops.floor(done)
            done = done - restarts
        else:
            # Periods are a geometric series: 1 + ratio + ... + ratio**(i - 1) of them lie before restart i.
            restarts = ops.floor(ops.log(1.0 - done * (1.0 - ratio)) / math.log(ratio))
            length = ops.power(ratio, restarts)
            done = (done - (1.0 - length) / (1.0 - ratio)) / length
        height = ops.power(float(self.m_mul), restarts)
        return self.initial_learning_rate * _half_cosine(done, self.alpha, height)
