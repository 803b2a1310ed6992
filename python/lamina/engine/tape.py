"""Gradients: `GradientTape`, `value_and_grad` and `grad`, all on the engine's one autodiff."""

from contextlib import contextmanager

from lamina import _core, tree
from lamina.engine.scope import state
from lamina.engine.variable import Variable


class GradientTape:
    """Records what is computed inside, and differentiates it.

        with lamina.GradientTape() as tape:
            loss = ops.mean(ops.square(model(x) - y))
        gradients = tape.gradient(loss, model.trainable_variables)

    Args:
        persistent: `gradient` may be called more than once.
        watch_accessed_variables: record operations on every trainable variable; else only on what was
            `watch`ed.

    Inside a compiled step the tape costs nothing: the graph that is being traced is differentiated itself.
    """

    def __init__(self, persistent=False, watch_accessed_variables=True):
        self._persistent, self._watch_variables = persistent, watch_accessed_variables
        self._recording = False
        self.reset()

    def reset(self):
        """Forgets everything recorded."""
        # The engine's tape stays usable: several targets are several passes. Whether ours may be reused is
        # checked here.
        self._tape = _core.Tape(True, self._watch_variables)
        self._used = False

    def __enter__(self):
        self._start()
        return self

    def __exit__(self, *_):
        if self._recording:
            self._stop()

    def _start(self):
        if self._recording:
            raise ValueError(
                "Tape is still recording, This can happen if you try to re-enter an already-active tape."
            )
        self._tape.start()
        self._recording = True
        state.tapes += 1

    def _stop(self):
        self._tape.stop()
        self._recording = False
        state.tapes -= 1

    @contextmanager
    def stop_recording(self):
        """Nothing inside is recorded."""
        if not self._recording:
            raise ValueError("`stop_recording` needs a tape that is recording.")
        self._stop()
        try:
            yield
        finally:
            self._start()

    def watch(self, tensor):
        """Records operations on `tensor` (or a nested structure of tensors) too."""
        for x in tree.flatten(tensor):
            self._tape.watch(x)

    def gradient(self, target, sources, output_gradients=None, unconnected_gradients="none"):
        """The gradient of `target` with respect to each of `sources`, in the structure of `sources`.

        Args:
            target: a tensor or a nested structure of tensors; a tensor that is not a scalar counts as its
                sum.
            sources: tensors or variables, nested as you like.
            output_gradients: what to multiply the target's elements by, in the structure of `target`.
            unconnected_gradients: `"none"` gives `None`, `"zero"` zeros, for a source that `target` does not
                depend on.

        Raises `RuntimeError` on the second call of a tape that is not persistent.
        """
        if self._used and not self._persistent:
            raise RuntimeError(
                "A non-persistent GradientTape can only be used to compute one set of gradients: make it "
                "with `GradientTape(persistent=True)`."
            )
        if unconnected_gradients not in ("none", "zero"):
            raise ValueError(
                f"`unconnected_gradients` must be 'none' or 'zero'. Received: {unconnected_gradients}"
            )
        self._used = True
        recording = self._recording
        if recording and not self._persistent:
            self._stop()
        flat = tree.flatten(sources)
        targets = tree.flatten(target)
        seeds = [None] * len(targets) if output_gradients is None else tree.flatten(output_gradients)
        totals = [None] * len(flat)
        for t, seed in zip(targets, seeds, strict=True):
            value = t.value if isinstance(t, Variable) else t
            found = self._tape.gradient(value, flat, *([] if seed is None else [seed]))
            totals = [
                b if a is None else a if b is None else a + b for a, b in zip(totals, found, strict=True)
            ]
        if unconnected_gradients == "zero":
            totals = [_core.full_like(x, 0.0) if g is None else g for g, x in zip(totals, flat, strict=True)]
        if not self._persistent:
            self._tape = None
        return tree.pack_sequence_as(sources, totals)

    def watched_variables(self):
        """Not kept by lamina: every trainable variable is watched."""
        raise NotImplementedError(
            "lamina's tape does not list the variables that it saw: use `model.trainable_variables`."
        )


def value_and_grad(fn, argnums=0, variables=None, has_aux=False):
    """A function that returns `fn`'s value and its gradients.

    Args:
        fn: returns a scalar loss, or `(loss, aux)` with `has_aux`.
        argnums: which argument (an int, or several) to differentiate with respect to.
        variables: differentiate with respect to these variables (any nesting) instead of the arguments.
        has_aux: `fn` returns `(loss, aux)`; the value is then that pair.

    Returns: `g(*args, **kwargs) -> (value, gradients)`; gradients have the structure of what they belong to.

        step = lamina.value_and_grad(lambda x, y: loss_fn(y, model(x)), variables=model.trainable_variables)
        loss, gradients = step(x, y)
    """
    if variables is None and not all(isinstance(i, int) for i in tree.flatten(argnums)):
        raise TypeError(
            "`argnums` says by position which arguments to differentiate with respect to. For variables: "
            f"`variables=model.trainable_variables`. Received: argnums={argnums}"
        )

    def wrapped(*args, **kwargs):
        if variables is None:
            numbers = [argnums] if isinstance(argnums, int) else list(argnums)
            args = list(args)
            for i in numbers:
                args[i] = tree.map_structure(_as_tensor, args[i])
            picked = args[argnums] if isinstance(argnums, int) else tuple(args[i] for i in numbers)
        else:
            picked = variables
        with GradientTape() as tape:
            if variables is None:
                tape.watch(picked)
            value = fn(*args, **kwargs)
        loss = value[0] if has_aux else value
        if tuple(loss.shape) != ():
            raise ValueError(
                f"`value_and_grad` needs a scalar loss. Received a loss of shape {tuple(loss.shape)}."
            )
        return value, tape.gradient(loss, picked)

    return wrapped


def grad(fn, argnums=0, variables=None, has_aux=False):
    """As `value_and_grad`, but returns the gradients only (with `aux`, where there is one)."""
    both = value_and_grad(fn, argnums, variables, has_aux)

    def wrapped(*args, **kwargs):
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return wrapped


def _as_tensor(x):
    return x if isinstance(x, (Variable, _core.SymbolicTensor)) else _core.tensor(x)
