"""The demo: the main job, on real digits."""

import numpy as np

from lamina import cli, demo


def test_the_demo_reaches_its_goal(capsys):
    assert cli.main(["demo", "--epochs", "8"]) == 0
    out = capsys.readouterr().out
    for expected in (
        "1438 digits to train on, 359 held out",
        "(None, 4, 4, 64)",
        "Epoch 8/8",
        "predicts the same: True",
        "One prediction:",
    ):
        assert expected in out


def test_too_little_training_is_a_failure(capsys):
    assert demo.run(epochs=0) == 1
    assert "The demo failed" in capsys.readouterr().err


def test_images_are_drawn_two_pixels_to_a_character():
    image = np.array([[0, 1, 0, 1], [0, 0, 1, 1]])
    assert demo.draw(image, color=False) == [" ▀▄█"]
    assert demo.draw(image / 1, color=True)[0].count("▀") == 4
