"""Right answers to lesson 04's exercises, written as different students would."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import Contract, judged
from torch import nn

from segcourse import exercises
from segcourse.exercises import fcn_skips
from segcourse.exercises.render import verdict_card
from segcourse.models.fcn import FCN, set_bilinear
from segcourse.transposed import bilinear_kernel

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("04_fcn_skips").exercises}


def labels_from_enlarged_features(features, weight, bias, factor):
    large = F.interpolate(features, scale_factor=factor, mode="bilinear")
    return torch.argmax(F.linear(large.movedim(1, -1), weight, bias), dim=-1)


def labels_by_a_layer(features, weight, bias, factor):
    classes, channels = weight.shape
    layer = nn.Conv2d(channels, classes, 1)
    layer.load_state_dict({"weight": weight.view(classes, channels, 1, 1), "bias": bias})
    scores = nn.Upsample(scale_factor=factor, mode="bilinear")(layer(features))
    return scores.softmax(1).max(1).indices


def labels_by_size(features, weight, bias, factor):
    n, _, h, w = features.shape
    scores = (weight @ features.flatten(2) + bias[:, None]).view(n, -1, h, w)
    best = F.interpolate(scores, (h * factor, w * factor), mode="bilinear", align_corners=False).topk(1, 1)[1]
    return best.squeeze(1).to(torch.int32)


def loss_by_torch(scores, masks):
    return F.cross_entropy(scores, masks, ignore_index=255)


def loss_in_a_row(scores, masks):
    flat, labels = scores.movedim(1, -1).flatten(0, 2), masks.flatten()
    flat, labels = flat[labels != 255], labels[labels != 255]
    return (flat.logsumexp(1) - flat[range(len(labels)), labels]).sum() / len(labels)


def loss_by_one_hot(scores, masks):
    known = masks.ne(255)
    one_hot = F.one_hot(masks * known, scores.shape[1]).permute(0, 3, 1, 2) * known[:, None]
    return -(one_hot * torch.log_softmax(scores, dim=1)).sum() / known.sum()


def offset_backwards(layers, kernel):
    position = 0.0
    for k, s, p in reversed(layers):
        position = position * s + (k - 1) / 2 - p
    return torch.tensor(round(position - (kernel - 1) / 2))


def offset_in_halves(layers, kernel):
    twice, jump = 1 - kernel, 1
    for layer in layers:
        twice += (layer[0] - 1 - 2 * layer[2]) * jump
        jump = jump * layer[1]
    return twice // 2


def offset_from_weights(layers, kernel):
    """Convolve a ramp with averages: a unit's value is then the place of its centre."""
    ramp = torch.arange(-4000.0, 4000.0, dtype=torch.double)[None, None]
    zero = 4000
    for k, s, p in layers:
        averages = F.avg_pool1d(ramp, k, stride=1)
        first = zero - p
        ramp, zero = averages[..., first % s :: s], first // s
    return round(float(ramp[0, 0, zero]) - (kernel - 1) / 2)


def fused_by_layer(score, skip_score, weight, offset):
    layer = nn.ConvTranspose2d(*weight.shape[:3], stride=2, bias=False)
    layer.weight.data = weight
    with torch.no_grad():
        up = layer(score)
    skip = skip_score.narrow(2, offset, up.shape[2]).narrow(3, offset, up.shape[3])
    return torch.stack([up, skip]).sum(0)


def fused_in_place(score, skip_score, weight, offset):
    up = F.conv_transpose2d(score, weight, stride=2)
    cut = skip_score[..., offset:, offset:]
    up += cut[..., : up.size(-2), : up.size(-1)]
    return up


def head_by_loop(pool3, pool4, fc7, score_weights, up_weights, offsets, size):
    scores = [F.conv2d(x, w) for x, w in zip((fc7, pool4, pool3), score_weights)]
    result = 0
    for number, (skip, up) in enumerate(zip(scores, up_weights)):
        result = result + skip
        result = F.conv_transpose2d(result, up, stride=8 if number == 2 else 2)
        height, width = size if number == 2 else (n - offsets[number] for n in scores[number + 1].shape[2:])
        if number == 2:
            top = offsets[2]
            return result[:, :, top : top + height, top : top + width]
        height, width = min(height, result.shape[2]), min(width, result.shape[3])
        scores[number + 1] = scores[number + 1][:, :, offsets[number] :, offsets[number] :][:, :, :height, :width]


