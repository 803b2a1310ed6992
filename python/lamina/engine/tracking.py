"""Finding the variables, layers, metrics and seed generators that are assigned to a layer's attributes."""

import sys
from collections import OrderedDict

from lamina.engine.variable import Variable

_PLAIN = (int, float, str, bool, type(None), bytes)
STORES = ("trainable_variables", "non_trainable_variables", "layers", "metrics", "seed_generators")


def _loaded(module, name):
    # A metric or a seed generator can only be at hand if its module was imported.
    return getattr(sys.modules.get(module), name, ())


def store_of(x):
    """Which store `x` belongs to, or `None`."""
    if isinstance(x, Variable):
        return "trainable_variables" if x.trainable else "non_trainable_variables"
    if isinstance(x, _loaded("lamina.metrics", "Metric") or ()):
        return "metrics"
    if isinstance(x, _loaded("lamina.layers.layer", "Layer") or ()):
        return "layers"
    if isinstance(x, _loaded("lamina.random", "SeedGenerator") or ()):
        return "seed_generators"
    return None


class Tracker:
    """The stores of one layer: lists in the order of first assignment, each thing once."""

    def __init__(self):
        self.stores = {name: [] for name in STORES}
        self.locked_because = None

    def lock(self, because="The state of this layer is locked: nothing can be added to it."):
        """From now on, `add` raises `ValueError` with this message (`None`: it does not)."""
        self.locked_because = because

    def unlock(self):
        """Allows additions; returns why they were not allowed."""
        because, self.locked_because = self.locked_because, None
        return because

    def track(self, value):
        """Stores what `value` is or holds.

        Returns it, with containers replaced by ones that keep tracking.
        """
        if isinstance(value, _PLAIN):
            return value
        store = store_of(value)
        if store is not None:
            self.add(store, value)
            return value
        if isinstance(value, tuple):
            for e in value:
                self.track(e)
            return value
        wrapper = _WRAPPERS.get(type(value))
        return wrapper(value, self) if wrapper else value

    def add(self, store, value):
        """Stores `value` unless it is stored already. Raises `ValueError` when the layer is locked."""
        both = ("trainable_variables", "non_trainable_variables")
        stores = both if store in both else (store,)
        if any(value is x for name in stores for x in self.stores[name]):
            return
        if self.locked_because:
            raise ValueError(self.locked_because)
        self.stores[store].append(value)

    def untrack(self, value):
        """Forgets `value`, or what a container holds."""
        for items in self.stores.values():
            items[:] = [x for x in items if x is not value]
        if isinstance(value, (list, tuple, set)):
            for e in value:
                self.untrack(e)
        elif isinstance(value, dict):
            for e in value.values():
                self.untrack(e)


class TrackedList(list):
    """A list that tells its layer what is put into it."""

    def __init__(self, values=(), tracker=None):
        self.tracker = tracker
        super().__init__([self._track(v) for v in values])

    def _track(self, value):
        return self.tracker.track(value) if self.tracker else value

    def append(self, value):
        super().append(self._track(value))

    def insert(self, index, value):
        super().insert(index, self._track(value))

    def extend(self, values):
        super().extend([self._track(v) for v in values])

    def __iadd__(self, values):
        self.extend(values)
        return self

    def __setitem__(self, index, value):
        super().__setitem__(
            index, [self._track(v) for v in value] if isinstance(index, slice) else self._track(value)
        )

    def remove(self, value):
        super().remove(value)
        self._untrack(value)

    def pop(self, index=-1):
        value = super().pop(index)
        self._untrack(value)
        return value

    def clear(self):
        for value in self:
            self._untrack(value)
        super().clear()

    def __delitem__(self, index):
        self._untrack(self[index])
        super().__delitem__(index)

    def _untrack(self, value):
        if self.tracker:
            self.tracker.untrack(value)

    def __reduce__(self):
        return list, (list(self),)


class TrackedDict(dict):
    """A dict that tells its layer what is put into it."""

    def __init__(self, values=(), tracker=None):
        self.tracker = tracker
        super().__init__()
        self.update(values)

    def _track(self, value):
        return self.tracker.track(value) if self.tracker else value

    def __setitem__(self, key, value):
        super().__setitem__(key, self._track(value))

    def update(self, *args, **kwargs):
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key, default=None):
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key, *default):
        value = super().pop(key, *default)
        if self.tracker:
            self.tracker.untrack(value)
        return value

    def __delitem__(self, key):
        if self.tracker:
            self.tracker.untrack(self[key])
        super().__delitem__(key)

    def clear(self):
        for key in list(self):
            del self[key]

    def __reduce__(self):
        return dict, (dict(self),)


class TrackedOrderedDict(TrackedDict, OrderedDict):
    """An `OrderedDict` that tells its layer what is put into it."""

    def __reduce__(self):
        return OrderedDict, (list(self.items()),)


class TrackedSet(set):
    """A set that tells its layer what is put into it."""

    def __init__(self, values=(), tracker=None):
        self.tracker = tracker
        super().__init__([self._track(v) for v in values])

    def _track(self, value):
        return self.tracker.track(value) if self.tracker else value

    def add(self, value):
        super().add(self._track(value))

    def update(self, *others):
        for values in others:
            for value in values:
                self.add(value)

    def remove(self, value):
        super().remove(value)
        if self.tracker:
            self.tracker.untrack(value)

    def __reduce__(self):
        return set, (list(self),)


_WRAPPERS = {
    list: TrackedList,
    dict: TrackedDict,
    OrderedDict: TrackedOrderedDict,
    set: TrackedSet,
    TrackedList: TrackedList,
    TrackedDict: TrackedDict,
    TrackedOrderedDict: TrackedOrderedDict,
    TrackedSet: TrackedSet,
}
