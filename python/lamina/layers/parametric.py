"""The base of every layer whose weights take an initializer, a regularizer and a constraint."""

from lamina import constraints, initializers, ops, regularizers
from lamina.layers.layer import Layer


class ParametricLayer(Layer):
    """Keeps `<name>_initializer`, `<name>_regularizer` and `<name>_constraint` of each weight `<name>`."""

    def _weight_options(self, name, initializer, regularizer=None, constraint=None):
        """Resolve what the user said about the weight `name`: objects, names or configs."""
        setattr(self, f"{name}_initializer", initializers.get(initializer))
        setattr(self, f"{name}_regularizer", regularizers.get(regularizer))
        setattr(self, f"{name}_constraint", constraints.get(constraint))

    def _add_weight(self, name, shape, options=None, **kwargs):
        """Add the weight `name` with its options (or with the options kept under another name)."""
        options = options or name
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=getattr(self, f"{options}_initializer"),
            regularizer=getattr(self, f"{options}_regularizer"),
            constraint=getattr(self, f"{options}_constraint"),
            **kwargs,
        )


class LowRankAdaptation:
    """LoRA for a layer with one main weight `W` (..., in, out): `W + alpha / rank * A @ B` with `W` frozen.

    `A` is (..., in, rank) and `B` is (rank, out), so that only `rank * (in + out)` values train.
    Source: Hu et al., 2021, https://arxiv.org/abs/2106.09685.
    """

    lora_enabled = False

    def _lora_options(self, name, rank, alpha):
        self._lora_weight = name  # "kernel" or "embeddings"; the frozen weight is kept under "_" + name
        self.lora_rank = rank
        self.lora_alpha = rank if alpha is None else alpha

    def _adapted_weight(self):
        name = self._lora_weight
        if not self.built:
            raise AttributeError(
                f"You must build the layer before accessing `{name}`: the input shape of '{self.name}' is "
                "unknown, and so are its weights. Call it on data or use `build(input_shape)`."
            )
        weight = getattr(self, f"_{name}")
        if not self.lora_enabled:
            return weight
        a, b = (getattr(self, f"lora_{name}_{part}") for part in "ab")
        return ops.cast(weight + (self.lora_alpha / self.lora_rank) * ops.matmul(a, b), self.compute_dtype)

    def enable_lora(self, rank, lora_alpha=None, a_initializer="he_uniform", b_initializer="zeros"):
        """Freeze the main weight and train a rank-`rank` correction of it from now on."""
        name = self._lora_weight
        if getattr(self, f"{name}_constraint"):
            raise ValueError(
                f"Lora is incompatible with {name} constraints. In order to enable lora on this layer, "
                f"remove the `{name}_constraint` argument."
            )
        if not self.built:
            raise ValueError("Cannot enable lora on a layer that isn't yet built.")
        if self.lora_enabled:
            raise ValueError("lora is already enabled. This can only be done once per layer.")
        frozen = getattr(self, f"_{name}")
        regularizer = getattr(self, f"{name}_regularizer")
        for part, shape, initializer in (
            ("a", (*frozen.shape[:-1], rank), a_initializer),
            ("b", (rank, frozen.shape[-1]), b_initializer),
        ):
            weight = self._add_state(
                name=f"lora_{name}_{part}",
                shape=shape,
                initializer=initializer,
                regularizer=regularizer,
                dtype="float32",
            )
            setattr(self, f"lora_{name}_{part}", weight)
        frozen.trainable = False
        self._lora_options(name, rank, lora_alpha)
        self.lora_enabled = True

    def get_config(self):
        config = super().get_config()
        if not self.lora_rank:
            config.pop("lora_rank", None)
            config.pop("lora_alpha", None)
        return config
