"""The exercises of lesson 01."""

from __future__ import annotations

from segcourse.exercises import Lesson
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception
from segcourse.exercises.quiz import Option, Question

STEM = "01_receptive_field"


def compound_kernel(kernel_1: int, stride_1: int, kernel_2: int) -> int:
    """Return the kernel of the one convolution that sees as much as two in a row."""
    return kernel_1 + (kernel_2 - 1) * stride_1


def _two_layers(draw: Draw) -> Case:
    return {
        "kernel_1": draw.integer(1, 9),
        "stride_1": draw.integer(1, 4),
        "kernel_2": draw.integer(1, 9),
    }


def _count_pixels(kernel_1: int, stride_1: int, kernel_2: int) -> int:
    seen = {stride_1 * tap_2 + tap_1 for tap_2 in range(kernel_2) for tap_1 in range(kernel_1)}
    return max(seen) - min(seen) + 1


COMPOUND_KERNEL = Exercise(
    name="compound_kernel",
    lesson=STEM,
    title="The kernel of two layers",
    points=1,
    minutes=5,
    difficulty=1,
    reference=compound_kernel,
    oracle=_count_pixels,
    cases=_two_layers,
    examples=({"kernel_1": 3, "stride_1": 1, "kernel_2": 3}, {"kernel_1": 5, "stride_1": 3, "kernel_2": 3}),
    misconceptions=(
        Misconception(
            "adds_kernels",
            lambda kernel_1, stride_1, kernel_2: kernel_1 + kernel_2,
            "You added the two kernels. Neighbouring windows of the first layer overlap, so their pixels are "
            "counted twice; and the step between the windows is the stride.",
            "Two layers in a row",
        ),
        Misconception(
            "forgets_stride",
            lambda kernel_1, stride_1, kernel_2: kernel_1 + kernel_2 - 1,
            "Your formula holds for stride 1 only. When the first layer strides, the windows that the second "
            "layer looks at lie further apart.",
            "Two layers in a row",
        ),
        Misconception(
            "strides_whole_kernel",
            lambda kernel_1, stride_1, kernel_2: kernel_1 + kernel_2 * stride_1,
            "You moved the window once for every tap of the second kernel. The first tap needs no move.",
            "Two layers in a row",
        ),
    ),
    hints=(
        "Draw the first layer's windows one after the other. How many pixels does the first one cover, "
        "and how many new ones does each further window add?",
        "The second layer looks at as many windows as its kernel is long. The first covers a whole first kernel; "
        "each of the others starts one stride of the first layer later.",
        "return kernel_1 + (how many further windows) * (how far each is moved)",
    ),
    property="the number of input pixels from the first one seen to the last one seen.",
)

LESSON = Lesson(
    stem=STEM,
    title="Receptive-field arithmetic",
    promise="Say how much of the image one output pixel sees, for any network.",
    reading_minutes=30,
    before=("00_start_here",),
    exercises=(COMPOUND_KERNEL,),
    quiz=(
        Question(
            "stride_effect",
            STEM,
            "A layer's stride is doubled. Whose field grows?",
            (
                Option("The layer's own outputs'.", "Its own kernel covers as many pixels as before."),
                Option("The outputs' of every later layer.", "Their taps now lie twice as far apart.", right=True),
                Option("Nobody's.", "The outputs lie further apart, so the next kernel spans more pixels."),
            ),
        ),
    ),
)
