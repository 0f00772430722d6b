"""Right answers to lesson 09's exercises, written as different students would."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import Contract, judged

from segcourse import exercises, metrics
from segcourse.exercises.judge import Outcome
from segcourse.exercises.render import verdict_card

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("09_metrics").exercises}


# --- confusion_matrix


def matrix_class_by_class(prediction, target, classes):
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for t in range(classes):
        for p in range(classes):
            counts[t, p] = ((target == t) & (prediction == p)).sum()
    return counts


def matrix_by_one_hot(prediction, target, classes):
    is_target, is_predicted = (F.one_hot(x.flatten(), classes).double() for x in (target, prediction))
    return (is_target.T @ is_predicted).round().long()


def matrix_by_scatter(prediction, target, classes):
    counts = torch.zeros(classes * classes, dtype=torch.int32)
    pairs = (target * classes + prediction).reshape(-1)
    counts.index_add_(0, pairs, torch.ones_like(pairs, dtype=torch.int32))
    return counts.view(classes, classes)


def matrix_by_accumulating(prediction, target, classes):
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    return counts.index_put_((target, prediction), torch.tensor(1), accumulate=True)


def matrix_by_numpy(prediction, target, classes):
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (target.numpy(), prediction.numpy()), 1)
    return torch.from_numpy(counts)


def matrix_in_five_lines_a_pair(prediction, target, classes):
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for t in range(classes):
        for p in range(classes):
            is_t = target == t
            taken_for_p = prediction == p
            both = is_t & taken_for_p
            number = both.sum()
            counts[t, p] = number
    return counts


def matrix_of_int16(prediction, target, classes):
    return matrix_class_by_class(prediction, target, classes).short()


def matrix_of_some_pixels(prediction, target, classes):
    assert target.max() < classes  # raises where there is no pixel
    return matrix_class_by_class(prediction, target, classes)


def matrix_by_views(prediction, target, classes):
    pairs = target.view(-1) * classes + prediction.view(-1)
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def matrix_squeezed(prediction, target, classes):
    return matrix_class_by_class(prediction, target, classes).squeeze()


def matrix_of_11_classes(prediction, target, classes):
    return torch.bincount(target.flatten() * 11 + prediction.flatten(), minlength=121).reshape(11, 11)


def matrix_flattened_from_axis_1(prediction, target, classes):
    pairs = target.flatten(1) * classes + prediction.flatten(1)
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def matrix_image_by_image(prediction, target, classes):
    return sum(matrix_class_by_class(p, t, classes) for p, t in zip(prediction, target))


def matrix_of_three_classes(prediction, target, classes):
    return matrix_by_scatter(prediction, target, 3)


def matrix_of_at_most_21_classes(prediction, target, classes):
    counts = torch.zeros(21, 21, dtype=torch.int64)
    counts.index_put_((target.clamp(max=20), prediction.clamp(max=20)), torch.tensor(1), accumulate=True)
    return counts[:classes, :classes]


def matrix_of_two_images(prediction, target, classes):
    return matrix_by_scatter(prediction[:2], target[:2], classes)


def matrix_of_a_square(prediction, target, classes):
    side = min(target.shape[1:])
    return matrix_by_scatter(prediction[:, :side, :side], target[:, :side, :side], classes)


def matrix_of_the_targets_size(prediction, target, classes):
    return matrix_by_scatter(prediction, target, int(target.max()) + 1)


def matrix_in_a_comprehension(prediction, target, classes):
    pairs = [t * classes + p for t, p in zip(target.flatten().tolist(), prediction.flatten().tolist())]
    return torch.bincount(torch.tensor(pairs), minlength=classes**2).view(classes, classes)


def matrix_by_nested_loops(prediction, target, classes):
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for n in range(target.shape[0]):
        for i in range(target.shape[1]):
            for j in range(target.shape[2]):
                counts[target[n, i, j], prediction[n, i, j]] += 1
    return counts


# --- region_metrics


def metrics_class_by_class(counts):
    ious, recalls, weighted, total = [], [], 0.0, counts.sum().item()
    for c in range(len(counts)):
        both, row, column = counts[c, c].item(), counts[c].sum().item(), counts[:, c].sum().item()
        if row + column:
            ious.append(both / (row + column - both))
            weighted += row / total * ious[-1]
        if row:
            recalls.append(both / row)
    return {
        "frequency-weighted IoU": weighted,
        "mean IoU": sum(ious) / len(ious),
        "mean accuracy": sum(recalls) / len(recalls),
        "accuracy": counts.trace().item() / total,
    }


def metrics_of_masked_tensors(counts):
    counts = counts.double()
    right, row, union = counts.diag(), counts.sum(1), counts.sum(1) + counts.sum(0) - counts.diag()
    there = union > 0
    return {
        "accuracy": counts.trace() / counts.sum(),
        "mean accuracy": (right[row > 0] / row[row > 0]).mean(),
        "mean IoU": (right[there] / union[there]).mean(),
        "frequency-weighted IoU": (row[there] / counts.sum() * right[there] / union[there]).sum(),
    }


def metrics_of_some_classes(there_for_iou, there_for_accuracy):
    """Class by class, those alone of which (right, target, predicted) pass a test."""

    def answer(counts):
        ious, recalls, weighted, total = [], [], 0.0, counts.sum().item()
        for c in range(len(counts)):
            both, row, column = counts[c, c].item(), counts[c].sum().item(), counts[:, c].sum().item()
            if there_for_iou(both, row, column):
                ious.append(both / (row + column - both))
            if row + column:
                weighted += row / total * both / (row + column - both)
            if there_for_accuracy(both, row, column):
                recalls.append(both / max(row, 1))
        return {
            "accuracy": counts.trace().item() / total,
            "mean accuracy": sum(recalls) / max(len(recalls), 1),
            "mean IoU": sum(ious) / max(len(ious), 1),
            "frequency-weighted IoU": weighted,
        }

    return answer


def metrics_in_int32(counts):
    counts = counts.numpy().astype(np.int32)
    right, row, column = counts.diagonal(), counts.sum(1, dtype=np.int32), counts.sum(0, dtype=np.int32)
    with np.errstate(all="ignore"):
        iou = right / (row + column - right)
        return {
            "accuracy": right.sum(dtype=np.int32) / counts.sum(dtype=np.int32),
            "mean accuracy": np.nanmean(right / row),
            "mean IoU": np.nanmean(iou),
            "frequency-weighted IoU": np.nansum(row * iou) / counts.sum(dtype=np.int32),
        }


def metrics_of_three_classes(counts):
    counts = F.pad(counts, (0, 3, 0, 3))[:3, :3]
    return metrics_class_by_class(counts)


def metrics_changed(**changed):
    def answer(counts):
        counts = counts.double()
        right, row, column = counts.diag(), counts.sum(1), counts.sum(0)
        union = row + column - right
        values = metrics_of_masked_tensors(counts)
        for name, change in changed.items():
            values[name.replace("_", " ").replace("fw", "frequency-weighted")] = change(right, row, column, union)
        return values

    return answer


# --- dice_from_iou


def dice_by_reciprocals(iou):
    return 2 / (1 + 1 / iou)  # 1/0 is inf, and 2/inf is 0


def dice_by_difference(iou):
    return 2 - 2 / (1 + iou)


# --- data_set_iou


def iou_by_masks(batches):
    classes = batches[0][0].size(1)
    both, either = torch.zeros(classes), torch.zeros(classes)
    for scores, target in batches:
        labels = torch.argmax(scores, dim=1)
        for c in range(classes):
            known = target.ne(255)
            both[c] += ((labels == c) & (target == c)).sum()
            either[c] += (((labels == c) | (target == c)) & known).sum()
    return (both[either > 0] / either[either > 0]).mean()


def iou_of_one_long_row(batches):
    labels = torch.cat([scores.max(dim=1).indices.flatten() for scores, _ in batches])
    target = torch.cat([target.flatten() for _, target in batches])
    matrix = metrics.ConfusionMatrix(batches[0][0].shape[1])
    matrix.add(labels, target)
    return matrix.mean_iou


def iou_of_three_classes(batches):
    return iou_by_masks([(scores[:, :3], target.where(target < 3, 255)) for scores, target in batches])


def iou_of_the_first_images(batches):
    return iou_by_masks([(scores[:1], target[:1]) for scores, target in batches])


def iou_of_the_first_batch(batches):
    return iou_by_masks(batches[:1])


def iou_of_labels(labels, classes=None):
    def answer(batches):
        matrix = metrics.ConfusionMatrix(classes or batches[0][0].shape[1])
        for scores, target in batches:
            known = target < matrix.classes
            matrix.add(labels(scores)[known].clamp(max=matrix.classes - 1), target[known])
        return matrix.mean_iou

    return answer


iou_where_one_half_is_passed = iou_of_labels(lambda scores: (scores.softmax(1) > 0.5).long().argmax(1))
iou_of_positive_scores = iou_of_labels(lambda scores: scores.relu().argmax(1))
iou_of_whole_scores = iou_of_labels(lambda scores: scores.long().argmax(1))
iou_of_11_classes = iou_of_labels(lambda scores: scores.argmax(1), 11)
iou_of_21_classes = iou_of_labels(lambda scores: scores.argmax(1), 21)


def iou_of_classes(there, labels=lambda scores: scores.argmax(1)):
    """Over the classes of which (predicted, target) pass a test."""

    def answer(batches):
        classes = batches[0][0].shape[1]
        counts = torch.zeros(classes, classes)
        for scores, target in batches:
            known = target != 255
            counts += matrix_class_by_class(labels(scores)[known], target[known], classes)
        right, row, column = counts.diag(), counts.sum(1), counts.sum(0)
        return (right / (row + column - right))[there(column, row)].mean().item()

    return answer


iou_of_predicted_classes = iou_of_classes(lambda predicted, target: predicted > 0)


def iou_where_something_is_known(batches):
    for _, target in batches:
        assert target[target != 255].max() < batches[0][0].shape[1]  # raises where all is void
    return iou_by_masks(batches)


def iou_where_each_image_has_something_known(batches):
    for _, target in batches:
        for image in target:
            assert image[image != 255].max() < batches[0][0].shape[1]
    return iou_by_masks(batches)


def iou_emptying_the_list(batches):
    every = []
    while batches:
        every.append(batches.pop(0))
    return iou_by_masks(every)


def iou_sorting_the_list(batches):
    batches.sort(key=lambda batch: len(batch[1]))
    return iou_by_masks(batches)


def iou_with_scores_in_place(batches):
    for scores, _ in batches:
        scores.exp_()
    return iou_by_masks(batches)


def iou_with_targets_in_place(batches):
    value = iou_by_masks(batches)
    for _, target in batches:
        target[target == 255] = 0
    return value


def iou_of_batches(weight):
    def answer(batches):
        values = [iou_by_masks([batch]).item() for batch in batches]
        weights = [weight(target) for _, target in batches]
        return sum(v * w for v, w in zip(values, weights)) / sum(weights)

    return answer


# --- two_predictions


def two_by_lists(target, classes):
    pixels = target.flatten().tolist()
    common = max(set(pixels), key=pixels.count)
    rare = [c for c in set(pixels) if c != common]
    one, other, budget = [common] * len(pixels), [], sum(p != common for p in pixels) + 1
    for pixel in pixels:
        if pixel == common and budget > 0:
            other.append(rare[0])
            budget -= 1
        else:
            other.append(pixel)
    return torch.tensor(one).view(target.shape), torch.tensor(other).view(target.shape)


def two_with_one_class_missed(target, classes):
    """The first misses the smallest class; the second spoils one pixel more than that class has."""
    sizes = torch.bincount(target.flatten(), minlength=classes)
    order = [c for c in sizes.argsort().tolist() if sizes[c]]
    first = target.clone()
    first[target == order[0]] = order[-1]
    second = target.clone()
    row, column = (target == order[-1]).nonzero(as_tuple=True)
    spoilt = int(sizes[order[0]]) + 1
    second[row[-spoilt:], column[-spoilt:]] = order[0]
    return [first, second]


def two_with_a_bad_second(target, classes):
    first = two_by_lists(target, classes)[0]
    return first, torch.full_like(target, int(target[target != first][-1]))


def two_with_background_0(target, classes):
    zeros = torch.zeros_like(target)
    second = target.clone()
    place = (target == 0).nonzero()[: int((target != 0).sum()) + 1]
    second[place[:, 0], place[:, 1]] = 1
    return zeros, second


def two_of_scores(target, classes):
    first, second = two_by_lists(target, classes)
    return first.float(), second.float()


def two_with_class_1_for_the_rare_one(target, classes):
    large = int(target.flatten().mode().values)
    second = target.clone()
    place = (target == large).nonzero()[: int((target != large).sum()) + 1]
    second[place[:, 0], place[:, 1]] = 1
    return torch.full_like(target, large), second


def two_with_an_axis_too_many(target, classes):
    first, second = two_by_lists(target, classes)
    return first[None], second[None]


def two_of_arrays(target, classes):
    return [prediction.numpy() for prediction in two_by_lists(target, classes)]


def two_with_void(target, classes):
    first, second = two_by_lists(target, classes)
    return first, second.where(second == target, 255)


def two_in_place(target, classes):
    first, second = two_by_lists(target, classes)
    return first, target.copy_(second)


def two_with_the_first_pixels_spoilt(target, classes):
    first, _ = two_by_lists(target, classes)
    rare = target[target != first]
    second = target.clone()
    second.view(-1)[: len(rare) + 1] = rare[0]
    return first, second


def two_with_a_fifth_spoilt(target, classes):
    first, _ = two_by_lists(target, classes)
    row, column = (target == first).nonzero(as_tuple=True)
    second = target.clone()
    spoilt = target.numel() // 5
    second[row[:spoilt], column[:spoilt]] = target[target != first][0]
    return first, second


def two_of_a_batch(target, classes):
    N, H, W = target.shape
    return two_by_lists(target.reshape(N * H, W), classes)


def two_flat(target, classes):
    first, second = two_by_lists(target, classes)
    return first.flatten(), second.flatten()


def two_images_of_its_own(target, classes):
    return torch.zeros(4, 4).long(), torch.ones(4, 4).long()


# --- median_weights


def weights_class_by_class(masks, classes):
    frequency = []
    for c in range(classes):
        holding = [mask for mask in masks if (mask == c).any()]
        pixels = sum((mask == c).sum().item() for mask in holding)
        frequency.append(pixels / sum(mask.numel() for mask in holding) if holding else None)
    median = float(np.median([f for f in frequency if f is not None]))
    return torch.tensor([0.0 if f is None else median / f for f in frequency])


def weights_by_one_hot(masks, classes):
    hot = F.one_hot(masks.where(masks != 255, classes), classes + 1)[..., :classes].double()  # (N, H, W, C)
    counts = hot.sum((1, 2))
    shares = counts / masks[0].numel()
    frequency = shares.sum(0) / (counts > 0).sum(0)
    return (frequency.nanquantile(0.5) / frequency).nan_to_num(0)


def weights_of_the_first_image(masks, classes):
    return weights_by_one_hot(masks[:1], classes)


def weights_of_square_masks(masks, classes):
    weights = weights_by_one_hot(masks, classes)
    return weights * masks.shape[1] ** 2 / masks[0].numel()  # would do no harm to a ratio; here it does


def weights_of_at_most_11_classes(masks, classes):
    known = masks.where(masks < 11, 255)
    weights = weights_by_one_hot(known, 11)
    return F.pad(weights, (0, max(0, classes - 11)))[:classes]


def weights_where_all_occur(masks, classes):
    hot = F.one_hot(masks.where(masks != 255, classes), classes + 1)[..., :classes].double()
    frequency = hot.sum((0, 1, 2)) / masks.numel()
    return frequency.median() / frequency


def weights_of_the_classes_there(masks, classes):
    return weights_by_one_hot(masks, int(masks[masks != 255].max()) + 1)


def weights_up_to(most):
    return lambda masks, classes: weights_by_one_hot(masks, classes).clamp(max=most)


# --- hausdorff_distance


def hausdorff_of_numpy(a, b):
    from scipy.spatial.distance import directed_hausdorff

    return max(directed_hausdorff(a.numpy(), b.numpy())[0], directed_hausdorff(b.numpy(), a.numpy())[0])


def hausdorff_by_broadcasting(a, b):
    distances = (a[:, None] - b[None]).square().sum(-1).sqrt()
    return torch.maximum(distances.amin(0).max(), distances.amin(1).max())


def hausdorff_point_by_point(a, b):
    worst = 0.0
    for one, other in ((a, b), (b, a)):
        for point in one:
            worst = max(worst, (other - point).norm(dim=1).min().item())
    return worst


def hausdorff_of_the_first_points(a, b):
    k = min(len(a), len(b))
    return hausdorff_by_broadcasting(a[:k], b[:k])


def hausdorff_from_the_larger(a, b):
    large, small = (a, b) if len(a) > len(b) else (b, a)
    return torch.cdist(large, small).min(1).values.max()


def hausdorff_of_whole_points(a, b):
    return hausdorff_by_broadcasting(a.long().float(), b.long().float())


def hausdorff_without_signs(a, b):
    return hausdorff_by_broadcasting(a.abs(), b.abs())


def hausdorff_of_rows(a, b):
    return hausdorff_by_broadcasting(a[:, :1], b[:, :1])


# --- what else must be told


def argmax_then_masks(axis):
    def answer(batches):
        both, either = torch.zeros(batches[0][0].size(1)), torch.zeros(batches[0][0].size(1))
        for scores, target in batches:
            labels, known = scores.argmax(dim=axis), target != 255
            for c in range(len(both)):
                both[c] += ((labels == c) & (target == c) & known).sum()
                either[c] += (((labels == c) | (target == c)) & known).sum()
        return (both / either).nanmean()

    return answer


def argmax_then_counts(axis):
    def answer(batches):
        counts = 0
        for scores, target in batches:
            labels, known = scores.argmax(axis), target != 255
            counts = counts + matrix_by_scatter(labels[known], target[known], scores.shape[1])
        return (counts.diag() / (counts.sum(0) + counts.sum(1) - counts.diag())).nanmean().item()

    return answer


@pytest.mark.parametrize("way", [argmax_then_masks, argmax_then_counts])
@pytest.mark.parametrize(("axis", "name"), [(0, "images"), (2, "rows"), (3, "columns"), (-1, "columns")])
def test_an_argmax_over_another_axis_is_named_however_one_goes_on(way, axis, name):
    verdict = judged(EXERCISES["data_set_iou"], way(axis), 0)
    assert verdict.misconception.id.startswith(f"argmax_over_{name}")


def test_what_raises_everywhere_is_told_as_it_is():
    def broken(batches):
        raise RuntimeError("the cat sat on the GPU")

    verdict = judged(EXERCISES["data_set_iou"], broken, 0)
    assert verdict.misconception is None
    assert "the cat sat on the GPU" in verdict.failure.mismatch.says


def test_an_exception_without_words_is_told_as_it_is():
    def silent(batches):
        if len(set(batches[0][0].shape)) > 1:
            raise RuntimeError
        return 0.5

    verdict = judged(EXERCISES["data_set_iou"], silent, 0)
    assert verdict.failure.mismatch.says == "it raised RuntimeError: no message."


@pytest.mark.parametrize("value", [{"on_a_cube": torch.ones(3), "says": 5}, {"changed": [5]}])
def test_a_dict_that_looks_like_what_happened_is_a_dict(value):
    verdict = judged(EXERCISES["data_set_iou"], lambda batches: value, 0)
    assert verdict.misconception is None
    assert "a dict with keys" in verdict.failure.mismatch.says


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (matrix_in_a_comprehension, "no loop over pixels here"),
        (matrix_by_nested_loops, "in range(target.shape["),  # the smallest case has fewer axes
    ],
)
def test_a_loop_over_pixels_is_named_kindly(answer, says):
    verdict = judged(EXERCISES["confusion_matrix"], answer, 0)
    assert verdict.misconception.id.startswith("pixel_by_pixel")
    assert says in verdict.failure.mismatch.says


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (two_with_a_bad_second, "first_wins_by_both"),
        (two_with_background_0, "class_0_is_large"),
        (two_of_scores, "float_labels"),
    ],
)
def test_a_slip_in_the_duel_is_named_and_not_another(answer, name):
    verdict = judged(EXERCISES["two_predictions"], answer, 0)
    assert verdict.misconception.id == name


def metrics_with_a_small_number(counts, small=1e-7):
    counts = counts.double()
    right, row = counts.diag(), counts.sum(1)
    iou = right / (row + counts.sum(0) - right + small)
    return {
        "accuracy": float(right.sum() / counts.sum()),
        "mean accuracy": float((right / row).nanmean()),
        "mean IoU": float(iou.mean()),
        "frequency-weighted IoU": float((row * iou).sum() / counts.sum()),
    }


def metrics_with_a_sum(counts):
    return metrics_class_by_class(counts) | {
        "frequency-weighted IoU": float("nan")
        if (counts.sum(0) + counts.sum(1) == 0).any()
        else metrics_class_by_class(counts)["frequency-weighted IoU"]
    }


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (metrics_with_a_small_number, "absent_as_zero:mean_IoU"),
        (metrics_with_a_sum, "nan_in_the_mean:fw_IoU"),
    ],
)
def test_an_absent_class_in_one_of_the_metrics_is_named(answer, name):
    verdict = judged(EXERCISES["region_metrics"], answer, 0)
    assert verdict.misconception.id == name


MORE = {
    "confusion_matrix": {
        "too_few_bits": matrix_of_int16,
        "view_of_what_is_not_contiguous": matrix_by_views,
        "always_11_classes": matrix_of_11_classes,
        "flattened_from_axis_1": matrix_flattened_from_axis_1,
    },
    "region_metrics": {
        "only_predicted_classes": metrics_of_some_classes(lambda n, r, c: c, lambda n, r, c: r),
        "only_predicted_classes:both": metrics_of_some_classes(lambda n, r, c: c, lambda n, r, c: r and c),
        "only_predicted_in_the_accuracy": metrics_of_some_classes(lambda n, r, c: r + c, lambda n, r, c: r + c),
        "only_classes_with_something_right": metrics_of_some_classes(lambda n, r, c: n, lambda n, r, c: r),
        "union_counts_twice": metrics_changed(
            mean_IoU=lambda n, r, c, u: (n / (r + c)).nanmean(),
            fw_IoU=lambda n, r, c, u: (r * (n / (r + c))).nansum() / r.sum(),
        ),
        "dice_for_iou": metrics_changed(
            mean_IoU=lambda n, r, c, u: (2 * n / (r + c)).nanmean(),
            fw_IoU=lambda n, r, c, u: (r * (2 * n / (r + c))).nansum() / r.sum(),
        ),
        "one_total_iou": metrics_changed(mean_IoU=lambda n, r, c, u: n.sum() / u.sum()),
        "mean_for_the_weighted_sum": metrics_changed(fw_IoU=lambda n, r, c, u: (r / r.sum() * n / u).nanmean()),
        "in_percent": lambda counts: {k: 100 * v for k, v in metrics_class_by_class(counts).items()},
        "rounded_to_3": lambda counts: {k: round(v, 3) for k, v in metrics_class_by_class(counts).items()},
    },
    "dice_from_iou": {
        "1e-06_added": lambda iou: 2 * iou / (1 + iou + 1e-6),
        "1e-08_added_above_too": lambda iou: (2 * iou + 1e-8) / (1 + iou + 1e-8),
        "no_brackets": lambda iou: 2 * iou / 1 + iou,
    },
    "data_set_iou": {
        "only_predicted_classes": iou_of_predicted_classes,
        "changes_the_list": iou_emptying_the_list,
        "mean_of_batches:by_images:nan": iou_of_batches(len),
        "mean_of_batches:by_pixels:nan": iou_of_batches(lambda target: int((target != 255).sum())),
        "lowest_score": iou_of_classes(lambda p, t: p + t > 0, lambda scores: scores.argmin(1)),
        "pixels_in_the_wrong_order": iou_of_classes(
            lambda p, t: p + t > 0,
            lambda s: s.reshape(-1, s.shape[1]).argmax(1).view(s.shape[0], s.shape[2], s.shape[3]),
        ),
    },
    "two_predictions": {
        "spoils_the_first_pixels": two_with_the_first_pixels_spoilt,
        "spoils_a_share:0.2": two_with_a_fifth_spoilt,
        "unpacks_three_axes": two_of_a_batch,
        "flat": two_flat,
        "arrays": two_of_arrays,
    },
    "median_weights": {
        "size_from_the_masks": weights_of_the_classes_there,
        "first_image_only": weights_of_the_first_image,
        "nan_in_the_median:median:all": lambda masks, classes: weights_where_all_occur_in_their_images(masks, classes),
    },
    "hausdorff_distance": {
        "from_the_larger_set": hausdorff_from_the_larger,
        "chessboard": lambda a, b: torch.maximum(*chessboard_ways(a, b)),
        "squeezed": lambda a, b: max(
            torch.cdist(a, b).squeeze().amin(1).max(), torch.cdist(a, b).squeeze().amin(0).max()
        ),
    },
}


def weights_where_all_occur_in_their_images(masks, classes):
    hot = F.one_hot(masks.where(masks != 255, classes), classes + 1)[..., :classes].double().sum((1, 2))
    frequency = hot.sum(0) / ((hot > 0).sum(0) * masks[0].numel())
    return (frequency.median() / frequency).float()


def chessboard_ways(a, b):
    distances = (a[:, None] - b[None]).abs().amax(-1)
    return distances.amin(0).max(), distances.amin(1).max()


@pytest.mark.parametrize(
    ("name", "mistake", "answer"),
    [(name, mistake, answer) for name, answers in MORE.items() for mistake, answer in answers.items()],
)
def test_a_slip_written_in_another_way_is_named(name, mistake, answer, monkeypatch):
    monkeypatch.setattr("segcourse.exercises.judge.SHRINK_SECONDS", 0)
    for seed in range(3):
        verdict = judged(EXERCISES[name], answer, seed)
        assert verdict.misconception is not None, seed
        assert verdict.misconception.id == mistake, seed


def test_scores_have_the_labels_that_a_failing_case_shows():
    exercise = EXERCISES["data_set_iou"]
    seen = []

    def look(batches):
        seen.append(torch.cat([scores.argmax(1) for scores, _ in batches]))
        assert all((scores.diff(dim=1).abs() > 0).all() for scores, _ in batches)
        return 0.0

    cases = [case for seed in range(20) for case in exercise.draw_cases(seed)]
    for case in cases:
        exercise.drive(look, case)
        assert torch.equal(seen[-1], case["labels"])
    assert all(sum(case["batch_sizes"]) == len(case["labels"]) <= 4 for case in cases)


def test_a_number_that_only_looks_round_is_written_with_its_digits():
    verdict = judged(EXERCISES["dice_from_iou"], lambda iou: 2 * iou / (1 + iou + 1e-6), 0)
    text = verdict_card(verdict).text()
    assert "torch.tensor([0.6], dtype=torch.float64)" in text
    assert "Yours returned [0.74999953" in text


def test_tracing_is_put_back():
    import sys

    before = sys.gettrace()
    judged(EXERCISES["confusion_matrix"], matrix_by_nested_loops, 0)
    assert sys.gettrace() is before


def test_a_duel_is_told_with_its_numbers():
    verdict = judged(EXERCISES["two_predictions"], lambda target, classes: (target, target), 0)
    assert verdict.failure.mismatch.says == (
        "it has neither win by accuracy and neither by mean IoU "
        "(the first: accuracy 1.000, mean IoU 1.000; the second: accuracy 1.000, mean IoU 1.000)."
    )


def test_a_duel_on_any_image_is_won_by_the_reference():
    """Down to a single rare pixel among six."""
    for rare, pixels in ((1, 6), (1, 5), (2, 11), (5, 31)):
        target = torch.tensor([1] * rare + [0] * (pixels - rare)).view(1, -1)
        first, second = EXERCISES["two_predictions"].reference(target, 2)
        matrices = [metrics.ConfusionMatrix(2) for _ in range(2)]
        for matrix, prediction in zip(matrices, (first, second)):
            matrix.add(prediction, target)
        assert matrices[0].accuracy > matrices[1].accuracy
        assert matrices[0].mean_iou < matrices[1].mean_iou


def test_weights_of_a_missing_class_as_nan_are_rejected():
    def with_nan(masks, classes):
        weights = weights_by_one_hot(masks, classes)
        return weights.where(weights > 0, math.nan)

    assert judged(EXERCISES["median_weights"], with_nan, 0).outcome is Outcome.NOT_YET


class TestContract(Contract):
    lesson = "09_metrics"
    right = {
        "confusion_matrix": (
            matrix_by_one_hot,
            matrix_by_accumulating,
            matrix_by_numpy,
            matrix_class_by_class,
            matrix_in_five_lines_a_pair,
        ),
        "region_metrics": (metrics_class_by_class, metrics_of_masked_tensors),
        "dice_from_iou": (dice_by_reciprocals, dice_by_difference),
        "data_set_iou": (iou_by_masks, iou_of_one_long_row),
        "two_predictions": (two_by_lists, two_with_one_class_missed),
        "median_weights": (weights_class_by_class, weights_by_one_hot),
        "hausdorff_distance": (hausdorff_of_numpy, hausdorff_by_broadcasting, hausdorff_point_by_point),
    }
    wrong = {
        "confusion_matrix": (
            matrix_of_three_classes,
            matrix_of_two_images,
            matrix_of_a_square,
            matrix_of_at_most_21_classes,
            matrix_of_the_targets_size,
            (matrix_image_by_image, "no loop over pixels"),
            (matrix_in_a_comprehension, "no loop over pixels"),
            (matrix_of_int16, "int64 was expected"),
            (matrix_by_scatter, "int64 was expected"),
            matrix_of_some_pixels,
            (matrix_by_views, "view size is not compatible"),
            (matrix_squeezed, "its shape is ()"),
            matrix_of_11_classes,
        ),
        "region_metrics": (
            metrics_of_some_classes(lambda n, r, c: c, lambda n, r, c: r),
            metrics_of_some_classes(lambda n, r, c: r + c, lambda n, r, c: r and c),
            metrics_in_int32,
            metrics_of_three_classes,
        ),
        "data_set_iou": (
            iou_of_three_classes,
            iou_of_the_first_images,
            iou_of_the_first_batch,
            iou_where_one_half_is_passed,
            iou_of_positive_scores,
            iou_of_whole_scores,
            iou_of_11_classes,
            iou_of_21_classes,
            iou_of_predicted_classes,
            iou_of_classes(lambda predicted, target: (predicted > 0) & (target > 0)),
            iou_where_something_is_known,
            iou_where_each_image_has_something_known,
            (iou_emptying_the_list, "it changed the list"),
            (iou_sorting_the_list, "it changed the list"),
            (iou_with_scores_in_place, "it changed the scores"),
            (iou_with_targets_in_place, "changed its input"),
        ),
        "two_predictions": (
            two_with_background_0,
            two_with_class_1_for_the_rare_one,
            (two_of_scores, "whole numbers"),
            (two_images_of_its_own, "(4, 4)"),
            (two_with_an_axis_too_many, "that of the target"),
            (two_of_arrays, "a torch tensor was expected"),
            (two_with_void, "the second prediction holds the label 255"),
            (two_in_place, "changed its input `target`"),
        ),
        "median_weights": (
            weights_of_the_first_image,
            weights_of_square_masks,
            weights_where_all_occur,
            weights_of_at_most_11_classes,
            weights_of_the_classes_there,
            weights_up_to(20),
            weights_up_to(10),
            weights_up_to(8),
            weights_up_to(6),
        ),
        "hausdorff_distance": (
            hausdorff_of_the_first_points,
            hausdorff_of_rows,
            hausdorff_from_the_larger,
            hausdorff_of_whole_points,
            hausdorff_without_signs,
        ),
    }
