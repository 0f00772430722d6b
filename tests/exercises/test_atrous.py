"""Right answers to lesson 07's exercises, written as different students would, and wrong ones that may look right."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import Contract, judged
from torch import nn

from segcourse import exercises
from segcourse.atrous import spread_kernel

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("07_atrous").exercises}


def span_by_last_tap(kernel, rate):
    taps = [rate * t for t in range(kernel)]
    return taps[-1] - taps[0] + 1


def span_by_shape(kernel, rate):
    return 50_001 - F.conv1d(torch.zeros(1, 1, 50_000), torch.zeros(1, 1, kernel), dilation=rate).shape[-1]


def holes_by_stacking(x, conv, kernel, rate):
    height, width = x.shape[2] - (kernel - 1) * rate, x.shape[3] - (kernel - 1) * rate
    padded = F.pad(x, (0, -x.shape[3] % rate, 0, -x.shape[2] % rate))
    rows, columns = padded.shape[2] // rate, padded.shape[3] // rate
    phases = padded.reshape(len(x), -1, rows, rate, columns, rate).permute(3, 5, 0, 1, 2, 4).flatten(0, 2)
    made = conv(phases)
    made = made.reshape(rate, rate, len(x), *made.shape[1:]).permute(2, 3, 4, 0, 5, 1)
    return made.flatten(4).flatten(2, 3)[:, :, :height, :width]


def holes_unit_by_unit(x, conv, kernel, rate):
    span = (kernel - 1) * rate + 1
    rows = [
        torch.cat(
            [conv(x[:, :, i : i + span : rate, j : j + span : rate]) for j in range(x.shape[3] - span + 1)], dim=3
        )
        for i in range(x.shape[2] - span + 1)
    ]
    return torch.cat(rows, dim=2)


def holes_by_finding_the_weight(x, conv, kernel, rate):
    channels = x.shape[1]
    pixels = torch.eye(channels * kernel**2).unflatten(1, (channels, kernel, kernel))
    weight = conv(pixels)[:, :, 0, 0].T.unflatten(1, (channels, kernel, kernel))
    return F.conv2d(x, weight, dilation=rate)


def read_by_paths(kernel, rates):
    sums = {sum(path) for path in itertools.product(*(range(0, kernel * r, r) for r in rates))}
    return [max(sums) - min(sums) + 1, len(sums)]


def read_by_convolving(kernel, rates):
    counts = np.ones(1)
    for rate in rates:
        comb = np.zeros((kernel - 1) * rate + 1)
        comb[::rate] = 1
        counts = np.convolve(counts, comb)
    return counts.size, int(np.count_nonzero(counts))


def stride_with_new_layers(model, output_stride):
    result, stride, rate = [], 1, 1
    for layer in model:
        if isinstance(layer, nn.ReLU):
            result.append(nn.ReLU())
            continue
        step = layer.stride if isinstance(layer, nn.MaxPool2d) else layer.stride[0]
        keep = step if stride < output_stride else 1
        if isinstance(layer, nn.MaxPool2d):
            result.append(nn.MaxPool2d(layer.kernel_size, keep, dilation=rate))
        else:
            new = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, keep,
                padding=tuple(rate * side for side in layer.padding), dilation=rate,
            )  # fmt: skip
            new.load_state_dict(layer.state_dict())
            result.append(new)
        stride, rate = stride * keep, rate * step // keep
    return nn.Sequential(*result)


def stride_by_walking_back(model, output_stride):
    """Finds the layers that lose their strides first, and each layer's rate from those before it."""
    dense = nn.Sequential(*(copy.deepcopy(layer) for layer in model))
    steps = [int(np.max(getattr(layer, "stride", 1))) for layer in model]
    gone = [step > 1 and math.prod(steps[: i + 1]) > output_stride for i, step in enumerate(steps)]
    for i, layer in enumerate(dense):
        rate = math.prod(step for step, goes in zip(steps[:i], gone) if goes)
        if isinstance(layer, nn.Conv2d):
            layer.padding = tuple(rate * p for p in layer.padding)
        if hasattr(layer, "dilation"):
            layer.dilation = rate if isinstance(layer, nn.MaxPool2d) else (rate, rate)
            layer.stride = 1 if gone[i] else layer.stride
    return dense


