"""Right answers to lesson 08's exercises, written as different students would."""

import math

import torch
from contract import Contract
from torch import nn


def macs_by_weights(height, width, in_channels, out_channels, kernel, stride, padding):
    weight = torch.empty(out_channels, in_channels, kernel, kernel)
    output = torch.conv2d(torch.empty(1, in_channels, height, width), weight, None, stride, padding)
    return math.prod(output.shape[2:]) * weight.numel()


def macs_by_walking(height, width, in_channels, out_channels, kernel, stride, padding):
    places = 0
    for _top in range(-padding, height + padding - kernel + 1, stride):
        for _left in range(-padding, width + padding - kernel + 1, stride):
            places += 1
    return places * sum(in_channels * kernel * kernel for _ in range(out_channels))


def macs_of_square_images(height, width, in_channels, out_channels, kernel, stride, padding):
    return macs_by_walking(height, height, in_channels, out_channels, kernel, stride, padding)


class TestContract(Contract):
    lesson = "08_depthwise_cost"
    right = {"conv_macs": (macs_by_weights, macs_by_walking)}
    wrong = {"conv_macs": (macs_of_square_images,)}
