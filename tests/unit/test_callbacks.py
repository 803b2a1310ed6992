"""Callbacks: when they are called, with what, and what they do."""

import csv
import warnings

import numpy as np
import pytest

import lamina
from lamina import callbacks, layers

X = np.linspace(-1, 1, 24, dtype="float32").reshape(12, 2)
Y = X.sum(axis=1, keepdims=True)
HOOKS = callbacks.callback.HOOKS


def model(rate=0.1, **compiled):
    net = lamina.Sequential([lamina.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
    net.compile(lamina.optimizers.SGD(rate), loss="mse", **compiled)
    return net


def fit(net, *using, epochs=1, **options):
    return net.fit(X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=list(using), **options)


class Recorder(callbacks.Callback):
    """Notes every call as (hook, index, names of the logs)."""

    def __init__(self):
        super().__init__()
        self.events = []
        for hook in HOOKS:
            setattr(self, hook, self._noting(hook))

    def _noting(self, hook):
        def note(*args):
            logs = args[-1]
            self.events.append((hook, *args[:-1], sorted(logs)))

        return note

    def hooks(self):
        return [event[0] for event in self.events]


def test_hooks_of_fit_are_called_in_order():
    recorder = Recorder()
    fit(model(), recorder, validation_data=(X[:4], Y[:4]))
    assert recorder.hooks() == [
        "on_train_begin",
        "on_epoch_begin",
        *["on_train_batch_begin", "on_train_batch_end"] * 3,
        "on_test_begin",
        *["on_test_batch_begin", "on_test_batch_end"],
        "on_test_end",
        "on_epoch_end",
        "on_train_end",
    ]
    assert ("on_train_batch_end", 2, ["loss"]) in recorder.events
    assert ("on_epoch_end", 0, ["loss", "val_loss"]) in recorder.events


def test_hooks_of_evaluate_and_predict():
    recorder, net = Recorder(), model()
    net.evaluate(X, Y, batch_size=6, verbose=0, callbacks=[recorder])
    net.predict(X, batch_size=6, verbose=0, callbacks=[recorder])
    assert recorder.hooks() == [
        "on_test_begin",
        *["on_test_batch_begin", "on_test_batch_end"] * 2,
        "on_test_end",
        "on_predict_begin",
        *["on_predict_batch_begin", "on_predict_batch_end"] * 2,
        "on_predict_end",
    ]
    assert ("on_predict_batch_end", 1, ["outputs"]) in recorder.events


def test_the_older_batch_names_are_called():
    class Older(callbacks.Callback):
        seen = ()

        def on_batch_begin(self, batch, logs=None):
            self.seen += (("begin", batch),)

        def on_batch_end(self, batch, logs=None):
            self.seen += (("end", batch),)

    older = Older()
    fit(model(), older)
    assert older.seen == tuple((when, i) for i in range(3) for when in ("begin", "end"))


def test_steps_per_execution_spaces_batch_hooks():
    recorder = Recorder()
    fit(model(steps_per_execution=2), recorder)
    batches = [event[:2] for event in recorder.events if "batch" in event[0]]
    assert batches == [
        ("on_train_batch_begin", 0),
        ("on_train_batch_end", 1),
        ("on_train_batch_begin", 2),
        ("on_train_batch_end", 3),
    ]
    outputs = []
    net = model(steps_per_execution=2)
    recorder = callbacks.LambdaCallback(
        on_predict_batch_end=lambda batch, logs: outputs.append((batch, len(logs["outputs"])))
    )
    assert net.predict(X, batch_size=4, verbose=0, callbacks=[recorder]).shape == (12, 1)
    assert outputs == [(1, 8), (3, 4)]


def test_callbacks_know_the_model_and_the_run():
    recorder, net = Recorder(), model()
    fit(net, recorder, epochs=2)
    assert recorder.model is net
    assert recorder.params == {"verbose": 0, "epochs": 2, "steps": 3}


def test_logs_are_python_floats():
    seen = []
    fit(model(), callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"])))
    assert [type(value) for value in seen] == [float] * 3


def test_no_hook_costs_no_conversion(monkeypatch):
    converted = []
    original = callbacks.callback.pythonify_logs
    monkeypatch.setattr(
        callbacks.callback, "pythonify_logs", lambda logs: converted.append(logs) or original(logs)
    )
    fit(model())
    # epoch end and train end, for `History`; nothing for the three batches.
    assert len([logs for logs in converted if logs]) <= 2


def test_stop_training_stops_after_the_batch_and_still_ends_the_epoch():
    net = model()

    def stop(batch, logs):
        net.stop_training = batch == 1

    recorder = Recorder()
    history = fit(net, callbacks.LambdaCallback(on_train_batch_end=stop), recorder, epochs=3)
    assert history.epoch == [0]
    assert recorder.hooks().count("on_train_batch_end") == 2
    assert recorder.hooks()[-2:] == ["on_epoch_end", "on_train_end"]


def test_history_is_returned_kept_and_reused():
    net = model()
    history = fit(net, epochs=2)
    assert net.history is history
    assert len(history.history["loss"]) == 2
    again = fit(net, history, epochs=1)
    assert again is history
    assert len(history.history["loss"]) == 3


def test_history_counts_from_the_initial_epoch():
    assert fit(model(), epochs=5, initial_epoch=3).epoch == [3, 4]


def test_something_else_among_callbacks_is_refused():
    with pytest.raises(TypeError, match="Callback"):
        fit(model(), "early stopping")


# -------------------------------------------------------------------------------------------- early
# stopping


def feed(callback, values, net=None, monitor="val_loss"):
    """Shows `values` to a callback, one per epoch, and returns the epoch at which training was stopped (None:
    never).
    """
    net = net or model()
    net.stop_training = False
    callback.set_model(net)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {monitor: value})
        if net.stop_training:
            return epoch
    return None


@pytest.mark.parametrize(
    ("options", "values", "stopped"),
    [
        ({}, [1.0, 0.9, 0.95, 0.8], 2),
        ({"patience": 2}, [1.0, 0.9, 0.95, 0.93, 0.8], 3),
        ({"patience": 2}, [1.0, 1.1, 0.9, 1.0, 0.8, 0.7], None),
        ({"min_delta": 0.2}, [1.0, 0.9], 1),
        ({"mode": "max"}, [1.0, 1.1, 1.05], 2),
        ({"baseline": 0.5, "patience": 3}, [1.0, 0.9, 0.95], 2),
        ({"start_from_epoch": 3}, [1.0, 2.0, 3.0, 1.0, 1.1], 4),
        ({"patience": 1}, [float("nan"), float("nan"), float("nan")], 1),
    ],
)
def test_early_stopping(options, values, stopped):
    assert feed(callbacks.EarlyStopping(**options), values) == stopped


def test_early_stopping_restores_the_best_weights():
    net = model(rate=-1.0)  # climbs: the first epoch is the best
    before = None

    def keep(epoch, logs):
        nonlocal before
        if epoch == 0:
            before = net.get_weights()

    stopping = callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    history = fit(net, stopping, callbacks.LambdaCallback(on_epoch_end=keep), epochs=9)
    assert history.epoch == [0, 1]
    for now, best in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, best)


def test_early_stopping_takes_the_direction_from_the_metric():
    net = model(metrics=["accuracy"])
    fit(net)
    assert feed(callbacks.EarlyStopping("val_accuracy"), [0.5, 0.6, 0.55], net, "val_accuracy") == 2


def test_an_unknown_direction_and_an_unknown_monitor_say_so():
    with pytest.raises(ValueError, match="mode='max'"):
        feed(callbacks.EarlyStopping("speed"), [1.0], monitor="speed")
    with pytest.warns(UserWarning, match="`val_loss` which is not available.*loss"):
        fit(model(), callbacks.EarlyStopping())
    with pytest.warns(UserWarning, match="mode 'least' is unknown"):
        callbacks.EarlyStopping(mode="least")


# ----------------------------------------------------------------------------------------- learning
# rate


def test_the_scheduler_sets_and_logs_the_rate():
    net = model(rate=0.5)
    history = fit(net, callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5), epochs=3)
    np.testing.assert_allclose(history.history["learning_rate"], [0.25, 0.125, 0.0625])
    assert float(net.optimizer.learning_rate) == 0.0625


