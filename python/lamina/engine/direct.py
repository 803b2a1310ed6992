"""The direct way from `model(array)` to the engine, on which no Python runs.

A model that has been called knows the engine's function for such calls. It takes it as long as no layer was
edited since, and where a call is plain: not within another one, nor eager, nor redirected.
"""

from lamina._core import DirectCall, edit, edits, is_plain, set_plain

__all__ = ["DirectCall", "edit", "edits", "is_plain", "set_plain"]
