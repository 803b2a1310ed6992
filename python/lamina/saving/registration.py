"""Names for users' classes and functions, so that configurations can refer to them."""

import inspect
import threading

_objects = {}  # registered name -> class or function
_names = {}  # class or function -> registered name
_scoped = threading.local()  # .objects: what the open CustomObjectScopes provide


class CustomObjectScope:
    """Inside, configurations may refer to these objects.

        with lamina.saving.custom_object_scope({"MyLayer": MyLayer}):
            model = lamina.Sequential.from_config(config)

    Args:
        custom_objects: dict from names to classes and functions.
    """

    def __init__(self, custom_objects=None):
        self.custom_objects = dict(custom_objects or {})

    def __enter__(self):
        self._outer = scoped_objects()
        _scoped.objects = {**self._outer, **self.custom_objects}
        return self

    def __exit__(self, *_):
        _scoped.objects = self._outer


custom_object_scope = CustomObjectScope


def scoped_objects():
    """What the open scopes provide."""
    return getattr(_scoped, "objects", {})


def get_custom_objects():
    """The dict of all registered objects; it may be changed."""
    return _objects


def register_keras_serializable(package="Custom", name=None):
    """A decorator that registers a class or function as `package>name`; configurations may then refer to it.

        @lamina.saving.register_keras_serializable("my_package")
        class MyDense(lamina.layers.Dense):
            ...

    Raises `ValueError` for a class without `get_config`.
    """

    def decorator(obj):
        if inspect.isclass(obj) and not hasattr(obj, "get_config"):
            raise ValueError("Cannot register a class that does not have a get_config() method.")
        registered = f"{package}>{name if name is not None else obj.__name__}"
        _objects[registered] = obj
        _names[obj] = registered
        return obj

    return decorator


def get_registered_name(obj):
    """The name under which `obj` is registered, else its own."""
    return _names.get(obj, getattr(obj, "__name__", None))


def get_registered_object(name, custom_objects=None, module_objects=None):
    """What `name` refers to: in the open scopes, the registry, `custom_objects`, `module_objects`.

    Else `None`.
    """
    for known in (scoped_objects(), _objects, custom_objects or {}, module_objects or {}):
        if name in known:
            return known[name]
    return None