def fraction_by_counting(height, width, rate):
    def hits(size):
        return sum(0 <= i + t < size for i in range(size) for t in (-rate, 0, rate))

    return hits(height) * hits(width) / (3 * height * 3 * width)


def fraction_by_convolving(height, width, rate):
    ones = torch.ones(1, 1, height, width)
    hits = F.conv2d(ones, torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)
    return (hits.double().mean() / 9).item()


def aspp_written_out(x, point, atrous, rates, image):
    height, width = x.shape[2:]
    parts = [torch.relu(F.conv2d(x, point))]
    parts += [F.conv2d(F.pad(x, (r, r, r, r)), w, dilation=r).clamp_min(0) for w, r in zip(atrous, rates)]
    pooled = F.conv2d(F.adaptive_avg_pool2d(x, 1), image)
    parts.append(F.interpolate(F.relu(pooled), size=(height, width), mode="bilinear"))
    return torch.concat(parts, 1)


def aspp_filled_in(x, point, atrous, rates, image):
    width = len(point)
    out = x.new_empty(len(x), width * (2 + len(rates)), *x.shape[2:])
    out[:, :width] = torch.einsum("nchw,oc->nohw", x, point[..., 0, 0])
    for number, rate in enumerate(rates, start=1):
        out[:, number * width : (number + 1) * width] = F.conv2d(x, atrous[number - 1], None, 1, rate, rate)
    out[:, -width:] = (x.mean((2, 3)) @ image[:, :, 0, 0].T)[:, :, None, None]
    return out.relu_()


# --- wrong answers, most of them right for some inputs --------------------------------------------------------


def span_of_three_taps(kernel, rate):
    return 2 * rate + 1


def holes_at_rate_two(x, conv, kernel, rate):
    return holes_by_stacking(x, conv, kernel, 2)


def holes_at_some_rates(rates):
    return lambda x, conv, kernel, rate: holes_by_stacking(x, conv, kernel, rate if rate in rates else 2)


def holes_of_some_kernels(kernels):
    return lambda x, conv, kernel, rate: holes_by_stacking(x, conv, kernel, rate) if kernel in kernels else x


def holes_for_the_first_image(x, conv, kernel, rate):
    return holes_by_stacking(x[:1], conv, kernel, rate)


def holes_on_square_maps(x, conv, kernel, rate):
    side = x.shape[2] - (kernel - 1) * rate
    return holes_by_stacking(x, conv, kernel, rate)[:, :, :side, :side]


def holes_with_the_maps_channels(x, conv, kernel, rate):
    return holes_by_stacking(x, conv, kernel, rate)[:, : x.shape[1]]


def read_of_three_taps(kernel, rates):
    return read_by_paths(3, rates)


def read_all_if_there_is_a_one(kernel, rates):
    field, read = read_by_paths(kernel, rates)
    return field, field if 1 in rates else read


def read_all_if_rates_grow(kernel, rates):
    field, read = read_by_paths(kernel, rates)
    return field, field if rates == sorted(set(rates)) else read


def stride_in_place(model, output_stride):
    dense = stride_with_new_layers(model, output_stride)
    for layer, new in zip(model, dense):
        if hasattr(layer, "stride"):
            layer.stride, layer.padding, layer.dilation = new.stride, new.padding, new.dilation
    return model


def stride_taken_from_the_front(model, output_stride):
    """The same numbers on larger maps: which strides go does not matter for what units see."""
    dense = copy.deepcopy(model)
    steps = {i: layer.stride for i, layer in enumerate(model) if hasattr(layer, "stride")}
    steps = {i: step if isinstance(step, int) else step[0] for i, step in steps.items()}
    lost, rate = math.prod(steps.values()) // output_stride, 1
    for i, step in steps.items():
        layer = dense[i]
        layer.dilation = rate if isinstance(layer, nn.MaxPool2d) else (rate, rate)
        if isinstance(layer, nn.Conv2d):
            layer.padding = tuple(rate * p for p in layer.padding)
        if step > 1 and rate < lost:
            layer.stride = 1
            rate *= step
    return dense