def test_the_scheduler_takes_a_function_of_the_epoch_alone():
    net = model()
    fit(net, callbacks.LearningRateScheduler(lambda epoch: 0.25))
    assert float(net.optimizer.learning_rate) == 0.25


def test_the_scheduler_wants_a_float():
    with pytest.raises(ValueError, match="should be a float"):
        fit(model(), callbacks.LearningRateScheduler(lambda epoch, rate: "fast"))


def test_a_new_rate_counts_from_the_next_step():
    net = model(rate=0.1)
    start = net.get_weights()
    fit(net, callbacks.LearningRateScheduler(lambda epoch, rate: 0.0))
    for now, then in zip(net.get_weights(), start, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("options", "values", "rate"),
    [
        ({"patience": 1, "factor": 0.5}, [1.0, 1.0, 1.0], 0.25),
        ({"patience": 2, "factor": 0.5}, [1.0, 1.0, 0.5, 0.5], 1.0),
        ({"patience": 1, "factor": 0.5, "min_lr": 0.4}, [1.0, 1.0, 1.0, 1.0], 0.4),
        ({"patience": 1, "factor": 0.5, "cooldown": 2}, [1.0, 1.0, 1.0], 0.5),
        ({"patience": 1, "factor": 0.5, "min_delta": 0.5}, [1.0, 0.9, 0.4], 0.5),
    ],
)
def test_reduce_on_plateau(options, values, rate):
    net = model(rate=1.0)
    feed(callbacks.ReduceLROnPlateau(**options), values, net)
    assert float(net.optimizer.learning_rate) == pytest.approx(rate)


def test_reduce_on_plateau_refuses_to_grow():
    with pytest.raises(ValueError, match="factor"):
        callbacks.ReduceLROnPlateau(factor=1.0)


