"""Built-in objects by name: what `get`, `serialize` and `deserialize` of initializers, regularizers and
constraints share.
"""

import inspect

from lamina.engine.naming import to_snake_case


class Family:
    """The built-in classes of one kind under their own name (`HeNormal`), in snake case (`he_normal`) and
    their aliases.
    """

    def __init__(self, kind, classes, aliases=None):
        self.kind = kind
        self.objects = {c.__name__: c for c in classes}
        self.objects.update({to_snake_case(c.__name__): c for c in classes})
        self.objects.update(aliases or {})

    def serialize(self, obj):
        """The configuration of an object as a plain dict."""
        from lamina.saving.serialization import serialize_keras_object

        return serialize_keras_object(obj)

    def deserialize(self, config, custom_objects=None):
        """The object that a configuration (a dict, or a name) describes."""
        from lamina.saving.serialization import deserialize_keras_object

        return deserialize_keras_object(config, custom_objects=custom_objects, module_objects=self.objects)

    def get(self, identifier):
        """The object meant by a name, a configuration, a class, a callable or None; else a ValueError that
        says the nearest name.
        """
        from lamina.saving.registration import get_registered_object

        if identifier is None:
            return None
        found = identifier
        if isinstance(identifier, dict):
            found = self.deserialize(identifier)
        elif isinstance(identifier, str):
            found = get_registered_object(identifier, module_objects=self.objects)
        if inspect.isclass(found):
            found = found()
        if callable(found):
            return found
        raise ValueError(f"Could not interpret {self.kind} identifier: {identifier}.{self.hint(identifier)}")

    def hint(self, identifier):
        """Did you mean ...?"""
        from lamina.errors import did_you_mean

        return did_you_mean(identifier, self.objects) if isinstance(identifier, str) else ""
