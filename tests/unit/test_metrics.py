"""Metrics by themselves: state, tracing with an unknown batch, nesting, stateless use."""

import numpy as np
import pytest

import lamina
from lamina import metrics, ops
from lamina.engine.trace import compile_function


def test_call_updates_and_returns():
    m = metrics.Mean()
    assert float(m([1.0, 3.0])) == 2.0
    assert float(m(5.0)) == 3.0
    m.reset_state()
    assert float(m.result()) == 0.0


def test_accuracy_counts():
    m = metrics.SparseCategoricalAccuracy()
    m.update_state([[0], [1], [1]], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    assert float(m.result()) == pytest.approx(2 / 3)
    assert [v.path for v in m.variables] == [
        "sparse_categorical_accuracy/total",
        "sparse_categorical_accuracy/count",
    ]


CASES = {
    "Mean": lambda rng, n: (rng.normal(size=(n, 3)),),
    "CategoricalAccuracy": lambda rng, n: (np.eye(4)[rng.integers(0, 4, n)], rng.normal(size=(n, 4))),
    "SparseCategoricalAccuracy": lambda rng, n: (rng.integers(0, 4, n), rng.normal(size=(n, 4))),
    "SparseTopKCategoricalAccuracy": lambda rng, n: (rng.integers(0, 9, n), rng.normal(size=(n, 9))),
    "BinaryAccuracy": lambda rng, n: (rng.integers(0, 2, (n, 1)), rng.uniform(size=(n, 1))),
    "RootMeanSquaredError": lambda rng, n: (rng.normal(size=(n, 2)), rng.normal(size=(n, 2))),
    "AUC": lambda rng, n: (rng.integers(0, 2, n), rng.uniform(size=n)),
    "Precision": lambda rng, n: (rng.integers(0, 2, n), rng.uniform(size=n)),
    "R2Score": lambda rng, n: (rng.normal(size=(n, 2)), rng.normal(size=(n, 2))),
    "F1Score": lambda rng, n: (np.eye(4)[rng.integers(0, 4, n)], rng.uniform(size=(n, 4))),
    "BinaryIoU": lambda rng, n: (rng.integers(0, 2, n), rng.uniform(size=n)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_traced_with_unknown_batch(name, weighted, rng):
    """One trace serves every batch size; state lives in variables that the compiled function updates."""
    kwargs = {"average": "macro"} if name == "F1Score" else {}
    one, other, traces = getattr(metrics, name)(**kwargs), getattr(metrics, name)(**kwargs), []
    for m in (one, other):  # variables that depend on the data are made outside of a trace
        m.update_state(*CASES[name](np.random.default_rng(0), 4))

    def fn(*args, **_):
        traces.append(1)
        *args, w = args
        other.update_state(*args, sample_weight=w)
        return other.result()

    compiled = compile_function(fn)
    for n in (5, 3, 8):
        batch = [b.astype("float32") if b.dtype == "float64" else b for b in CASES[name](rng, n)]
        w = None
        if weighted:
            w = rng.integers(0, 3, n).astype("int32" if name == "BinaryIoU" else "float32")
        one.update_state(*batch, sample_weight=w)
        assert float(compiled(*batch, w)) == pytest.approx(float(one.result()), rel=1e-5)
    assert traces == [1]


def test_empty_batch():
    m = metrics.MeanSquaredError()
    m.update_state(np.ones((2, 1)), np.zeros((2, 1)))
    m.update_state(np.ones((0, 1)), np.zeros((0, 1)))
    assert float(m.result()) == 1.0


def test_custom_metric_and_nesting():
    class Spread(metrics.Metric):
        def __init__(self, name="spread", **kwargs):
            super().__init__(name=name, **kwargs)
            self.seen = self.add_weight(name="seen")
            self.parts = [metrics.Mean(name="low"), metrics.Mean(name="high")]

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.seen.assign_add(1.0)
            self.parts[0].update_state(ops.min(y_pred))
            self.parts[1].update_state(ops.max(y_pred))

        def result(self):
            return {"spread": self.parts[1].result() - self.parts[0].result()}

    m = Spread()
    assert [v.name for v in m.variables] == ["seen", "total", "count", "total", "count"]
    assert float(m(None, np.array([1.0, 4.0]))["spread"]) == 3.0
    m.reset_state()
    assert not any(v.numpy() for v in m.variables)


def test_merge_state():
    a, b = metrics.Mean(), metrics.Mean()
    a.update_state([1.0, 2.0])
    b.update_state([6.0])
    a.merge_state([b])
    assert float(a.result()) == 3.0
    with pytest.raises(ValueError, match="variables differ"):
        a.merge_state([metrics.Sum()])


def test_stateless():
    m = metrics.Mean()
    m.update_state([1.0])
    state = m.stateless_update_state([np.float32(4.0), np.float32(2.0)], [6.0])
    assert [float(s) for s in state] == [10.0, 3.0]
    assert float(m.stateless_result(state)) == pytest.approx(10 / 3)
    assert [float(s) for s in m.stateless_reset_state()] == [0.0, 0.0]
    assert float(m.result()) == 1.0
    with pytest.raises(ValueError, match="1:1"):
        m.stateless_result([0.0])


def test_wrapped_function_and_its_config():
    m = metrics.MeanMetricWrapper(lamina.losses.huber, name="h", delta=0.5)
    m.update_state([[0.0]], [[2.0]])
    again = metrics.MeanMetricWrapper.from_config(m.get_config())
    again.update_state([[0.0]], [[2.0]])
    assert float(again.result()) == float(m.result()) == pytest.approx(0.875)
    assert m._direction == "down"


def test_labels_and_scores_of_sequences(rng):
    y, p = rng.integers(0, 3, (4, 5)), rng.normal(size=(4, 5, 3)).astype("float32")
    expected = (p.argmax(-1) == y).mean()
    for labels in (y, y[..., None]):
        assert float(metrics.SparseCategoricalAccuracy()(labels, p)) == pytest.approx(expected)
    assert float(metrics.CategoricalAccuracy()(np.eye(3)[y], p)) == pytest.approx(expected)


def test_segmentation_sized_auc(rng):
    """Even thresholds take memory for the predictions, not for each pair of prediction and threshold."""
    y, p = rng.integers(0, 2, 400_000), rng.uniform(size=400_000).astype("float32")
    m = metrics.AUC()
    m.update_state(y, p)
    assert float(m.result()) == pytest.approx(0.5, abs=0.01)


def test_r2_with_too_few_samples():
    m = metrics.R2Score(num_regressors=5)
    m.update_state(np.arange(4.0)[:, None], np.arange(4.0)[:, None])
    with pytest.warns(UserWarning, match="Falling back"):
        assert float(m.result()) == pytest.approx(1.0)


def test_bad_arguments():
    for make in (
        lambda: metrics.Precision(thresholds=[0.5, 2.0]),
        lambda: metrics.AUC(curve="XYZ"),
        lambda: metrics.AUC(num_thresholds=1),
        lambda: metrics.AUC(num_labels=3),
        lambda: metrics.AUC(summation_method="x"),
        lambda: metrics.FBetaScore(beta=1),
        lambda: metrics.F1Score(average="mean"),
        lambda: metrics.IoU(num_classes=2, target_class_ids=[2]),
        lambda: metrics.R2Score(class_aggregation="x"),
        lambda: metrics.RecallAtPrecision(1.2),
        lambda: metrics.F1Score().update_state(np.ones(3), np.ones(3)),
        lambda: metrics.AUC(multi_label=True).update_state(np.ones(3), np.ones(3)),
    ):
        with pytest.raises(ValueError):
            make()


def test_forgotten_super():
    class Forgetful(metrics.Metric):
        def __init__(self):
            self.total = self.add_variable((), "zeros")

    with pytest.raises(RuntimeError, match="super"):
        Forgetful()


def test_get():
    assert metrics.get(None) is None
    assert isinstance(metrics.get("auc"), metrics.AUC)
    assert isinstance(metrics.get(metrics.AUC), metrics.AUC)
    assert metrics.get({"class_name": "AUC", "config": {"num_thresholds": 5}}).num_thresholds == 5