def test_terminate_on_nan():
    bad = X.copy()
    bad[5] = np.nan
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    recorder = Recorder()

    def tolerant():
        made = model()
        made.allow_nan = True
        return made

    tolerant().fit(bad, Y, callbacks=[callbacks.TerminateOnNaN(), recorder], **options)
    assert recorder.hooks().count("on_train_batch_end") == 2
    with pytest.raises(RuntimeError, match="batch 1"):
        tolerant().fit(bad, Y, callbacks=[callbacks.TerminateOnNaN(raise_error=True)], **options)


# -------------------------------------------------------------------------------------------- files


def test_csv_logger_writes_and_appends(tmp_path):
    path = tmp_path / "log.csv"
    net = model()
    fit(net, callbacks.CSVLogger(path, separator=";"), epochs=2)
    fit(net, callbacks.CSVLogger(path, separator=";", append=True), validation_data=(X, Y))
    with open(path, newline="") as file:
        rows = list(csv.reader(file, delimiter=";"))
    assert rows[0] == ["epoch", "loss", "val_loss"]
    assert [row[0] for row in rows[1:]] == ["0", "1", "0"]
    assert [row[2] == "NA" for row in rows[1:]] == [True, True, False]


def test_checkpoints_are_named_after_the_epoch_and_load(tmp_path):
    net = model()
    path = tmp_path / "sub" / "{epoch:02d}-{loss:.3f}.npz"
    fit(net, callbacks.ModelCheckpoint(path, save_weights_only=True), epochs=2)
    files = sorted(p.name for p in (tmp_path / "sub").iterdir())
    assert [name[:3] for name in files] == ["01-", "02-"]
    other = model()
    other.load_weights(tmp_path / "sub" / files[1])
    for a, b in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_the_best_checkpoint_is_kept(tmp_path):
    saved = []
    keeper = callbacks.ModelCheckpoint(tmp_path / "w.npz", save_weights_only=True, save_best_only=True)
    net = model()
    net.save_weights = lambda path, overwrite: saved.append(path)
    feed(keeper, [1.0, 0.5, 0.7, 0.4], net)
    assert len(saved) == 3
    assert keeper.best == 0.4


def test_checkpoints_every_few_batches(tmp_path):
    path = tmp_path / "{epoch}-{batch}.npz"
    fit(model(), callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=2), epochs=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1-2.npz", "2-1.npz", "2-3.npz"]


def test_bad_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must end in"):
        callbacks.ModelCheckpoint("weights.txt", save_weights_only=True)
    with pytest.raises(ValueError, match="save_freq"):
        callbacks.ModelCheckpoint("w.keras", save_freq="batch")
    with pytest.raises(KeyError, match="accuracy"):
        fit(model(), callbacks.ModelCheckpoint(tmp_path / "{accuracy}.npz", save_weights_only=True))
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OSError, match="directory"):
        fit(model(), callbacks.ModelCheckpoint(tmp_path / "folder.npz", save_weights_only=True))


# ----------------------------------------------------------------------------------------- progress
# bar


def test_the_bar_ends_in_one_line_when_piped(capsys):
    fit_verbosely(1)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Epoch 1/2"
    assert out[1].startswith("3/3 ━━━━━━━━━━━━━━━━━━━━ ")
    assert "step - loss: " in out[1]
    assert out[1].split(" - ")[-1].startswith("val_loss: ")
    assert len(out) == 4


def test_a_line_per_epoch(capsys):
    fit_verbosely(2)
    out = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[0] for line in out] == ["Epoch 1/2", "3/3", "Epoch 2/2", "3/3"]


def fit_verbosely(verbose):
    model().fit(X, Y, batch_size=4, epochs=2, verbose=verbose, validation_data=(X, Y))


def test_silence(capsys):
    net = model()
    fit(net)
    net.evaluate(X, Y, verbose=0)
    net.predict(X, verbose=0)
    assert capsys.readouterr().out == ""


def test_evaluate_and_predict_have_a_bar(capsys):
    net = model()
    net.evaluate(X, Y, batch_size=4)
    net.predict(X, batch_size=4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "loss" in lines[0]
    assert "loss" not in lines[1]


def test_an_unknown_length_is_learned(capsys):
    class Endless:
        def __iter__(self):
            return ((X, Y) for _ in range(3))

    model().fit(Endless(), epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == lines[3].split()[0] == "3/3"


def test_a_bar_on_a_terminal_redraws_one_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    bar = lamina.utils.Progbar(10, interval=0)
    for step in range(10):
        bar.update(step + 1, [("loss", 1.0 + step)])
    out = capsys.readouterr().out
    assert out.count("\r") == 10
    assert out.count("\n") == 1
    assert out.endswith("\n")


def test_the_bar_averages_what_is_not_stateful(capsys):
    bar = lamina.utils.Progbar(None, stateful_metrics=["last"])
    for step, value in enumerate([1.0, 2.0, 6.0]):
        bar.update(step + 1, [("mean", value), ("last", value)])
    bar.update(3, finalize=True)
    assert "mean: 3.0000 - last: 6.0000" in capsys.readouterr().out


def test_callbacks_made_with_warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model(metrics=["mae"]), callbacks.EarlyStopping("loss"), callbacks.TerminateOnNaN())
