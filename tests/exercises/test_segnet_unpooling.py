"""Right answers to lesson 05's exercises, written as different students would."""

import math

import pytest
import torch
import torch.nn.functional as F
from contract import Contract, judged

from segcourse import exercises
from segcourse.exercises.judge import Outcome
from segcourse.exercises.render import verdict_card

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("05_segnet_unpooling").exercises}


def pool_by_four_slices(maps):
    _, _, height, width = maps.shape
    numbers = torch.arange(height * width).reshape(height, width).expand_as(maps)
    four = torch.stack([maps[..., a::2, b::2] for a in (0, 1) for b in (0, 1)])
    their_numbers = torch.stack([numbers[..., a::2, b::2] for a in (0, 1) for b in (0, 1)])
    place = four.argmax(0, keepdim=True)
    return four.gather(0, place)[0], their_numbers.gather(0, place)[0]


def pool_by_unfold(maps):
    n, c, h, w = maps.shape
    cut = maps.unfold(2, 2, 2).unfold(3, 2, 2).reshape(n, c, h // 2, w // 2, 4)
    where = cut.argmax(-1)
    rows = 2 * torch.arange(h // 2).view(-1, 1) + torch.div(where, 2, rounding_mode="floor")
    return [F.max_pool2d(maps, 2), rows * w + 2 * torch.arange(w // 2) + where % 2]


def pool_by_loops(maps):
    n, c, h, w = maps.shape
    values = torch.empty(n, c, h // 2, w // 2)
    indices = torch.empty(n, c, h // 2, w // 2, dtype=torch.long)
    for b in range(n):
        for k in range(c):
            for i in range(0, h, 2):
                for j in range(0, w, 2):
                    best = max(
                        ((i + a) * w + j + d for a in (0, 1) for d in (0, 1)), key=maps[b, k].flatten().__getitem__
                    )
                    values[b, k, i // 2, j // 2] = maps[b, k].flatten()[best]
                    indices[b, k, i // 2, j // 2] = best
    return values, indices


def unpool_by_loops(values, indices, size):
    n, c = values.shape[:2]
    out = torch.zeros(n, c, size[0] * size[1])
    for b in range(n):
        for k in range(c):
            out[b, k][indices[b, k].flatten()] = values[b, k].flatten()
    return out.reshape(n, c, size[0], size[1])


def unpool_by_offsets(values, indices, size):
    n, c, _, _ = values.shape
    area = size[0] * size[1]
    planes = torch.arange(n * c).view(n, c, 1, 1) * area
    out = torch.zeros(n * c * area, dtype=values.dtype)
    out[(indices + planes).flatten()] = values.flatten()
    return out.view(n, c, *size)


def unpool_by_rows_and_columns(values, indices, size):
    n, c = values.shape[:2]
    out = torch.zeros(n, c, *size)
    b = torch.arange(n)[:, None, None, None]
    k = torch.arange(c)[None, :, None, None]
    out[b, k, indices // size[1], indices % size[1]] = values
    return out


def memory_by_bits(channels, height, width):
    places = (height + 1) // 2 * ((width + 1) // 2) * channels
    return [channels * height * width * 32 // 8, -(-places // 4), places * 64 // 8]


def memory_with_tensors(channels, height, width):
    windows = math.ceil(height * 0.5) * math.ceil(width * 0.5) * channels
    return torch.tensor([4 * channels * height * width, math.ceil(windows / 4), 8 * windows])


def decode_by_popping(x, remembered, stages):
    left = list(remembered)
    for stage in stages:
        indices, size = left.pop()
        x = F.max_unpool2d(x, indices, 2, output_size=size)
        x = stage(x)
    return x


def decode_by_counting(x, remembered, stages):
    for i in range(len(stages)):
        indices, (height, width) = remembered[len(stages) - 1 - i]
        x = stages[i](unpool_by_offsets(x, indices, (height, width)))
    return x


def boundary_by_padding(prediction, mask):
    label = mask.float().masked_fill(mask == 255, float("nan"))
    padded = F.pad(label, (1, 1, 1, 1), value=float("nan"))
    centre = padded[:, 1:-1, 1:-1]
    near = torch.zeros_like(mask, dtype=torch.bool)
    for other in (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]):
        near |= (centre != other) & ~centre.isnan() & ~other.isnan()
    return (near & (prediction != mask)).sum() / near.sum()


def boundary_with_numbers(prediction, mask):
    wrong = total = 0
    for p, m in zip(prediction.tolist(), mask.tolist()):
        height, width = len(m), len(m[0])
        for y in range(height):
            for x in range(width):
                if m[y][x] == 255:
                    continue
                others = []
                if y > 0:
                    others.append(m[y - 1][x])
                if y < height - 1:
                    others.append(m[y + 1][x])
                if x > 0:
                    others.append(m[y][x - 1])
                if x < width - 1:
                    others.append(m[y][x + 1])
                if any(o != m[y][x] for o in others if o != 255):
                    total += 1
                    wrong += p[y][x] != m[y][x]
    return wrong / total


def aggregate_in_place(maps, boxes, size):
    result = torch.zeros(maps[0].shape[0], size[0], size[1])
    for scores, box in zip(maps, boxes):
        top, left, bottom, right = box
        part = result[:, top:bottom, left:right]
        torch.maximum(part, scores, out=part)
    return result


def aggregate_by_pixels(maps, boxes, size):
    classes = maps[0].shape[0]
    result = torch.zeros(classes, *size)
    for i in range(size[0]):
        for j in range(size[1]):
            found = [torch.zeros(classes)]
            for scores, (top, left, bottom, right) in zip(maps, boxes):
                if top <= i < bottom and left <= j < right:
                    found.append(scores[:, i - top, j - left])
            result[:, i, j] = torch.stack(found).max(0).values
    return result


# --- wrong answers that must not pass -------------------------------------------------------------------------


def pool_by_torch(maps):
    return F.max_pool2d(maps, 2, return_indices=True)


def pool_the_first_image(maps):
    values, indices = pool_by_four_slices(maps)
    return values, indices[:1].expand_as(indices)


def pool_square_maps(maps):
    values, indices = pool_by_four_slices(maps)
    height, width = maps.shape[2:]
    return values, indices // width * height + indices % width


def pool_positive_maps(maps):
    return pool_by_four_slices(maps.clamp(min=0))


def pool_with_short_indices(maps):
    values, indices = pool_by_four_slices(maps)
    return values, indices.to(torch.int32)


def pool_by_searching(maps):
    """The first pixel of the channel that equals the maximum."""
    values, indices = pool_by_four_slices(maps)
    for image, places, found in zip(maps, indices, values):
        for channel, place, value in zip(image, places, found):
            flat = channel.flatten().tolist()
            place.copy_(torch.tensor([flat.index(v) for v in value.flatten().tolist()]).view_as(place))
    return values, indices


def unpool_positive_values(values, indices, size):
    return unpool_by_offsets(values.clamp(min=0), indices, size)


def unpool_by_the_larger(values, indices, size):
    flat = torch.zeros(*values.shape[:2], size[0] * size[1])
    flat.scatter_reduce_(2, indices.flatten(2), values.flatten(2), "amax")
    return flat.unflatten(2, size)


def unpool_by_torch(values, indices, size):
    return F.max_unpool2d(values, indices, 2, output_size=size)


def unpool_by_adding_up(values, indices, size):
    """What repeats inside a channel would be added; here the mean of the batch is written."""
    return unpool_by_offsets(values.mean(0, keepdim=True).expand_as(values), indices, size)


def pool_by_the_larger_row_and_column(maps):
    """The maximum is in the row with the larger maximum and in the column with the larger maximum."""
    n, c, h, w = maps.shape
    windows = maps.reshape(n, c, h // 2, 2, w // 2, 2)
    row, column = windows.amax(5).argmax(3), windows.amax(3).argmax(4)
    rows, columns = 2 * torch.arange(h // 2)[:, None] + row, 2 * torch.arange(w // 2) + column
    return windows.amax((3, 5)), rows * w + columns


def pool_one_after_the_other(maps):
    across, right = torch.stack([maps[..., 0::2], maps[..., 1::2]]).max(0)
    values, down = torch.stack([across[:, :, 0::2], across[:, :, 1::2]]).max(0)
    height, width = maps.shape[2:]
    rows = 2 * torch.arange(height // 2)[:, None] + down
    return values, rows * width + 2 * torch.arange(width // 2) + right[:, :, ::2]


def pool_from_undoubled_corners(maps):
    values, indices = pool_by_four_slices(maps)
    width = maps.shape[3]
    down, right = indices // width % 2, indices % width % 2
    return values, (torch.arange(maps.shape[2] // 2)[:, None] + down) * width + torch.arange(width // 2) + right


def unpool_by_gathering_zeros(values, indices, size):
    n, c = values.shape[:2]
    flat = torch.zeros(n, c, size[0] * size[1]).gather(2, indices.flatten(2))
    return flat.reshape(n, c, *size)


def unpool_by_gathering_values(values, indices, size):
    return torch.gather(values.flatten(2), 2, indices.flatten(2)).view(*values.shape[:2], *size)


def unpool_without_image_and_channel(values, indices, size):
    out = torch.zeros(*values.shape[:2], *size)
    rows, columns = indices // size[1], indices % size[1]
    out[:, :, rows, columns] = values
    return out


def memory_with_floats(channels, height, width):
    return tuple(float(number) for number in memory_by_bits(channels, height, width))


def memory_with_one_float(channels, height, width):
    maps, packed, long = memory_by_bits(channels, height, width)
    return torch.tensor(maps), packed, torch.tensor(float(long))


def decode_with_sizes_from_the_front(x, remembered, stages):
    sizes = [size for _, size in remembered]
    for i, stage in enumerate(stages):
        x = stage(unpool_by_rows_and_columns(x, remembered[-1 - i][0], sizes[i]))
    return x


def decode_to_twice_the_size(x, remembered, stages):
    for (indices, _), stage in zip(remembered[::-1], stages):
        x = stage(F.max_unpool2d(x, indices, 2, output_size=(2 * x.shape[2], 2 * x.shape[3])))
    return x


@torch.no_grad()
def decode_as_if_evaluating(x, remembered, stages):
    return decode_by_counting(x, remembered, stages)


def decode_and_detach(x, remembered, stages):
    return decode_by_counting(x, remembered, stages).detach()


def decode_with_data(x, remembered, stages):
    for i, stage in enumerate(stages):
        x = stage(unpool_by_offsets(x.data, *remembered[-1 - i]))
    return x


def decode_switching_to_evaluation(x, remembered, stages):
    for stage in stages:
        stage.eval()
    return decode_by_counting(x, remembered, stages)


def aggregate_on_turned_canvases(maps, boxes, size):
    out = torch.zeros(len(maps), len(maps[0]), size[1], size[0])
    for canvas, scores, (top, left, bottom, right) in zip(out, maps, boxes):
        canvas[:, top:bottom, left:right] = scores
    return out.amax(0)


def decode_two_stages(x, remembered, stages):
    x = stages[0](unpool_by_offsets(x, *remembered[1]))
    return stages[1](unpool_by_offsets(x, *remembered[0]))


def decode_without_size(x, remembered, stages):
    for (indices, _), stage in zip(remembered[::-1], stages):
        x = stage(F.max_unpool2d(x, indices, 2))
    return x


def decode_after_reversing(x, remembered, stages):
    remembered.reverse()
    for (indices, size), stage in zip(remembered, stages):
        x = stage(unpool_by_offsets(x, indices, size))
    return x


def decode_using_up(x, remembered, stages):
    for stage in stages:
        x = stage(unpool_by_offsets(x, *remembered.pop()))
    return x


def decode_using_up_stages(x, remembered, stages):
    for indices, size in remembered[::-1]:
        x = stages.pop(0)(unpool_by_offsets(x, indices, size))
    return x


def decode_with_relu(x, remembered, stages):
    for (indices, size), stage in zip(remembered[::-1], stages):
        x = F.relu(stage(unpool_by_offsets(x, indices, size)))
    return x


def decode_with_relu_at_the_end(x, remembered, stages):
    return F.relu(decode_by_counting(x, remembered, stages))


def decode_in_encoder_order(x, remembered, stages):
    for (indices, size), stage in zip(remembered, stages):
        x = stage(F.max_unpool2d(x, indices, 2, output_size=size))
    return x


def decode_in_encoder_order_by_hand(x, remembered, stages):
    for (indices, size), stage in zip(remembered, stages):
        x = stage(unpool_by_rows_and_columns(x, indices, size))
    return x


def decode_popping_from_the_front(x, remembered, stages):
    left = list(remembered)
    for stage in stages:
        x = stage(unpool_by_offsets(x, *left.pop(0)))
    return x


def decode_with_sizes_from_the_front_by_torch(x, remembered, stages):
    for (indices, _), (_, size), stage in zip(remembered[::-1], remembered, stages):
        x = stage(F.max_unpool2d(x, indices, 2, output_size=size))
    return x


def decode_five_stages(x, remembered, stages):
    for i in range(5):
        indices, size = remembered[4 - i]
        x = stages[i](F.max_unpool2d(x, indices, 2, output_size=size))
    return x


def decode_that_always_fails(x, remembered, stages):
    raise ValueError("some other mistake")


def boundary_in_the_first_image(prediction, mask):
    return boundary_with_numbers(prediction[:1], mask[:1])


def boundary_counting_wrong_pixels(prediction, mask):
    return boundary_with_numbers(prediction, mask) * 100


def aggregate_two(maps, boxes, size):
    return aggregate_in_place(maps[:2], boxes[:2], size)


def aggregate_with_the_border(maps, boxes, size):
    """Reads bottom and right as the last row and column inside."""
    out = torch.zeros(len(maps), len(maps[0]), *size)
    for canvas, scores, (top, left, bottom, right) in zip(out, maps, boxes):
        canvas[:, top : bottom + 1, left : right + 1] = scores
    return out.amax(0)


def aggregate_that_always_fails(maps, boxes, size):
    return torch.stack(maps).amax(0).reshape(3, 1000)


@pytest.mark.parametrize(
    ("name", "answer", "named"),
    [
        ("max_pool_with_indices", pool_by_torch, "by_torch"),
        ("max_pool_with_indices", pool_with_short_indices, "short_indices"),
        ("max_pool_with_indices", pool_by_searching, "first_equal"),
        ("max_pool_with_indices", pool_one_after_the_other, "column_of_the_upper_row"),
        ("max_pool_with_indices", pool_from_undoubled_corners, "corner_not_doubled"),
        ("unpool", unpool_by_torch, "by_torch"),
        ("unpool", unpool_by_gathering_zeros, "gathers"),
        ("unpool", unpool_by_gathering_values, "gathers"),
        ("unpool", unpool_without_image_and_channel, "every_channel_everywhere"),
        ("unpool", unpool_positive_values, "negatives_lost"),
        ("unpool", unpool_by_the_larger, "negatives_lost"),
        ("decode", decode_after_reversing, "turns_the_list_round"),
        ("decode", decode_using_up, "uses_the_list_up"),
        ("decode", decode_using_up_stages, "uses_the_list_up"),
        ("decode", decode_with_relu, "relu_added"),
        ("decode", decode_with_relu_at_the_end, None),
        ("decode", decode_in_encoder_order, "encoder_order"),
        ("decode", decode_in_encoder_order_by_hand, "encoder_order"),
        ("decode", decode_popping_from_the_front, "encoder_order"),
        ("decode", decode_with_sizes_from_the_front, "sizes_in_encoder_order"),
        ("decode", decode_with_sizes_from_the_front_by_torch, "sizes_in_encoder_order"),
        ("decode", decode_to_twice_the_size, "size_left_out"),
        ("decode", decode_without_size, "size_left_out"),
        ("decode", decode_as_if_evaluating, "without_gradient"),
        ("decode", decode_and_detach, "without_gradient"),
        ("decode", decode_with_data, None),  # the last stage learns
        ("decode", decode_switching_to_evaluation, "evaluates"),
        ("decode", decode_five_stages, "beyond_the_list"),
        ("decode", decode_that_always_fails, None),
        ("aggregate_proposals", aggregate_with_the_border, "border_included"),
        ("aggregate_proposals", aggregate_on_turned_canvases, "size_swapped"),
        ("aggregate_proposals", aggregate_that_always_fails, None),
    ],
)
def test_other_ways_to_the_same_mistake_get_its_name(name: str, answer, named: str | None, monkeypatch) -> None:
    monkeypatch.setattr("segcourse.exercises.judge.SHRINK_SECONDS", 0)
    for seed in range(4):
        verdict = judged(EXERCISES[name], answer, seed)
        assert verdict.outcome is Outcome.NOT_YET, seed
        assert (verdict.misconception and verdict.misconception.id) == named, seed


def test_the_printed_example() -> None:
    pool, unpool = EXERCISES["max_pool_with_indices"].reference, EXERCISES["unpool"].reference
    values, indices = pool(torch.tensor([[[[1.0, 3, 2, 9], [7, 4, 1, 5], [8, 5, 2, 3], [4, 2, 1, 4]]]]))
    assert values[0, 0].tolist() == [[7, 9], [8, 4]]
    assert indices[0, 0].tolist() == [[4, 3], [8, 15]]
    assert unpool(values, indices, (4, 4))[0, 0].tolist() == [[0, 0, 0, 9], [7, 0, 0, 0], [8, 0, 0, 0], [0, 0, 0, 4]]


def test_answers_agree_with_torch() -> None:
    """The oracles do without torch's own pooling with indices, because answers must; here it has its say."""
    torch.manual_seed(0)
    for size in ((4, 6), (8, 10)):
        maps = torch.randn(2, 3, *size)
        values, indices = EXERCISES["max_pool_with_indices"].reference(maps)
        expected, places = F.max_pool2d(maps, 2, return_indices=True)
        assert torch.equal(values, expected)
        assert torch.equal(indices, places)
        unpooled = EXERCISES["unpool"].reference(values, indices, size)
        assert torch.equal(unpooled, F.max_unpool2d(values, indices, 2))
    values, indices = F.max_pool2d(torch.randn(2, 3, 5, 7), 2, ceil_mode=True, return_indices=True)
    unpooled = EXERCISES["unpool"].reference(values, indices, (5, 7))
    assert torch.equal(unpooled, F.max_unpool2d(values, indices, 2, output_size=(5, 7)))


def test_wrong_indices_are_drawn_and_not_the_values() -> None:
    card = verdict_card(judged(EXERCISES["max_pool_with_indices"], pool_square_maps, 0)).text()
    assert "indices: " in card
    assert "your indices, shape" in card
    assert "value 1" not in card


def test_of_each_proposal_the_map_of_the_wrong_class_is_drawn() -> None:
    verdict = judged(EXERCISES["aggregate_proposals"], aggregate_two, 0)
    assert verdict.failure is not None
    assert verdict.failure.mismatch.where is not None
    channel = int(verdict.failure.mismatch.where.nonzero()[0, 0])
    card = verdict_card(verdict).text()
    for number, scores in enumerate(verdict.failure.case["maps"]):
        assert f"maps[{number}], shape {tuple(scores.shape)}, at [{channel}]" in card


def test_no_pixel_lies_in_all_proposals() -> None:
    for seed in range(20):
        for case in EXERCISES["aggregate_proposals"].draw_cases(seed):
            times = torch.zeros(case["size"])
            for top, left, bottom, right in case["boxes"]:
                times[top:bottom, left:right] += 1
            assert times.max() < len(case["boxes"])


class TestContract(Contract):
    lesson = "05_segnet_unpooling"
    right = {
        "max_pool_with_indices": (
            pool_by_four_slices,
            pool_by_unfold,
            pool_by_loops,
            pool_by_the_larger_row_and_column,
        ),
        "unpool": (unpool_by_loops, unpool_by_offsets, unpool_by_rows_and_columns),
        "index_memory": (memory_by_bits, memory_with_tensors),
        "decode": (decode_by_popping, decode_by_counting),
        "boundary_error": (boundary_by_padding, boundary_with_numbers),
        "aggregate_proposals": (aggregate_in_place, aggregate_by_pixels),
    }
    wrong = {
        "max_pool_with_indices": (
            (pool_by_torch, "without that call"),
            pool_the_first_image,
            pool_square_maps,
            pool_positive_maps,
        ),
        "unpool": (
            (unpool_by_torch, "without that call"),
            unpool_by_adding_up,
        ),
        "index_memory": (
            (memory_with_floats, "the map: "),
            (memory_with_one_float, "the indices: "),
        ),
        "decode": (
            decode_two_stages,
            decode_without_size,
            (decode_and_detach, "no gradient"),
            (decode_with_data, "no gradient"),
            (decode_switching_to_evaluation, "evaluation mode"),
        ),
        "boundary_error": (
            boundary_in_the_first_image,
            boundary_counting_wrong_pixels,
        ),
        "aggregate_proposals": (aggregate_two,),
    }
