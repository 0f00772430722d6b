import pytest
import torch

from segcourse.datasets.cells import cells
from segcourse.instances import CellCounts, components, count_cells


def row(text):
    """A picture of one row: blanks are background, digits numbers."""
    return torch.tensor([[[int(sign) if sign.isdigit() else 0 for sign in text]]])


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ("111 222 333", "111 111 111", CellCounts(3)),
        ("111 222 333", "1111111 111", CellCounts(3, merged=2, extra_merges=1)),
        ("111 222 333", "11111111111", CellCounts(3, merged=3, extra_merges=2)),
        ("111 222 333", "111     111", CellCounts(3, missed=1)),
        ("111 222 333", "           ", CellCounts(3, missed=3)),
        (
            "1111111 222",
            "111 111 111",
            CellCounts(2, missed=1, split=1, empty=2),
        ),  # neither half is more than half of 7
        ("11111111222", "11111 11 11", CellCounts(2, split=1, empty=1)),  # 5 of 8 hold it, 2 of 8 are a part
        ("1111111111111", "11111111111 1", CellCounts(1, empty=1)),  # 1 of 13 is a fragment
        ("11 22", "11111", CellCounts(2, merged=2, extra_merges=1)),
        ("1111 2222", "11111     ", CellCounts(2, missed=1)),
        ("111 222", "11111  ", CellCounts(2, missed=1)),  # a third of cell 2 is not more than half
        ("     ", "11 11", CellCounts(0, empty=2)),
    ],
)
def test_by_hand(truth, prediction, expected):
    width = max(len(truth), len(prediction))
    assert count_cells(row(prediction.ljust(width)), row(truth.ljust(width))) == expected


def test_specks_need_not_be_looked_at():
    truth, prediction = row("1111 2222     "), row("1111 2222 1 11")
    assert [count_cells(prediction, truth, smallest).empty for smallest in (1, 2, 3)] == [2, 1, 0]
    assert count_cells(prediction, truth, 5) == CellCounts(2, missed=2)


def test_pixels_join_at_corners():
    assert components(torch.eye(3).numpy()).max() == 1
    truth = torch.zeros(1, 4, 4, dtype=torch.int64)
    truth[0, :2, :2], truth[0, 2:, 2:] = 1, 2
    assert count_cells(truth, truth) == CellCounts(2, merged=2, extra_merges=1)


def test_the_truth_has_no_mistakes():
    data = cells("val", 3, size=(96, 128))
    expected = CellCounts(sum(int(x.max()) for x in data.instances))
    assert count_cells(data.masks, data.instances) == expected
    assert count_cells(data.masks.bool(), data.instances) == expected


def test_a_batch_is_its_images():
    data = cells("val", 3, size=(96, 128))
    thick = torch.nn.functional.max_pool2d(data.masks.float(), 3, stride=1, padding=1).long()
    single = [count_cells(m[None], i[None]) for m, i in zip(thick, data.instances)]
    together = count_cells(thick, data.instances)
    assert together == single[0] + single[1] + single[2]
    assert together.merged > together.extra_merges > 0
    assert count_cells(thick[:0], data.instances[:0]) == CellCounts()


def test_numbers_do_not_matter():
    truth = row("777 9999 4")
    assert count_cells(row("1111111111"), truth) == count_cells(row("5555555555"), row("111 2222 3"))
    assert (
        str(count_cells(row("1111111111"), truth))
        == "3 cells: 3 merged (2 extra merges), 0 split, 0 missed; 0 pieces hold no cell"
    )


def test_bad_input_is_refused_in_words():
    truth = row("11 2")
    with pytest.raises(ValueError, match="of one shape"):
        count_cells(truth[..., :3], truth)
    with pytest.raises(TypeError, match="argmax"):
        count_cells(truth.float(), truth)
