"""Right answers to lesson 08's exercises, written as different students would."""

import itertools
import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
import torch
from contract import Contract, judged
from torch import nn

from segcourse import exercises
from segcourse.cost import profile
from segcourse.exercises import depthwise_cost as module
from segcourse.exercises.drivers import depthwise_cost as drivers
from segcourse.exercises.render import verdict_card

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("08_depthwise_cost").exercises}


def macs_by_weights(height, width, in_channels, out_channels, kernel, stride, padding):
    weight = torch.empty(out_channels, in_channels, kernel, kernel, device="meta")
    output = torch.conv2d(torch.empty(1, in_channels, height, width, device="meta"), weight, None, stride, padding)
    return math.prod(output.shape[2:]) * weight.numel()


def macs_by_walking(height, width, in_channels, out_channels, kernel, stride, padding):
    places = 0
    for _top in range(-padding, height + padding - kernel + 1, stride):
        for _left in range(-padding, width + padding - kernel + 1, stride):
            places += 1
    return places * sum(in_channels * kernel * kernel for _ in range(out_channels))


def macs_of_wide_images(height, width, in_channels, out_channels, kernel, stride, padding):
    return macs_by_walking(width, width, in_channels, out_channels, kernel, stride, padding)


def macs_in_floats(height, width, in_channels, out_channels, kernel, stride, padding):
    """A float is fine as long as it is whole."""
    rows, columns = ((side + 2 * padding - kernel) // stride + 1.0 for side in (height, width))
    return torch.tensor(rows * columns * in_channels * kernel**2.0 * out_channels, dtype=torch.float64)


def macs_in(dtype):
    """Right but for the dtype, which is too small for a large count."""

    def macs_of_32_bits(*layer):
        height, width, in_channels, out_channels, kernel, stride, padding = torch.tensor(layer, dtype=dtype)
        rows = (height + 2 * padding - kernel) // stride + 1
        columns = (width + 2 * padding - kernel) // stride + 1
        return rows * columns * in_channels * kernel**2 * out_channels

    return macs_of_32_bits


def macs_with_less_padding(most):
    """Padding at most this many zeros, by the kernel."""

    def macs_of_common_paddings(height, width, in_channels, out_channels, kernel, stride, padding):
        return macs_by_walking(
            height, width, in_channels, out_channels, kernel, stride, min(padding, max(0, most(kernel)))
        )

    return macs_of_common_paddings


def macs_of_more_outputs(height, width, in_channels, out_channels, kernel, stride, padding):
    return macs_by_walking(height, width, in_channels, max(in_channels, out_channels), kernel, stride, padding)


def macs_of_wider_images(height, width, in_channels, out_channels, kernel, stride, padding):
    return macs_by_walking(height, max(width, height + 1), in_channels, out_channels, kernel, stride, padding)


def macs_of_same_padding(height, width, in_channels, out_channels, kernel, stride, padding):
    return math.ceil(height / stride) * math.ceil(width / stride) * in_channels * kernel**2 * out_channels


def macs_of_stride_one(height, width, in_channels, out_channels, kernel, stride, padding):
    if stride > 1:
        return macs_by_walking(height // stride, width // stride, in_channels, out_channels, kernel, 1, padding)
    return macs_by_walking(height, width, in_channels, out_channels, kernel, stride, padding)


def macs_of_three_channels(height, width, in_channels, out_channels, kernel, stride, padding):
    return macs_by_walking(height, width, 3, out_channels, kernel, stride, padding)


def budgets_by_layer(height, width, in_channels, out_channels, kernel, groups, bias):
    layer = nn.Conv2d(in_channels, out_channels, kernel, groups=groups, bias=bias)
    places = height * width
    return [sum(p.numel() for p in layer.parameters()), places * layer.weight.numel(), places * layer.out_channels]


def budgets_group_by_group(height, width, in_channels, out_channels, kernel, groups, bias):
    n, m = in_channels / groups, out_channels / groups
    parameters = macs = 0
    for _group in range(groups):
        parameters += int(n * m * kernel**2)
        macs += int(n * m * kernel**2) * height * width
    return parameters + (bias and out_channels), macs, out_channels * width * height


def budgets_without_the_bias_of_groups(height, width, in_channels, out_channels, kernel, groups, bias):
    return budgets_by_layer(height, width, in_channels, out_channels, kernel, groups, bias and groups == 1)


def budgets_for_square_maps(height, width, in_channels, out_channels, kernel, groups, bias):
    return budgets_by_layer(width, width, in_channels, out_channels, kernel, groups, bias)


def budgets_of_more_outputs(height, width, in_channels, out_channels, kernel, groups, bias):
    parameters, macs, _ = budgets_by_layer(height, width, in_channels, out_channels, kernel, groups, bias)
    return parameters, macs, height * width * max(in_channels, out_channels)


def budgets_with_the_larger_bias(height, width, in_channels, out_channels, kernel, groups, bias):
    _, macs, activations = budgets_by_layer(height, width, in_channels, out_channels, kernel, groups, bias)
    return macs // (height * width) + bias * max(in_channels, out_channels), macs, activations


def budgets_with_a_depthwise_branch(height, width, in_channels, out_channels, kernel, groups, bias):
    """Takes as many groups as output channels for one channel a kernel."""
    if groups == out_channels > 1:
        in_channels = groups
    return budgets_by_layer(height, width, in_channels, out_channels, kernel, groups, bias)


def budgets_of_depthwise(height, width, in_channels, out_channels, kernel, groups, bias):
    return budgets_by_layer(height, width, groups, out_channels, kernel, groups, bias)


def separable_by_layers(height, width, in_channels, out_channels, kernel, stride, padding):
    depthwise = nn.Conv2d(in_channels, in_channels, kernel, stride, padding, groups=in_channels)
    pointwise = nn.Conv2d(in_channels, out_channels, 1)
    between = depthwise(torch.zeros(1, in_channels, height, width))
    return between.numel() * kernel**2, pointwise(between).numel() * in_channels


def separable_by_dense(height, width, in_channels, out_channels, kernel, stride, padding):
    dense = macs_by_walking(height, width, in_channels, out_channels, kernel, stride, padding)
    return [dense // out_channels, dense // kernel**2]


def separable_of_the_fewer_channels(height, width, in_channels, out_channels, kernel, stride, padding):
    depthwise, pointwise = separable_by_dense(height, width, in_channels, out_channels, kernel, stride, padding)
    return depthwise // in_channels * min(in_channels, out_channels), pointwise


def separable_of_one_stride(height, width, in_channels, out_channels, kernel, stride, padding):
    return separable_by_dense(height, width, in_channels, out_channels, kernel, 1, padding)


def separable_of_kernel_three(height, width, in_channels, out_channels, kernel, stride, padding):
    dense = macs_by_walking(height, width, in_channels, out_channels, kernel, stride, padding)
    return dense // out_channels, dense // 9


def counted_by_shapes(model, shape):
    """With one hook for all, and the formulas spelled out."""
    names = {id(layer): name for name, layer in model.named_modules()}
    macs = defaultdict(int)

    def count(layer, inputs, output):
        (x,) = inputs
        if isinstance(layer, nn.Conv2d):
            kh, kw = layer.kernel_size
            n, m, h, w = output.shape
            products = n * h * w * kh * kw * m * layer.in_channels // layer.groups
        elif isinstance(layer, nn.ConvTranspose2d):
            kh, kw = layer.kernel_size
            n, c, h, w = x.shape
            products = n * h * w * kh * kw * c * layer.out_channels // layer.groups
        elif isinstance(layer, nn.Linear):
            products = math.prod(x.shape[:-1]) * layer.in_features * layer.out_features
        else:
            return
        macs[names[id(layer)]] += products

    hooks = [layer.register_forward_hook(count) for layer in model.modules()]
    model(torch.zeros(*shape))
    for hook in hooks:
        hook.remove()
    return dict(macs)


def counted_in_evaluation_mode(model, shape):
    """The mode is put back; counts may be floats of 64 bits."""
    modes = {layer: layer.training for layer in model.modules()}
    macs = counted_by_shapes(model.eval(), shape)
    for layer, mode in modes.items():
        layer.training = mode
    return {name: float(count) for name, count in macs.items()}


def counted_by_adding_up(model, shape):
    """With a Counter, and the number of products from the weight of one group."""
    macs = Counter()
    handles = []
    for name, layer in model.named_modules():
        if not hasattr(layer, "weight"):
            continue

        def count(layer, inputs, output, name=name):
            stamped = "Transpose" in type(layer).__name__
            macs[name] += (inputs[0] if stamped else output).numel() * math.prod(layer.weight.shape[1:])

        handles.append(layer.register_forward_hook(count))
    with torch.inference_mode():
        model(torch.rand(shape))
    [handle.remove() for handle in handles]
    return macs


def counted_part_by_part(model, shape):
    """By walking through a chain: right only where each part runs once."""
    x, macs = torch.zeros(shape), {}
    for name, part in model.named_children():
        for number, layer in enumerate(part):
            y = layer(x)
            if hasattr(layer, "weight"):
                numbers = x if isinstance(layer, nn.ConvTranspose2d) else y
                macs[f"{name}.{number}"] = numbers.numel() * layer.weight[0].numel()
            x = y
    return macs


def counted_with_zero_weights(model, shape):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return counted_by_shapes(model, shape)


def counted_with_all_hooks_cleared(model, shape):
    macs = counted_by_shapes(model, shape)
    for layer in model.modules():
        layer._forward_hooks.clear()
    return macs


def counted_and_moved(model, shape):
    macs = counted_by_shapes(model, shape)
    model.to("meta")
    return macs


def counted_of_square_stamps(model, shape):
    layers = dict(model.named_modules())
    square = {
        name: layers[name].kernel_size[0] / layers[name].kernel_size[1]
        for name in layers
        if isinstance(layers[name], nn.ConvTranspose2d)
    }
    return {name: macs * square.get(name, 1) for name, macs in counted_by_shapes(model, shape).items()}


def counted_without_dilation(model, shape):
    """Find the output's size by a formula that knows no dilation."""
    macs = {}

    def count(layer, inputs, name):
        padded = [n + 2 * p for n, p in zip(inputs[0].shape[2:], layer.padding)]
        places = [(n - k) // s + 1 for n, k, s in zip(padded, layer.kernel_size, layer.stride)]
        macs[name] = macs.get(name, 0) + len(inputs[0]) * math.prod(places) * layer.weight.numel()

    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_pre_hook(lambda layer, inputs, name=name: count(layer, inputs, name)))
    others = counted_by_shapes(model, shape)
    for hook in hooks:
        hook.remove()
    return others | macs


def counted_two_levels_deep(model, shape):
    macs = counted_by_shapes(model, shape)
    return {name: macs[name] for name in macs if name.count(".") == 1}


def counted_of_convolutions_only(model, shape):
    return {name: macs for name, macs in counted_by_shapes(model, shape).items() if "head" not in name}


def stage_by_counter(rows, depth):
    total = Counter()
    for name, _parameters, macs in rows:
        first_words = name.split(".", depth)[:depth]
        total.update({".".join(first_words): macs})
    (stage, most), *_ = total.most_common(1)
    return [stage, most / total.total()]


def stage_by_sorting(rows, depth):
    def stage_of(row):
        return row[0].rsplit(".", max(0, row[0].count(".") + 1 - depth))[0]

    groups = [
        (sum(row[-1] for row in group), stage)
        for stage, group in itertools.groupby(sorted(rows, key=stage_of), stage_of)
    ]
    most, stage = sorted(groups)[-1]
    return stage, most / sum(macs for *_, macs in rows)


def stage_by_arrays(rows, depth):
    """With NumPy, whose strings are a kind of their own."""
    names = np.array([".".join(name.split(".")[:depth]) for name, _, _ in rows])
    stages, which = np.unique(names, return_inverse=True)
    sums = np.bincount(which, weights=[macs for _, _, macs in rows])
    return stages[sums.argmax()], sums.max() / sums.sum()


def stage_of_the_dearest_layer(rows, depth):
    """Right where the dearest layer lies in the dearest stage."""
    dearest = max(rows, key=lambda row: row[2])[0]
    stage = ".".join(dearest.split(".")[:depth])
    of_stage = sum(macs for name, _, macs in rows if ".".join(name.split(".")[:depth]) == stage)
    return stage, of_stage / sum(row[2] for row in rows)


def stage_of_two_words(rows, depth):
    return stage_by_counter(rows, 2)


def stage_of_one_or_two_words(rows, depth):
    return stage_by_counter(rows, 1 if depth == 1 else 2)


def stage_of_all_words(rows, depth):
    return stage_by_counter(
        [(".".join([name.split(".")[i] for i in range(depth)]), *costs) for name, *costs in rows], 9
    )


def stage_by_rsplit(rows, depth):
    """Where a name has too few words, the number of splits is negative: all are made."""
    return stage_by_counter([(name.rsplit(".", name.count(".") + 1 - depth)[0], *costs) for name, *costs in rows], 9)


def stage_of_long_names(rows, depth):
    return stage_by_counter([row for row in rows if row[0].count(".") >= depth - 1], depth)


def stage_by_names_that_go_on(rows, depth):
    stages = {".".join(name.split(".")[:depth]) for name, *_ in rows}
    sums = {stage: sum(row[2] for row in rows if row[0].startswith(stage + ".")) for stage in stages}
    dearest = max(sums, key=sums.get)
    return dearest, sums[dearest] / sum(row[2] for row in rows)


def stage_in_fractions(rows, depth):
    """The share as a fraction, from a dict that names with too few words are in as they are."""
    sums = {}
    for name, _, macs in rows:
        words = name.split(".")
        while len(words) > depth:
            words.pop()
        stage = ".".join(words)
        sums[stage] = sums.get(stage, Fraction()) + macs
    return max(((stage, macs / sum(sums.values())) for stage, macs in sums.items()), key=lambda pair: pair[1])


def stage_with_a_rounded_share(rows, depth):
    stage, share = stage_by_counter(rows, depth)
    return stage, round(share, 2)


def widest_by_halving(maps, kernel, separable, budget):
    def fits(c):
        widths = [3] + [c] * len(maps)
        each = (lambda n, m: n * kernel * kernel + n * m) if separable else (lambda n, m: n * m * kernel * kernel)
        return sum(h * w * each(n, m) for (h, w), n, m in zip(maps, widths, widths[1:])) <= budget

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def widest_from_above(maps, kernel, separable, budget):
    for channels in range(4000, 0, -1):
        first, *later = (rows * columns for rows, columns in maps)
        if separable:
            cost = 3 * first * (kernel**2 + channels) + sum(later) * channels * (kernel**2 + channels)
        else:
            cost = kernel**2 * channels * (3 * first + channels * sum(later))
        if cost <= budget:
            return channels
    return 0


def widest_by_ones(maps, kernel, separable, budget):
    """As hint 3 has it: slow, and still well below the time limit."""
    channels = 0
    while module._chain_sum(maps, kernel, separable, channels + 1) <= budget:
        channels += 1
    return channels


def widest_by_trying(most):
    """Try so many widths and no more."""

    def widest_up_to(maps, kernel, separable, budget):
        fit = [c for c in range(1, most) if module._chain_sum(maps, kernel, separable, c) <= budget]
        return max(fit, default=0)

    return widest_up_to


def widest_of_one_first_map(maps, kernel, separable, budget):
    """Takes every layer of the first map's size for the first layer."""

    def cost(c):
        widths = [3 if size == maps[0] else c for size in maps]
        each = (lambda n: n * (kernel**2 + c)) if separable else (lambda n: n * c * kernel**2)
        return sum(h * w * each(n) for (h, w), n in zip(maps, widths))

    return next(c for c in itertools.count() if cost(c + 1) > budget)


def widest_of_different_maps(maps, kernel, separable, budget):
    return widest_by_halving(list(dict.fromkeys(maps)), kernel, separable, budget)


def widest_of_a_pair_at_least(maps, kernel, separable, budget):
    maps[1]  # an IndexError where there is one layer only
    return widest_by_halving(maps, kernel, separable, budget)


def widest_by_a_root(maps, kernel, separable, budget):
    """Solves the quadratic equation, and below the smallest cost gets a negative width."""
    first, later = math.prod(maps[0]), sum(math.prod(size) for size in maps[1:])
    a, b, c = later, 3 * first + kernel**2 * later, 3 * kernel**2 * first - budget
    if not separable:
        a, b, c = kernel**2 * later, 3 * kernel**2 * first, -budget
    return math.floor((math.sqrt(b * b - 4 * a * c) - b) / (2 * a) + 1e-9) if a else -c // b


def widest_of_two_maps(maps, kernel, separable, budget):
    return widest_by_halving(maps[:2], kernel, separable, budget)


def widest_of_square_maps(maps, kernel, separable, budget):
    return widest_by_halving([(rows, rows) for rows, _ in maps], kernel, separable, budget)


def widest_of_even_width(maps, kernel, separable, budget):
    return widest_by_halving(maps, kernel, separable, budget) // 2 * 2


def widest_of_kernel_three(maps, kernel, separable, budget):
    return widest_by_halving(maps, 3, separable, budget)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("channels", [1, 5])
def test_a_chains_cost_is_its_layers_profile(separable, channels):
    maps, kernel, inputs, total = [(6, 9), (3, 5), (3, 4)], 3, 3, 0
    for rows, columns in maps:
        layers = [nn.Conv2d(inputs, channels, kernel)]
        if separable:
            layers = [nn.Conv2d(inputs, inputs, kernel, groups=inputs), nn.Conv2d(inputs, channels, 1)]
        shape = (1, inputs, rows + kernel - 1, columns + kernel - 1)
        total += profile(nn.Sequential(*layers), shape).total_macs
        inputs = channels
    assert module._chain_sum(maps, kernel, separable, channels) == total
    assert module.widest_network(maps, kernel, separable, total) == channels
    assert module.widest_network(maps, kernel, separable, total - 1) == channels - 1


def test_the_small_profiler_counts_as_the_large_one():
    exercise = EXERCISES["macs_by_layer"]
    for case in exercise.draw_cases(5, 8):
        model = drivers.network(case)
        rows = profile(model, case["shape"]).by(lambda row: row.layer).rows
        assert exercise.reference(model, case["shape"]) == {row.layer: row.macs for row in rows if row.macs}


def test_a_check_sees_counts_and_not_how_they_came_about():
    """The course's own profile is a right answer, as the lesson says; a mode may change and be put back."""

    def by_profile(model, shape):
        return {row.layer: row.macs for row in profile(model, shape).by(lambda row: row.layer).rows if row.macs}

    for answer in (by_profile, counted_in_evaluation_mode):
        assert judged(EXERCISES["macs_by_layer"], answer, 0).points == 3


def test_a_wrong_count_is_named_whatever_else_was_left_behind():
    exercise = EXERCISES["macs_by_layer"]
    mistake = next(m for m in exercise.misconceptions if m.id == "transposed_by_output")

    def wrong_and_careless(model, shape):
        model.eval().register_forward_hook(lambda *_: None)
        return mistake.wrong(model, shape)

    assert judged(exercise, wrong_and_careless, 0).misconception.id == mistake.id


def test_hooks_left_behind_are_said():
    verdict = judged(EXERCISES["macs_by_layer"], EXERCISES["macs_by_layer"].misconceptions[-1].wrong, 0)
    assert verdict.misconception.id == "traces_left"
    assert "hooks are still on the model" in verdict.failure.mismatch.says


def counted_with_late_names(model, shape):
    macs, hooks = {}, []
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):

            def count(layer, inputs, output):
                numbers = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
                macs[name] = macs.get(name, 0) + numbers.numel() * layer.weight[0].numel()  # noqa: B023 - the mistake

            hooks.append(layer.register_forward_hook(count))
    model(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return macs


def test_the_simplest_failing_network_has_one_layer_and_is_answered_by_a_dict():
    exercise = EXERCISES["macs_by_layer"]
    simple = ("groups_ignored", "linear_of_one_token", "one_call_only", "transposed_by_output")
    for mistake in exercise.misconceptions:
        for seed in range(3 if mistake.id in simple else 1):
            verdict = judged(exercise, mistake.wrong, seed)
            assert "Yours returned ({" not in verdict_card(verdict).text()
            assert mistake.id not in simple or len(verdict.failure.case) == 3, mistake.id


def test_a_hook_that_looks_its_name_up_late_is_named():
    verdict = judged(EXERCISES["macs_by_layer"], counted_with_late_names, 0)
    assert verdict.misconception.id == "one_name_for_all"


def test_a_search_that_stops_is_named():
    for most in (50, 100, 256, 1000):
        verdict = judged(EXERCISES["widest_network"], widest_by_trying(most), 0)
        assert verdict.misconception.id == f"stops_at_{most - 1}"


def test_a_search_by_ones_that_forgets_a_part_comes_to_its_end():
    """Each misconception, sought channel by channel, stays far below the time limit and so keeps its name."""
    exercise = EXERCISES["widest_network"]
    steps = [mistake.wrong(**case) for mistake in exercise.misconceptions for case in exercise.draw_cases(0)]
    assert max(steps) < 100_000


def test_the_figures_of_the_slide():
    dense = module.conv_macs(12, 12, 3, 256, 5, 1, 0)
    depthwise, pointwise = module.separable_macs(12, 12, 3, 256, 5, 1, 0)
    assert (dense, depthwise, pointwise, depthwise + pointwise) == (1_228_800, 4_800, 49_152, 53_952)
    assert (depthwise + pointwise) * 256 * 25 == dense * (256 + 25)


class TestContract(Contract):
    lesson = "08_depthwise_cost"
    right = {
        "conv_macs": (macs_by_weights, macs_by_walking, macs_in_floats),
        "layer_budgets": (budgets_by_layer, budgets_group_by_group),
        "separable_macs": (separable_by_layers, separable_by_dense),
        "macs_by_layer": (counted_by_shapes, counted_by_adding_up),
        "dearest_stage": (stage_by_counter, stage_by_sorting, stage_by_arrays, stage_in_fractions),
        "widest_network": (widest_by_halving, widest_from_above, widest_by_ones),
    }
    wrong = {
        "conv_macs": (
            macs_of_wide_images,
            macs_of_same_padding,
            macs_of_stride_one,
            macs_of_three_channels,
            macs_of_more_outputs,
            macs_of_wider_images,
            *(macs_with_less_padding(most) for most in (lambda k: k // 2, lambda k: k - 1, lambda k: k)),
            macs_in(torch.int32),
            (macs_in(torch.float32), "seven digits"),
        ),
        "layer_budgets": (
            budgets_without_the_bias_of_groups,
            budgets_for_square_maps,
            budgets_of_depthwise,
            budgets_of_more_outputs,
            budgets_with_the_larger_bias,
            budgets_with_a_depthwise_branch,
        ),
        "separable_macs": (
            separable_of_one_stride,
            separable_of_kernel_three,
            separable_of_the_fewer_channels,
        ),
        "macs_by_layer": (
            counted_part_by_part,
            counted_two_levels_deep,
            counted_of_convolutions_only,
            counted_of_square_stamps,
            counted_without_dilation,
            (counted_with_zero_weights, "parameters are not what they were"),
            (counted_and_moved, "parameters are not what they were"),
            (counted_with_all_hooks_cleared, "hooks that others had put on"),
            (lambda model, shape: counted_by_shapes(model.eval(), shape), "training mode"),
        ),
        "dearest_stage": (
            stage_of_the_dearest_layer,
            stage_of_two_words,
            stage_with_a_rounded_share,
            stage_of_one_or_two_words,
            stage_of_all_words,
            stage_of_long_names,
            stage_by_rsplit,
            stage_by_names_that_go_on,
        ),
        "widest_network": (
            *map(widest_by_trying, (120, 150, 1001, 1100, 3000)),
            widest_of_two_maps,
            widest_of_square_maps,
            widest_of_even_width,
            widest_of_kernel_three,
            widest_of_one_first_map,
            widest_of_different_maps,
            widest_of_a_pair_at_least,
            widest_by_a_root,
        ),
    }
