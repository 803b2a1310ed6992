"""Tracebacks and warnings that point at the user's own line, not at frames of lamina.

An error is shortened where it leaves lamina: in a handler `except Exception as e: shorten(e); raise` around
what a user calls. That costs nothing while nothing is raised, and a bare `raise` adds no frame of its own.
`lamina.config.disable_traceback_filtering()` keeps every frame.
"""

import functools
import inspect
import os
import sys
import warnings

from lamina import config
from lamina.errors import LEGACY_NAMES, did_you_mean

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep


def shorten(error):
    """Takes lamina's frames out of the traceback of `error`, and of the errors that led to it."""
    if not config.is_traceback_filtering_enabled():
        return
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = _without_ours(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _without_ours(traceback):
    """The frames that are not lamina's; what lamina calls in the standard library is hidden with it."""
    first = last = None
    hidden = False
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        hidden = file.startswith(_PACKAGE) or (hidden and _is_standard(file))
        if not hidden:
            if last is None:
                first = traceback
            else:
                last.tb_next = traceback
            last = traceback
        traceback = traceback.tb_next
    if last is not None:
        last.tb_next = None
    return first


def _is_standard(file):
    return file.startswith((_STANDARD_LIBRARY, "<frozen")) and "-packages" + os.sep not in file


def boundary(function):
    """A function that a user calls: its errors are shortened, a keyword of Keras 1 is taken with a note, and
    a misspelt one gets its likely name.
    """

    ours = (getattr(function, "__module__", None) or "").startswith("lamina.")

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if kwargs and ours and not LEGACY_NAMES.keys().isdisjoint(kwargs):
            kwargs = _modern(function, kwargs)
        try:
            return function(*args, **kwargs)
        except Exception as e:
            explain_binding(e, function, args, kwargs)
            shorten(e)
            raise

    return wrapper


def _modern(function, kwargs):
    """`kwargs` with the names, and values, that Keras 1's have today."""
    known, renamed = inspect.signature(function).parameters, {}
    for name, value in kwargs.items():
        today = LEGACY_NAMES.get(name)
        if name not in known and today in known and today not in kwargs:
            warn(f"`{name}` is the legacy name of `{today}`, and it works. In new code, write `{today}=`.")
            if today == "data_format":
                value = {"tf": "channels_last", "th": "channels_first"}.get(value, value)
            name = today
        renamed[name] = value
    return renamed


def explain_binding(error, function, args, kwargs):
    """Adds the likely name to Python's message about a keyword that `function` does not take."""
    if type(error) is not TypeError or error.__traceback__.tb_next is not None:
        return  # the body was reached
    name, functions = function.__name__, [function]
    if name == "__init__":  # the keywords of the classes that it inherits from count too
        name, functions = type(args[0]).__name__, [vars(c).get(name) for c in type(args[0]).__mro__[:-1]]
    elif args and "." in function.__qualname__:  # the user's class, not the mixin that has the method
        name = f"{type(args[0]).__name__}.{name}"
    names = [n for f in functions if f is not None for n in inspect.signature(f).parameters]
    known = [n for n in dict.fromkeys(names) if n not in ("self", "args", "kwargs")]
    unknown = [k for k in kwargs if k not in known]
    if not unknown:
        return
    hint = did_you_mean(unknown[0], known)
    error.args = (f"{name}() got an unexpected keyword argument '{unknown[0]}'.{hint}",)


class UserMade:
    """Base of what a user makes by class name, such as losses: errors of constructors are shortened too."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = boundary(cls.__init__)


def warn(message, category=UserWarning):
    """A warning at the line of the user's that led here."""
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
