"""What holds while a piece of code runs, per thread: name scopes, autocast, the current layer call,
stateless calls.
"""

import threading

from lamina.engine.direct import set_plain


class _State(threading.local):
    names = ()  # ((name, caller), ...) from the outermost scope in
    autocast = None  # AutocastScope or None
    stateless = None  # StatelessScope or None
    call = None  # CallContext of the outermost layer call in progress
    redirect = False  # variables must be read through `.value`: autocast or a stateless scope is on
    inferring = False  # a call is traced for its output shapes only
    shapes_only = False  # ... and no plan will be made of it: a loop may stand for all its rounds by one
    abstract = False  # new variables are made of zeros, since only their shapes matter
    eager = False  # functions must not be compiled (`run_eagerly`)
    tapes = 0  # gradient tapes that record
    keep_functions = False  # configurations hold function objects: a copy within this process
    cleanups = None  # inside a trace: what to call at its end, to let go of symbolic values

    def settle(self):
        """Lets models be called directly where nothing here speaks against it; for whoever changes that."""
        set_plain(not (self.call or self.eager or self.redirect))


state = _State()


class name_scope:
    """Variables made inside get `name/` before their path.

    Entering the scope of one `caller` twice in a row counts once.
    """

    def __init__(self, name, caller=None, deduplicate=True, **_):
        if not isinstance(name, str) or "/" in name:
            raise ValueError(
                f"Argument `name` must be a string and cannot contain character `/`. Received: name={name}"
            )
        self.name, self.caller, self.deduplicate = name, caller, deduplicate

    def __enter__(self):
        self._outer = state.names
        repeated = (
            self.deduplicate and self.caller is not None and state.names and state.names[-1][1] is self.caller
        )
        if not repeated:
            state.names = (*state.names, (self.name, self.caller))
        return self

    def __exit__(self, *_):
        state.names = self._outer


def current_path():
    """The names of the open scopes, joined by `/`."""
    return "/".join(name for name, _ in state.names)


class CallContext:
    """One outermost layer call: nested calls read its `training` when they are given none."""

    __slots__ = ("entry_layer", "training")

    def __init__(self, entry_layer, training=None):
        self.entry_layer, self.training = entry_layer, training


class training_phase:
    """Layers called inside train, or not; `None` leaves what holds."""

    def __init__(self, entry_layer, training):
        self.entry_layer, self.training = entry_layer, training

    def __enter__(self):
        self._outer = state.call
        if self.training is not None:
            state.call = CallContext(
                self._outer.entry_layer if self._outer else self.entry_layer, self.training
            )
            state.settle()

    def __exit__(self, *_):
        state.call = self._outer
        state.settle()


class AutocastScope:
    """Float variables are read as `dtype` inside; `AutocastScope(None)` turns autocast off."""

    def __init__(self, dtype):
        if dtype is not None:
            from lamina.backend import is_float_dtype, standardize_dtype

            dtype = standardize_dtype(dtype)
            if not is_float_dtype(dtype):
                raise ValueError(
                    "`AutocastScope` can only be used with a floating-point target dtype, such as 'float16'. "
                    f"Received: dtype={dtype}"
                )
        self.dtype = dtype

    def maybe_cast(self, value):
        """`value` as the scope's dtype, if it is a float tensor."""
        if self.dtype is None or "float" not in value.dtype or value.dtype == self.dtype:
            return value
        from lamina import ops

        return ops.cast(value, self.dtype)

    def __enter__(self):
        self._outer = state.autocast
        state.autocast = self
        _update_redirect()
        return self

    def __exit__(self, *_):
        state.autocast = self._outer
        _update_redirect()


def get_autocast_scope():
    """The innermost autocast scope, or `None`."""
    return state.autocast


class StatelessScope:
    """Variables are read from `state_mapping` and assignments are collected instead of done.

    `get_current_value(variable)` is the value as of now: assigned inside, else mapped, else `None`.
    """

    def __init__(self, state_mapping=None, collect_losses=False, initialize_variables=True):
        # Values become tensors: a variable that stood for itself would be read for ever.
        self.values = {id(v): (v, v._converted(value)) for v, value in state_mapping or ()}
        self.collect_losses, self.losses = collect_losses, []

    def add_update(self, update):
        """Notes `(variable, value)`."""
        self.values[id(update[0])] = update

    def add_loss(self, loss):
        """Notes a loss made by a layer inside."""
        self.losses.append(loss)

    def get_current_value(self, variable):
        """The variable's value inside this scope, or `None`."""
        found = self.values.get(id(variable))
        return None if found is None else found[1]

    def __enter__(self):
        self._outer = state.stateless
        state.stateless = self
        _update_redirect()
        return self

    def __exit__(self, *_):
        state.stateless = self._outer
        _update_redirect()


def in_stateless_scope():
    """Whether a `StatelessScope` is open."""
    return state.stateless is not None


def _update_redirect():
    autocast = state.autocast
    state.redirect = state.stateless is not None or (autocast is not None and autocast.dtype is not None)
    state.settle()


_FRESH = {
    "names": (),
    "autocast": None,
    "stateless": None,
    "call": None,
    "redirect": False,
    "inferring": False,
    "shapes_only": False,
    "abstract": False,
    "tapes": 0,
}


class fresh:
    """The state as at the start of a program, for a trace.

    Runs what was put into `state.cleanups` at its end.
    """

    def __enter__(self):
        self._outer = {name: getattr(state, name) for name in (*_FRESH, "cleanups")}
        for name, value in _FRESH.items():
            setattr(state, name, value)
        state.cleanups = []
        state.settle()

    def __exit__(self, *_):
        cleanups = state.cleanups
        for name, value in self._outer.items():
            setattr(state, name, value)
        state.settle()
        for cleanup in cleanups:
            cleanup()


class flag:
    """Sets one boolean of the state inside: `with flag("inferring"): ...`."""

    def __init__(self, name, value=True):
        self.name, self.value = name, value

    def __enter__(self):
        self._outer = getattr(state, self.name)
        setattr(state, self.name, self.value)
        state.settle()

    def __exit__(self, *_):
        setattr(state, self.name, self._outer)
        state.settle()