def head_by_contributions(pool3, pool4, fc7, score_weights, up_weights, offsets, size):
    """All is linear: each map goes up by itself, and the three are added at the end."""
    a, b, c = (F.conv2d(x, w) for x, w in zip((fc7, pool4, pool3), score_weights))
    first, second = offsets[:2]
    a = F.conv_transpose2d(a, up_weights[0], stride=2)
    b = b[:, :, first : first + a.shape[2], first : first + a.shape[3]]
    a, b = (F.conv_transpose2d(x, up_weights[1], stride=2) for x in (a, b))
    c = c[:, :, second : second + a.shape[2], second : second + a.shape[3]]
    total = sum(F.conv_transpose2d(x, up_weights[2], stride=8) for x in (a, b, c))
    return total[..., offsets[2] : offsets[2] + size[0], offsets[2] : offsets[2] + size[1]]


def start_by_layers(score_weight, score_bias, channels):
    k = score_weight.shape[0]
    up2, up = nn.ConvTranspose2d(k, k, 4, 2, bias=False), nn.ConvTranspose2d(k, k, 32, 16, bias=False)
    set_bilinear(up2)
    set_bilinear(up)
    return {
        "up.weight": up.weight,
        "up2.weight": up2.weight,
        "score_pool4.bias": 0 * score_bias,
        "score_pool4.weight": score_bias.new_zeros(k, channels, 1, 1),
        "score_fr.bias": score_bias.clone(),
        "score_fr.weight": score_weight.clone(),
    }


def start_by_the_model(score_weight, score_bias, channels):
    classes = len(score_bias)
    with torch.device("meta"):
        model = FCN(16, 1, classes, width=1)
    state = {n: torch.empty(p.shape) for n, p in model.named_parameters() if n.startswith(("score", "up"))}
    state |= {"score_fr.weight": score_weight, "score_fr.bias": score_bias}
    state["score_pool4.weight"] = torch.zeros(classes, channels, 1, 1)
    state["score_pool4.bias"] = torch.zeros(classes)
    for name in ("up2.weight", "up.weight"):
        factor = state[name].shape[2] // 2
        state[name] = torch.eye(classes)[:, :, None, None] * bilinear_kernel(factor, ndim=2)
    return state


# --- wrong answers that must not pass -------------------------------------------------------------------------


def offset_for_kernels_of_twice_the_factor(layers, kernel):
    step = math.prod(stride for _, stride, _ in layers)
    return offset_backwards(layers, 2 * step)


def offset_of_two_strides(layers, kernel):
    """Right as long as there is one pooling."""
    place = sum((k - 1) / 2 - p for k, _, p in layers[:2]) + 2 * sum((k - 1) / 2 - p for k, _, p in layers[2:])
    return int(place - (kernel - 1) / 2)


def offset_as_a_float(layers, kernel):
    return offset_backwards(layers, kernel).double()


def offset_with_strides_of_two(layers, kernel):
    return fcn_skips.crop_offset([(k, min(stride, 2), padding) for k, stride, padding in layers], kernel)


def loss_with_a_small_number_added(scores, masks):
    return F.nll_loss((scores.softmax(1) + 1e-8).log(), masks, ignore_index=255)


def loss_with_a_least_probability(scores, masks):
    return F.nll_loss(scores.softmax(1).clamp(min=1e-6).log(), masks, ignore_index=255)


def loss_whose_gradient_is_nan(scores, masks):
    """The value is right, and 0 times infinity goes back to the scores."""
    return loss_by_torch(scores, masks) + 0 * (scores - scores).sqrt().sum()


def loss_to_base_two(scores, masks):
    return loss_by_torch(scores, masks) / math.log(2)


def loss_without_gradient(scores, masks):
    with torch.no_grad():
        return F.cross_entropy(scores, masks, ignore_index=255)


def loss_that_overflows(scores, masks):
    return loss_by_torch(scores.exp().log(), masks)


def loss_without_void_in_it(scores, masks):
    return F.cross_entropy(scores, masks.clamp(max=scores.shape[1] - 1))


def fused_square(score, skip_score, weight, offset):
    up = F.conv_transpose2d(score, weight, stride=2)
    side = up.shape[2]
    return up + skip_score[:, :, offset : offset + side, offset : offset + side]


def fused_on_the_diagonal(score, skip_score, weight, offset):
    classes = weight.shape[0]
    diagonal = weight[range(classes), range(classes)][:, None]
    up = F.conv_transpose2d(score, diagonal, stride=2, groups=classes)
    return up + skip_score[:, :, offset:, offset:][:, :, : up.shape[2], : up.shape[3]]


def fused_at(*corner):
    """A crop that begins at other places than the offset."""

    def fused(score, skip_score, weight, offset):
        top, left = (place(offset) for place in corner)
        up = F.conv_transpose2d(score, weight, stride=2)
        return up + skip_score[:, :, top:, left:][:, :, : up.shape[2], : up.shape[3]]

    return fused


