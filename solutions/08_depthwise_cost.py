# %% [markdown]
# # 08 What it costs: group, depthwise, separable
#
# Count what a network costs before you build it.

# %% tags=["setup"]
import torch
import torch.nn.functional as F
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours

start("08_depthwise_cost")

# %% [markdown]
# ## One layer, one product at a time
#
# ### Where the output's size comes from
#
# ### Exercise: a convolution's multiply-adds (1 point)


# %%
def conv_macs(height, width, in_channels, out_channels, kernel, stride, padding):
    """Return the multiply-adds of a convolution."""
    # BEGIN SOLUTION
    rows = (height + 2 * padding - kernel) // stride + 1
    columns = (width + 2 * padding - kernel) // stride + 1
    return rows * columns * in_channels * kernel**2 * out_channels
    # END SOLUTION


# %%
check.conv_macs(conv_macs)

# %%
my_macs = yours_or_ours.conv_macs(conv_macs)
print(my_macs(12, 12, 3, 256, 5, 1, 0))
print(my_macs(8, 8, 3, 256, 5, 1, 2))

# %%
quiz.twice_the_image()
