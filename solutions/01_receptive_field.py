# %% [markdown]
# # 01 Receptive-field arithmetic

# %% tags=["setup"]
from segcourse.lesson import check, quiz, start

start("01_receptive_field")

# %% [markdown]
# ## Two layers in a row
#
# Placeholder.

# %%
def compound_kernel(kernel_1, stride_1, kernel_2):
    """Return the kernel of the one convolution that sees as much as two in a row."""
    # BEGIN SOLUTION
    return kernel_1 + (kernel_2 - 1) * stride_1
    # END SOLUTION


# %%
check.compound_kernel(compound_kernel)

# %%
quiz.stride_effect()