def fused_from_the_far_corner(score, skip_score, weight, offset):
    up = F.conv_transpose2d(score, weight, stride=2)
    return up + skip_score[:, :, -up.shape[2] :, -up.shape[3] :]


def fused_with_the_kernel_turned(score, skip_score, weight, offset):
    return fcn_skips.fuse(score, skip_score, weight.flip(2, 3), offset)


def fused_never(score, skip_score, weight, offset):
    raise RuntimeError("x")


def fused_with_wrong_ends(score, skip_score, weight, offset):
    up = F.conv_transpose2d(score, weight, stride=2)
    return skip_score[..., offset : up.shape[2], offset : up.shape[3]] + up


def fused_whole(score, skip_score, weight, offset):
    return skip_score + F.conv_transpose2d(score, weight, stride=2)


def fused_rows_only(score, skip_score, weight, offset):
    up = F.conv_transpose2d(score, weight, stride=2)
    return up + skip_score[:, :, offset : offset + up.shape[2], :]


def head_without_pool4(pool3, pool4, fc7, score_weights, up_weights, offsets, size):
    return fcn_skips.fcn8_scores(pool3, 0 * pool4, fc7, score_weights, up_weights, offsets, size)


def head_one_off(pool3, pool4, fc7, score_weights, up_weights, offsets, size):
    offsets = (*offsets[:2], offsets[2] + 1)
    return fcn_skips.fcn8_scores(pool3, pool4, fc7, score_weights, up_weights, offsets, size)


def head_with_kernels_exchanged(pool3, pool4, fc7, score_weights, up_weights, offsets, size):
    up_weights = (up_weights[1], up_weights[0], up_weights[2])
    return fcn_skips.fcn8_scores(pool3, pool4, fc7, score_weights, up_weights, offsets, size)


def head_that_never_ends_well(pool3, pool4, fc7, score_weights, up_weights, offsets, size):
    raise RuntimeError("The size of tensor a (1) must match the size of tensor b (1) at non-singleton dimension 1")


def head_for_square_images(pool3, pool4, fc7, score_weights, up_weights, offsets, size):
    return fcn_skips.fcn8_scores(pool3, pool4, fc7, score_weights, up_weights, offsets, (size[0], size[0]))


def start_with_three_classes(score_weight, score_bias, channels):
    return start_by_layers(score_weight[:3], score_bias[:3], channels)


def start_with_kernels_of_ones(score_weight, score_bias, channels):
    head = fcn_skips.start_16s(score_weight, score_bias, channels)
    return head | {"up.weight": (head["up.weight"] > 0).float()}


def labels_of_probabilities_of_one_image(features, weight, bias, factor):
    return labels_by_a_layer(features[:1], weight, bias, factor)


def name_of(exercise: str, answer) -> str | None:
    misconception = judged(EXERCISES[exercise], answer, 0).misconception
    return misconception and misconception.id


@pytest.mark.parametrize(("whole", "way"), [(math.floor, "_floored"), (int, ""), (round, "_rounded"), (float, "")])
def test_wrong_halves_are_diagnosed_however_they_are_rounded(whole, way: str) -> None:
    def back_by_half_a_kernel(layers, kernel):
        return whole(float(offset_backwards(layers, kernel)) - 0.5)

    assert (name_of("crop_offset", back_by_half_a_kernel) or "").startswith(f"half_kernel_back{way}")


@pytest.mark.parametrize(
    ("exercise", "answer", "named"),
    [
        ("fuse", fused_never, None),
        ("fuse", fused_with_wrong_ends, "end_without_offset"),
        ("fuse", fused_whole, "not_cropped"),
        ("fuse", fused_rows_only, "not_cropped"),
        ("fcn8_scores", head_that_never_ends_well, None),
        ("pixel_cross_entropy", loss_whose_gradient_is_nan, None),
    ],
)
def test_answers_that_raise_get_no_name_but_their_own(exercise, answer, named, monkeypatch) -> None:
    monkeypatch.setattr("segcourse.exercises.judge.SHRINK_SECONDS", 0)
    assert name_of(exercise, answer) == named


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (float, "it returned the float -3.0; a whole number was expected."),
        (Fraction, "it returned the fraction -3; a whole number was expected."),
        (np.float64, "it returned the float -3.0; a whole number was expected."),
        (np.int64, None),
        (torch.tensor, None),
    ],
)
def test_what_is_no_int_is_named_by_its_type(made, said: str | None) -> None:
    mismatch = EXERCISES["crop_offset"].compare(-3, made(-3))
    assert (mismatch and mismatch.says) == said


def test_missing_and_surplus_entries_are_named_alone() -> None:
    def start_with_another_name(score_weight, score_bias, channels):
        head = fcn_skips.start_16s(score_weight, score_bias, channels)
        head["up16.weight"] = head.pop("up.weight")
        return head

    text = verdict_card(judged(EXERCISES["start_16s"], start_with_another_name, 0)).text()
    assert "Yours: it lacks `up.weight`, and it holds `up16.weight`, which was not asked for." in text
    assert "score_fr" not in text


