"""The curve shows what the history holds."""

import pytest

from segcourse.figures.training import curve
from segcourse.training import History


def test_losses_are_averaged_over_twenty_steps() -> None:
    history = History([float(i) for i in range(50)])
    (axes,) = curve(history).axes
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == list(range(1, 51))
    assert line.get_ydata()[:2].tolist() == [0.0, 0.5]
    assert line.get_ydata()[-1] == pytest.approx(sum(range(30, 50)) / 20)
    assert axes.get_legend() is None


def test_several_trainings_are_named_and_validations_drawn() -> None:
    histories = {"skips": History([2.0, 1.0], [(1, 0.2), (2, 0.3)]), "none": History([2.0, 1.5, 1.2])}
    losses, validations = curve(histories).axes
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["skips", "none"]
    (line,) = validations.get_lines()
    assert [list(line.get_xdata()), list(line.get_ydata())] == [[1, 2], [0.2, 0.3]]


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="train first"):
        curve(History())
