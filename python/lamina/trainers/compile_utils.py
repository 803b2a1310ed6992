"""The losses and metrics given to `compile`, matched with the outputs of the model.

Outputs, targets, weights, losses and metrics may each be one thing, a list, or a dict by output name, nested
as the model's output is. Everything is brought to one flat list in the order of the outputs; the rest is
loops over it.
"""

from lamina import config, losses, ops, tree
from lamina import metrics as metrics_module
from lamina.errors import ShapeError, did_you_mean


class Outputs:
    """The outputs of a model as a flat list: `names` (None where unknown) and `paths` in the nested output.

    Args:
        structure: what the model returned.
        output_names: names of a functional model's outputs, or None.
    """

    def __init__(self, structure, output_names=None):
        self.structure = structure
        self.paths = [path for path, _ in tree.flatten_with_path(structure)]
        self.count = len(self.paths)
        self.is_flat = tree.is_nested(structure) and all(len(path) == 1 for path in self.paths)
        names = list(output_names or ())
        if self.is_flat and isinstance(structure, dict):
            keys = [path[0] for path in self.paths]
            if set(names) == set(keys):  # the model's own order
                self.paths = [(name,) for name in names]
            else:
                names = keys
        self.names = names if len(names) == self.count else [None] * self.count

    def flatten(self, nested):
        """The leaves of something nested as the outputs are, or with the same leaves in other containers."""
        leaves = dict(tree.flatten_with_path(nested))
        if leaves.keys() != set(self.paths):
            named = isinstance(nested, dict) and set(nested) == set(self.names)
            return [nested[name] for name in self.names] if named else list(leaves.values())
        return [leaves[path] for path in self.paths]

    def align(self, value, needed=None):
        """`value` (targets or weights) as a flat list, None where an output has none; `None` when it does not
        fit.

        A dict may go by output name; a list may leave out the outputs that are not `needed`.
        """
        if isinstance(value, dict) and not isinstance(self.structure, dict) and set(value) <= set(self.names):
            return [value.get(name) for name in self.names]
        leaves = dict(tree.flatten_with_path(value))
        if isinstance(value, dict) and isinstance(self.structure, dict):
            if not set(leaves) <= set(self.paths):
                return None
            return [leaves.get(path) for path in self.paths]
        flat = list(leaves.values())
        if len(flat) == self.count:
            return flat
        if needed is not None and len(flat) == sum(needed):
            given = iter(flat)
            return [next(given) if wanted else None for wanted in needed]
        return None

    def describe(self):
        """The outputs in words."""
        return ", ".join(
            str(name or "/".join(map(str, path)) or "output")
            for name, path in zip(self.names, self.paths, strict=True)
        )


def _refuse_none(y_pred):
    if y_pred is None:
        raise ValueError(
            "The model's `call` returned None, and there is nothing to compare with targets. "
            "Does it end without `return`?"
        )


def is_binary_or_sparse_categorical(y_true, y_pred):
    """From the shapes alone: one column of 0 and 1? class indices against one column per class?"""
    last = y_pred.shape[-1]
    sparse = len(y_true.shape) < len(y_pred.shape) or (
        y_true.shape[-1] == 1 and last is not None and last > 1
    )
    return last == 1, sparse


def _by_shape(binary, sparse, dense, y_true, y_pred):
    is_binary, is_sparse = is_binary_or_sparse_categorical(y_true, y_pred)
    return binary if is_binary else sparse if is_sparse else dense


def resolve_loss(identifier, y_true, y_pred):
    """A `Loss` from what `compile` was given; "crossentropy" is decided by the shapes."""
    if str(identifier).lower() in ("crossentropy", "ce"):
        found = _by_shape(
            losses.binary_crossentropy,
            losses.sparse_categorical_crossentropy,
            losses.categorical_crossentropy,
            y_true,
            y_pred,
        )
    else:
        found = losses.get(identifier)
    if isinstance(found, losses.Loss):
        return found
    return losses.LossFunctionWrapper(found, name=identifier if isinstance(identifier, str) else _name(found))


def resolve_metric(identifier, y_true, y_pred):
    """A `Metric` from what `compile` was given; "accuracy" is decided by the shapes."""
    if identifier is None:
        raise ValueError("Expected metric, received `None`")
    if str(identifier).lower() in ("accuracy", "acc"):
        found = _by_shape(
            metrics_module.BinaryAccuracy,
            metrics_module.SparseCategoricalAccuracy,
            metrics_module.CategoricalAccuracy,
            y_true,
            y_pred,
        )(name=str(identifier))
    else:
        found = metrics_module.get(identifier)
    name = identifier if isinstance(identifier, str) else _name(found)
    if not isinstance(found, metrics_module.Metric):
        return metrics_module.MeanMetricWrapper(found, name=name)
    found.name = name
    return found