def stride_with_a_strided_last_layer(model, output_stride):
    """All strides go, and the last layer gets the whole output stride."""
    dense = stride_with_new_layers(model, 1)
    dense[-1].stride = (output_stride, output_stride)
    return dense


def stride_with_a_slice_at_the_end(model, output_stride):
    class Every(nn.Module):
        def forward(self, x):
            return x[..., ::output_stride, ::output_stride]

    return nn.Sequential(*stride_with_new_layers(model, 1), Every())


def stride_of_one_loss(model, output_stride):
    """Takes the last stride away and no other."""
    total = math.prod(int(np.max(layer.stride)) for layer in model if hasattr(layer, "stride"))
    return stride_with_new_layers(model, total // 2)


def stride_with_padding_of_the_rate(model, output_stride):
    """Right where each 3x3 layer is padded by 1."""
    dense = stride_with_new_layers(model, output_stride)
    for layer in dense:
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.padding = layer.dilation
    return dense


def stride_with_padding_by_name(model, output_stride):
    dense = stride_with_new_layers(model, output_stride)
    for layer in dense:
        if isinstance(layer, nn.Conv2d):
            layer.padding = tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size))
    return dense


def stride_with_padded_poolings(model, output_stride):
    dense = nn.Sequential()
    for layer in stride_with_new_layers(model, output_stride):
        if isinstance(layer, nn.MaxPool2d) and layer.stride == 1:
            dense.append(nn.ConstantPad2d((layer.dilation, 0, layer.dilation, 0), -math.inf))
        dense.append(layer)
    return dense


def stride_with_fresh_weights(model, output_stride):
    dense = stride_with_new_layers(model, output_stride)
    for layer in dense:
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    return dense


def stride_with_spread_kernels(model, output_stride):
    """The same numbers by plain convolutions with zeros in their kernels."""
    dense = stride_with_new_layers(model, output_stride)
    for layer in dense:
        if isinstance(layer, nn.Conv2d) and layer.dilation != (1, 1):
            layer.weight = nn.Parameter(spread_kernel(layer.weight.detach(), layer.dilation[0]))
            layer.dilation = (1, 1)
    return dense