def test_a_wrong_start_is_told_in_few_words() -> None:
    def start_with_ones(score_weight, score_bias, channels):
        head = fcn_skips.start_16s(score_weight, score_bias, channels)
        return head | {"score_pool4.weight": torch.ones_like(head["score_pool4.weight"])}

    text = verdict_card(judged(EXERCISES["start_16s"], start_with_ones, 0)).text()
    assert "Yours: it begins with `score_pool4.weight` not at zero." in text
    assert "score_fr.weight" not in text
    text = verdict_card(judged(EXERCISES["start_16s"], start_with_kernels_of_ones, 0)).text()
    assert "Yours: it has a wrong `up.weight`: " in text


def test_labels_never_hang_on_a_tie() -> None:
    exercise = EXERCISES["label_pixels"]
    for seed in range(100):
        for case in exercise.draw_cases(seed):
            scores = F.conv2d(case["features"], case["weight"][..., None, None], case["bias"])
            large = F.interpolate(scores, scale_factor=case["factor"], mode="bilinear")
            two = large.topk(2, dim=1).values
            assert (two[:, 0] - two[:, 1]).min() > 5e-4


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_offsets_are_the_networks(stride: int) -> None:
    """What the exercise asks gives every crop of the paper's networks."""
    conv, pool, fc6 = (3, 1, 1), (2, 2, 0), (7, 1, 0)
    stages = [[conv] * depth + [pool] for depth in (2, 2, 3, 3, 3)]
    found = [fcn_skips.crop_offset([*stages[4], fc6], 4)] if stride < 32 else []
    if stride < 16:
        found.append(fcn_skips.crop_offset([*stages[3], (1, 1, -found[0])], 4))
    down = [(3, 1, 100), *stages[0][1:]]
    for stage in stages[1 : {32: 5, 16: 4, 8: 3}[stride]]:
        down += stage
    down.append(fc6 if stride == 32 else (1, 1, -found[-1]))
    last = fcn_skips.crop_offset(down, 2 * stride)
    with torch.device("meta"):
        assert FCN(stride).offsets == (*found, -last)


def test_the_stage_is_the_models() -> None:
    coarse, fine = FCN(32, 1, 3, width=1), FCN(16, 1, 3, width=1)
    nn.init.normal_(coarse.score_fr.weight)
    fine.from_stage(coarse)
    head = fcn_skips.start_16s(coarse.score_fr.weight.detach(), coarse.score_fr.bias.detach(), 8)
    own = {n: v for n, v in fine.state_dict().items() if n.startswith(("score", "up"))}
    assert own.keys() == head.keys()
    assert all(torch.equal(own[name], head[name]) for name in own)


class TestContract(Contract):
    lesson = "04_fcn_skips"
    right = {
        "label_pixels": (labels_from_enlarged_features, labels_by_a_layer, labels_by_size),
        "pixel_cross_entropy": (loss_by_torch, loss_in_a_row, loss_by_one_hot),
        "crop_offset": (offset_backwards, offset_in_halves, offset_from_weights),
        "fuse": (fused_by_layer, fused_in_place),
        "fcn8_scores": (head_by_loop, head_by_contributions),
        "start_16s": (start_by_layers, start_by_the_model),
    }
    wrong = {
        "label_pixels": (labels_of_probabilities_of_one_image,),
        "crop_offset": (
            offset_as_a_float,
            offset_for_kernels_of_twice_the_factor,
            offset_of_two_strides,
            offset_with_strides_of_two,
        ),
        "pixel_cross_entropy": (
            loss_without_gradient,
            loss_that_overflows,
            loss_with_a_small_number_added,
            loss_with_a_least_probability,
            (loss_whose_gradient_is_nan, "some gradients of the scores are nan or infinite"),
            loss_to_base_two,
            loss_without_void_in_it,
        ),
        "fuse": (
            fused_square,
            fused_on_the_diagonal,
            fused_at(lambda offset: offset, lambda offset: 0),
            fused_at(lambda offset: 0, lambda offset: offset),
            fused_at(lambda offset: offset + 1, lambda offset: offset + 1),
            fused_at(lambda offset: offset - 1, lambda offset: offset - 1),
            fused_from_the_far_corner,
            fused_with_the_kernel_turned,
        ),
        "fcn8_scores": (
            head_for_square_images,
            head_without_pool4,
            head_one_off,
            head_with_kernels_exchanged,
        ),
        "start_16s": (
            start_with_three_classes,
            start_with_kernels_of_ones,
        ),
    }