def _name(found):
    from lamina.engine.naming import to_snake_case

    return getattr(found, "name", None) or to_snake_case(getattr(found, "__name__", type(found).__name__))


def batch_count(x):
    """Samples in a batch: an int, or a float32 scalar while a trace leaves the batch axis open."""
    leaf = next(leaf for leaf in tree.flatten(x) if leaf is not None)
    if leaf.shape[0] is not None:
        return leaf.shape[0]
    column = leaf[(slice(None), *(0,) * (len(leaf.shape) - 1))]
    return ops.sum(ops.ones_like(column, dtype="float32"))


class CompileLoss:
    """The total of the losses given to `compile`, and a running mean of each when there are several.

    Args:
        loss: a loss, or a list or dict of them, one per output; None for an output without.
        loss_weights: factors, likewise.
        output_names: the names of the model's outputs.
    """

    def __init__(self, loss, loss_weights=None, output_names=None):
        if loss_weights is not None and not isinstance(loss_weights, (list, tuple, dict, int, float)):
            raise ValueError(
                "Expected `loss_weights` argument to be a float (single output case) or a list, tuple, or "
                f"dict (multiple output case). Received instead: loss_weights={loss_weights} of type "
                f"{type(loss_weights)}"
            )
        for leaf in tree.flatten(loss):
            if isinstance(leaf, str) and leaf.lower() not in ("crossentropy", "ce"):
                losses.get(leaf)  # a misspelt name is an error now, not at the first batch
        self.name = "compile_loss"
        self.metrics = []
        self.built = False
        self._loss, self._weights, self._output_names = loss, loss_weights, output_names

    @property
    def variables(self):
        return [v for metric in self.metrics for v in metric.variables]

    @property
    def resolved(self):
        """The losses in use: (index of the output, `Loss`, shape of that output)."""
        return [(index, loss, self._shapes[index]) for index, loss, _, _ in self._terms]

    def output_name(self, index):
        """The name of an output, which is that of its layer; `None` where it has none."""
        return self._outputs.names[index]

    def build(self, y_true, y_pred):
        """Resolves names, which may depend on the shapes."""
        _refuse_none(y_pred)
        self._outputs = outputs = Outputs(y_pred, self._output_names)
        entries = list(self._spread(self._loss, y_pred, ()))
        weights = self._match_weights(entries)
        flat_pred = outputs.flatten(y_pred)
        self._needed = [
            any(i == index and loss is not None for i, loss in entries) for index in range(outputs.count)
        ]
        self._shapes = [tuple(p.shape) for p in flat_pred]
        targets = self.targets(y_true)
        self._terms = []
        for (index, loss), weight in zip(entries, weights, strict=True):
            if loss is not None:
                resolved = resolve_loss(loss, targets[index], flat_pred[index])
                self._terms.append((index, resolved, weight, self._term_name(index, resolved)))
        if len(self._terms) > 1:
            used = {}
            for _, _, _, name in self._terms:
                used[name] = used.get(name, -1) + 1
                self.metrics.append(
                    metrics_module.Mean(name=f"{name}_{used[name]}_loss" if used[name] else f"{name}_loss")
                )
        self.built = True

    def _spread(self, loss, node, path):
        """(index of the output, loss) for each loss given."""
        outputs = self._outputs
        if not tree.is_nested(loss):
            for index, leaf_path in enumerate(outputs.paths):
                if leaf_path[: len(path)] == path:
                    yield index, loss
        elif isinstance(loss, dict):
            if not path and not isinstance(node, dict):
                if set(loss) != set(outputs.names):
                    raise ValueError(
                        f"Expected keys {outputs.names} in loss dict, but found loss.keys()={list(loss)}"
                    )
                yield from ((index, loss[name]) for index, name in enumerate(outputs.names))
                return
            for key, inner in sorted(loss.items()):
                if not isinstance(node, dict) or key not in node:
                    hint = did_you_mean(key, node) if isinstance(node, dict) and isinstance(key, str) else ""
                    raise KeyError(
                        f"The path: {(*path, key)} in the `loss` argument, can't be found in the model's "
                        f"output (`y_pred`), which has: {outputs.describe()}.{hint}"
                    )
                yield from self._spread(inner, node[key], (*path, key))
        else:
            leaves = [p for p in outputs.paths if p[: len(path)] == path]
            if not any(map(tree.is_nested, loss)) and len(loss) == len(leaves):
                yield from ((outputs.paths.index(p), inner) for p, inner in zip(leaves, loss, strict=True))
            elif not tree.is_nested(node):  # several losses on one output are added up
                for inner in loss:
                    yield from self._spread(inner, node, path)
            elif isinstance(node, (list, tuple)) and len(node) == len(loss):
                for key, inner in enumerate(loss):
                    yield from self._spread(inner, node[key], (*path, key))
            else:
                raise ValueError(
                    f"The `loss` argument has {len(loss)} entries, but the model has {len(leaves)} outputs: "
                    f"{outputs.describe()}. Give one loss for all, or one per output (None for no loss)."
                )

    def _match_weights(self, entries):
        weights, names = self._weights, [self._outputs.names[index] for index, _ in entries]
        if weights is None:
            return [None] * len(entries)
        if isinstance(weights, dict) and set(weights) <= set(names):
            return [weights.get(name) for name in names]
        flat = tree.flatten(weights)
        if len(flat) != len(entries):
            raise ValueError(
                f"`loss_weights` must match the number of losses, got {len(entries)} losses and "
                f"{len(flat)} weights."
            )
        return flat

    def _term_name(self, index, loss):
        path, name = self._outputs.paths[index], self._outputs.names[index] or loss.name
        if not path or isinstance(path[-1], int):
            path = (*path[:-1], name)
        return "/".join(map(str, path))

    def targets(self, y_true):
        """`y_true` as a flat list, one per output; None for an output without a loss."""
        targets = self._outputs.align(y_true, self._needed)
        missing = targets is None or any(n and t is None for n, t in zip(self._needed, targets, strict=True))
        if missing and y_true is None:
            raise ValueError(
                f"The loss {self._loss!r} compares outputs with targets, but no targets were given: pass `y`."
            )
        if missing:
            raise ValueError(
                "y_true and y_pred have different structures.\n"
                f"y_true: {tree.map_structure(lambda _: '*', y_true)}\n"
                f"y_pred: {tree.map_structure(lambda _: '*', self._outputs.structure)}\n"
                f"The model's outputs are: {self._outputs.describe()}. Pass one array of targets for each "
                "of them."
            )
        return targets

    def __call__(self, y_true, y_pred, sample_weight=None):
        """The weighted sum of the losses, or None without any. Updates their means."""
        if not self.built:
            self.build(y_true, y_pred)
        outputs = self._outputs
        targets, predictions = self.targets(y_true), outputs.flatten(y_pred)
        weights = align_weights(outputs, sample_weight, self._needed)
        total = None
        for position, (index, loss, factor, _) in enumerate(self._terms):
            try:
                value = loss(targets[index], predictions[index], weights[index])
            except ShapeError as e:
                e.layer = e.layer or outputs.names[index]  # an output has the name of its layer
                raise
            value = ops.cast(value, config.floatx())
            if self.metrics:  # unweighted, as the user thinks of it
                self.metrics[position].update_state(value, sample_weight=batch_count(predictions[index]))
            if factor is not None:
                value = value * factor
            total = value if total is None else total + value
        return total


