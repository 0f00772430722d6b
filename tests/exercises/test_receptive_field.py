"""Right answers to lesson 01's exercises, written as different students would."""

from contract import Contract


def compound_by_walking(kernel_1, stride_1, kernel_2):
    last = kernel_1
    for _ in range(kernel_2 - 1):
        last += stride_1
    return last


def compound_by_input_size(kernel_1, stride_1, kernel_2):
    outputs_of_first = kernel_2
    return stride_1 * (outputs_of_first - 1) + kernel_1


class TestContract(Contract):
    lesson = "01_receptive_field"
    right = {"compound_kernel": (compound_by_walking, compound_by_input_size)}