def stride_with_rescaled_layers(model, output_stride):
    """The same numbers: twice as large after the first convolution, half of that in the second."""
    dense = stride_with_new_layers(model, output_stride)
    first, second, *_ = [layer for layer in dense if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for weight, factor in ((first.weight, 2), (first.bias, 2), (second.weight, 0.5)):
            weight *= factor
    return dense


def stride_with_one_padding_for_all(model, output_stride):
    dense = stride_with_new_layers(model, output_stride)
    rate = 1
    for layer in dense:
        if isinstance(layer, nn.Conv2d):
            rate = layer.dilation[0]
            layer.padding = (rate, rate) if max(layer.padding) else 0
    return dense


def stride_that_refuses_its_own(model, output_stride):
    if output_stride >= math.prod(int(np.max(getattr(layer, "stride", 1))) for layer in model):
        raise ValueError("nothing to do")
    return stride_with_new_layers(model, output_stride)


def stride_keeping(keeps):
    """Keeps as many strides as a rule says: output stride -> strides that stay, from the first on."""

    def convert(model, output_stride):
        steps = [layer.stride for layer in model if hasattr(layer, "stride")]
        steps = [step if isinstance(step, int) else step[0] for step in steps]
        kept = [step for step in steps if step > 1][: keeps(output_stride)]
        return stride_with_new_layers(model, math.prod(kept))

    return convert


def stride_so_far(count):
    """Another rule for the stride so far, which runs over all layers, those of stride 1 as well."""

    def convert(model, output_stride):
        dense, stride, rate = copy.deepcopy(model), 1, 1
        for layer in dense:
            if isinstance(layer, nn.Conv2d):
                layer.padding = tuple(rate * side for side in layer.padding)
            if hasattr(layer, "stride"):
                step = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
                layer.dilation = (rate, rate)
                if stride < output_stride:
                    stride = count(stride, step)
                else:
                    layer.stride, rate = (1, 1), rate * step
        return dense

    return convert


def fraction_in_whole_numbers(height, width, rate):
    return (height + 2 * max(0, height - rate)) * (width + 2 * max(0, width - rate)) // (9 * height * width)


def fraction_of_maps_larger_than_the_rate(height, width, rate):
    return 1 / 9 if rate >= min(height, width) else fraction_by_counting(height, width, rate)


def aspp_of_three_rates(x, point, atrous, rates, image):
    return aspp_written_out(x, point, atrous[:3], [1, 2, 3][: len(rates)], image)


def aspp_of_the_first_three_rates(x, point, atrous, rates, image):
    return aspp_written_out(x, point, atrous[:3], rates[:3], image)


def aspp_with_a_changed_mean(change):
    def wrong(x, point, atrous, rates, image):
        whole = aspp_written_out(x, point, atrous, rates, image)
        pooled = F.conv2d(change(x.mean((2, 3), keepdim=True)), image).relu()
        whole[:, -len(image) :] = pooled
        return whole

    return wrong


def aspp_with_biases(x, point, atrous, rates, image):
    def conv(x, weight, rate):
        layer = nn.Conv2d(*weight.shape[1::-1], weight.shape[2:], padding="same", dilation=rate)
        with torch.no_grad():
            layer.weight.copy_(weight)
            return layer(x).relu()

    means = x.mean((2, 3), keepdim=True)
    parts = [conv(x, point, 1), *(conv(x, w, r) for w, r in zip(atrous, rates))]
    return torch.cat([*parts, conv(means, image, 1).expand(-1, -1, *x.shape[2:])], 1)


def aspp_of_two_branches(x, point, atrous, rates, image):
    return aspp_written_out(x, point, atrous[:2], rates[:2], image)


def aspp_of_the_first_image(x, point, atrous, rates, image):
    whole = aspp_written_out(x, point, atrous, rates, image)
    whole[:, -len(image) :] = aspp_written_out(x[:1], point, atrous, rates, image)[:, -len(image) :]
    return whole


def aspp_with_mean_of_features(x, point, atrous, rates, image):
    """The mean of the rectified map instead of the rectified branch of the mean."""
    whole = aspp_written_out(x, point, atrous, rates, image)
    pooled = F.conv2d(x, image).relu().mean((2, 3), keepdim=True)
    whole[:, -len(image) :] = pooled
    return whole


def fraction_rounded_finely(height, width, rate):
    return round(fraction_by_counting(height, width, rate), 5)


def read_of_the_square(kernel, rates):
    field, read = read_by_paths(kernel, rates)
    return field, read**2


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (stride_taken_from_the_front, "first_strides"),
        (stride_with_a_slice_at_the_end, "thinned_out"),
        (stride_with_padding_by_name, "padding_keeps_size"),
    ],
)
def test_other_ways_to_a_mistake_are_named(answer, mistake) -> None:
    verdict = judged(EXERCISES["set_output_stride"], answer, 5)
    assert verdict.misconception.id == mistake


def test_the_first_layer_that_goes_wrong_is_said() -> None:
    exercise = EXERCISES["set_output_stride"]
    case = exercise.examples[0]

    def says(padding, dilation):
        def mistaken(model, output_stride):
            dense = stride_with_new_layers(model, output_stride)
            dense[2].padding, dense[2].dilation = padding, dilation
            return dense

        expected, got = (
            exercise.measure(case, exercise.drive(answer, case)) for answer in (exercise.reference, mistaken)
        )
        return exercise.compare(expected, got).says

    layer = "The first layer that goes wrong is model[2], Conv2d(2, 3, [5, 3], 2, [2, 1]), which makes"
    assert f"{layer} a map of 35 x 24 where 35 x 26 is right." in says((4, 1), (2, 2))
    assert f"{layer} other numbers." in says((2, 1), (1, 1))
    assert "cannot be run" in says((0, 0), (5, 2))
    assert f"{layer} a map of " in says((0, 0), (5, 2))