def align_weights(outputs, sample_weight, needed=None):
    """One sample weight per output: a single one stands for all."""
    if sample_weight is None or not tree.is_nested(sample_weight):
        return [sample_weight] * outputs.count
    weights = outputs.align(sample_weight, needed)
    if weights is None and len(tree.flatten(sample_weight)) == 1:
        weights = tree.flatten(sample_weight) * outputs.count
    if weights is None:
        raise ValueError(
            f"`sample_weight` has {len(tree.flatten(sample_weight))} arrays, but the model has "
            f"{outputs.count} outputs: "
            f"{outputs.describe()}. Pass one array for all, or one per output."
        )
    return weights


class CompileMetrics:
    """The metrics given to `compile`, one list per output; behaves as one `Metric` whose result is a dict.

    Args:
        metrics: a list for a single output; for several a list or dict with one entry (a metric or a
            list) per output.
        weighted_metrics: likewise, for metrics that get the sample weights.
        output_names: the names of the model's outputs.
    """

    def __init__(self, metrics, weighted_metrics, name="compile_metrics", output_names=None):
        for argument, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value and not isinstance(value, (list, tuple, dict)):
                raise ValueError(
                    f"Expected `{argument}` argument to be a list, tuple, or dict. "
                    f"Received instead: {argument}={value} of type {type(value)}"
                )
            for leaf in tree.flatten(value):
                if isinstance(leaf, str) and leaf.lower() not in ("accuracy", "acc"):
                    metrics_module.get(leaf)
        self.name = name
        self.built = False
        self._user = {"metrics": metrics, "weighted_metrics": weighted_metrics}
        self._output_names = output_names

    @property
    def metrics(self):
        """All `Metric`s, those without sample weights first."""
        return [m for _, m, _ in self._terms] if self.built else []

    @property
    def variables(self):
        return [v for metric in self.metrics for v in metric.variables]

    def build(self, y_true, y_pred):
        """Resolves names, which may depend on the shapes."""
        _refuse_none(y_pred)
        self._outputs = Outputs(y_pred, self._output_names)
        given = [m for value in self._user.values() for m in tree.flatten(value) if m is not None]
        targets = self._targets(y_true) if given else []
        predictions = self._outputs.flatten(y_pred)
        self._terms = []  # (index of the output, metric, is it weighted)
        for argument in self._user:
            for index, identifiers in enumerate(self._per_output(argument)):
                for identifier in identifiers:
                    metric = resolve_metric(identifier, targets[index], predictions[index])
                    self._terms.append((index, metric, argument == "weighted_metrics"))
        self.built = True

    def _per_output(self, argument):
        """A list of metrics for each output."""
        value, outputs = self._user[argument], self._outputs
        if not value:
            return [[]] * outputs.count
        if outputs.count == 1:
            return [[m for m in tree.flatten(value) if m is not None]]
        entries = None
        if outputs.is_flat and not isinstance(value, dict) and len(value) == outputs.count:
            entries = list(value)
        elif outputs.is_flat and isinstance(value, dict) and set(value) <= set(outputs.names):
            entries = [value.get(name) for name in outputs.names]
        else:
            try:
                shallow = tree.lists_to_tuples(outputs.structure)
                found = tree.map_structure_up_to(shallow, _Box, tree.lists_to_tuples(value))
                entries = [box.value for box in outputs.flatten(found)]
            except ValueError:
                pass
        if entries is None:
            keys = [key for key in value if key not in outputs.names] if isinstance(value, dict) else []
            hint = (
                did_you_mean(keys[0], [n for n in outputs.names if n])
                if keys and isinstance(keys[0], str)
                else ""
            )
            raise ValueError(
                f"Invalid `{argument}`. `{argument}` should be a dict or a list matching the outputs of "
                f"the model: {outputs.describe()}, with a metric or a list of metrics for each.\n"
                f"Received: {argument}={value}{hint}"
            )
        return [[m for m in tree.flatten(entry) if m is not None] for entry in entries]

    def _targets(self, y_true):
        targets = self._outputs.align(y_true)
        if targets is None:
            raise ValueError(
                f"The metrics need targets for the outputs {self._outputs.describe()}, but `y` has "
                f"{len(tree.flatten(y_true))} arrays."
            )
        return targets

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch."""
        if not self.built:
            self.build(y_true, y_pred)
        if not self._terms:
            return
        targets, predictions = self._targets(y_true), self._outputs.flatten(y_pred)
        weights = align_weights(self._outputs, sample_weight)
        for index, metric, weighted in self._terms:
            if targets[index] is None:
                raise ValueError(
                    f"The metric {metric.name!r} needs targets for output {self._outputs.names[index]!r}."
                )
            metric.update_state(targets[index], predictions[index], weights[index] if weighted else None)

    def reset_state(self):
        for metric in self.metrics:
            metric.reset_state()

    def result(self):
        """A dict from names to values; with several outputs, the names begin with the output's."""
        if not self.built:
            raise ValueError("Cannot get result() since the metric has not yet been built.")
        results, used = {}, {}
        for index, metric, weighted in self._terms:
            output = self._outputs.names[index] if self._outputs.count > 1 else None
            name = f"{output}_{metric.name}" if output else metric.name
            if weighted and name in used:
                name = f"{output}_weighted_{metric.name}" if output else f"weighted_{metric.name}"
            used[name] = used.get(name, -1) + 1
            results[f"{name}_{used[name]}" if used[name] else name] = metric.result()
        return results


class _Box:
    """Keeps a list of metrics from being walked into."""

    def __init__(self, value):
        self.value = value