def test_a_bias_is_said() -> None:
    for seed in range(5):
        verdict = judged(EXERCISES["aspp"], aspp_with_biases, seed)
        assert "is there a bias?" in verdict.failure.mismatch.says


def test_what_drivers_return_is_plain_data() -> None:
    def plain(value):
        if isinstance(value, (list, tuple)):
            return all(map(plain, value))
        if isinstance(value, dict):
            return all(map(plain, value)) and all(map(plain, value.values()))
        return isinstance(value, (int, float, str, torch.Tensor))

    for exercise in EXERCISES.values():
        assert all(plain(exercise.drive(exercise.reference, case)) for case in exercise.draw_cases(0))


def test_the_map_that_costs_too_much_is_said() -> None:
    failure = judged(EXERCISES["set_output_stride"], stride_taken_from_the_front, 5).failure
    assert "With the first strides kept" in failure.mismatch.says


def test_a_network_changed_in_place_says_so() -> None:
    failure = judged(EXERCISES["set_output_stride"], stride_in_place, 0).failure
    assert "copy.deepcopy" in failure.mismatch.says


class TestContract(Contract):
    lesson = "07_atrous"
    right = {
        "effective_kernel": (span_by_last_tap, span_by_shape),
        "by_holes": (holes_by_stacking, holes_unit_by_unit, holes_by_finding_the_weight),
        "field_and_read": (read_by_paths, read_by_convolving),
        "set_output_stride": (stride_with_new_layers, stride_by_walking_back),
        "valid_fraction": (fraction_by_counting, fraction_by_convolving),
        "aspp": (aspp_written_out, aspp_filled_in),
    }
    wrong = {
        "effective_kernel": (span_of_three_taps,),
        "by_holes": (
            holes_at_rate_two,
            holes_at_some_rates((2, 3)),
            holes_at_some_rates((2, 3, 4, 5)),
            holes_at_some_rates((1, 2, 3, 4)),
            holes_at_some_rates((1, 2, 3, 5)),
            holes_of_some_kernels((2, 3, 4)),
            holes_of_some_kernels((1, 2, 3)),
            holes_for_the_first_image,
            holes_on_square_maps,
            holes_with_the_maps_channels,
        ),
        "field_and_read": (read_of_three_taps, read_all_if_there_is_a_one, read_all_if_rates_grow, read_of_the_square),
        "set_output_stride": (
            (stride_in_place, "it changed the network"),
            (stride_taken_from_the_front, "the price is not"),
            stride_with_a_strided_last_layer,
            stride_with_a_slice_at_the_end,
            stride_of_one_loss,
            stride_with_padding_of_the_rate,
            stride_with_padded_poolings,
            (stride_with_fresh_weights, "its weights are not those of the network"),
            (stride_with_spread_kernels, "its weights have other shapes"),
            (stride_with_rescaled_layers, "its weights are not those of the network"),
            stride_with_one_padding_for_all,
            stride_that_refuses_its_own,
            stride_keeping(lambda output_stride: output_stride // 2),
            stride_keeping(lambda output_stride: output_stride - 1),
            stride_keeping(lambda output_stride: int(output_stride > 1)),
            stride_so_far(lambda stride, step: stride + step),
            stride_so_far(lambda stride, step: step),
            stride_so_far(lambda stride, step: stride + 1),
        ),
        "valid_fraction": (
            fraction_in_whole_numbers,
            fraction_of_maps_larger_than_the_rate,
            fraction_rounded_finely,
        ),
        "aspp": (
            aspp_of_three_rates,
            aspp_of_the_first_three_rates,
            aspp_with_a_changed_mean(torch.relu),
            aspp_with_a_changed_mean(torch.abs),
            (aspp_with_biases, "is there a bias?"),
            aspp_of_two_branches,
            aspp_of_the_first_image,
            aspp_with_mean_of_features,
        ),
    }
