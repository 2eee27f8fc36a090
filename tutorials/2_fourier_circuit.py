# %% [markdown]
# # The Fourier circuit of a published model
#
# Nanda et al. published the weights of the models in "Progress measures for grokking via mechanistic
# interpretability". If you have such a file (`wd_10-1_mod_addition_loss_curve.pth`, addition mod 113), name it in the
# environment variable `GROKINTERP_CHECKPOINT`, and this tutorial reads it. Without it, the model is the one of the
# first tutorial, which has learned the same circuit mod 53, and is trained here if it is not there yet.

# %%
import os

import numpy as np
import torch

import grokinterp as gi
from grokinterp.measures.progress import key_frequencies

checkpoint = os.environ.get("GROKINTERP_CHECKPOINT")
if checkpoint:
    found = gi.published.load(checkpoint)  # weights_only: nothing in the file can run
    model, task = found.model, found.task
else:
    run = gi.train(gi.presets.demo(), "runs/demo")
    model, task = run.model(), run.task
p = task.n_classes
print(f"addition mod {p}, {len(task):,} pairs, {len(task.indices('train')):,} of them trained on")

# %% [markdown]
# **In the weights.** Each token's embedding is a point; as a function of the token it has a Fourier spectrum. The
# model uses few of the frequencies. Those that reach the logits are its *key frequencies*: at least 1 % of the squared
# norm of W_L = W_out·W_U each.

# %%
report = gi.analyze(model, ["progress", "spectrum"], task=task)
last = report.dataset.isel(step=-1)
keys = last["key_frequency"].to_numpy()
share = last["key_power_share"]
print(f"{len(keys)} of {p // 2} frequencies: {', '.join(map(str, keys))}")
print(f"they hold {float(share.sel(matrix='W_L')):.0%} of the power of W_L and {float(share.sel(matrix='W_E')):.0%} of the embedding's")

# %% [markdown]
# **In the neurons.** MLP neurons are tuned to one of these frequencies each: a neuron's activation over all pairs is
# mostly cos and sin of one w_k.

# %%
shares = last["neuron_share"].to_numpy()
alive = np.isfinite(shares)
tuned, median = np.mean(shares[alive] > 0.85), np.median(shares[alive])
print(f"{tuned:.0%} of the neurons have more than 85 % of their variance at one frequency; the median has {median:.0%}")

# %% [markdown]
# **In the logits.** cos w_k(a + b − c), summed over the key frequencies, explains most of the logits' variance.

# %%
print(f"{float(last['fve'].sel(form='raw')):.0%} of the variance of {p}³ logits")


# %% [markdown]
# **By intervention.** Correlations are not causes, so take frequencies out of the neurons and see what breaks: the key
# frequencies, and then all others.


# %%
def accuracy_without(*frequencies):
    """Share of all pairs answered correctly with these frequencies taken out of the neurons."""
    with torch.no_grad(), gi.FourierAblation("neurons", frequencies, "remove").applied(model, task):
        return float((model(task.tokens)[:, task.readout, :p].argmax(-1) == task.answers).double().mean())


others = [k for k in range(1, p // 2 + 1) if k not in key_frequencies(gi.Snapshot(model, task))]
print(f"all frequencies {accuracy_without():.1%}")
print(f"the {len(keys)} key frequencies removed {accuracy_without(*map(int, keys)):.1%}; guessing gives {1 / p:.1%}")
print(f"the {len(others)} others removed {accuracy_without(*others):.1%}")

# %% [markdown]
# The bars are the training loss with one key frequency taken out of the logits: what the model would lose with it.

# %%
report.plot("key_frequencies_removed")

# %% [markdown]
# ## What this shows
#
# **Claim**: the model's answers depend on its key frequencies. **Control**: as many other frequencies, taken out in the
# same way. Taking something out of a network can hurt by itself; here it does not.

# %%
print(f"{len(keys)} key frequencies removed: {accuracy_without(*map(int, keys)):.1%}")
print(f"{len(keys)} others removed: {accuracy_without(*others[: len(keys)]):.1%}")

# %% [markdown]
# ## Try
#
# - `report.plot("embedding_spectrum")`, `"logit_map_spectrum"`, `"logits_2d"` and `"neurons"` show the same circuit at
#   four places.
# - Another seed uses other frequencies: train `gi.presets.demo(seed=1)` into another folder. Are there as many?
# - Multiplication is addition of discrete logarithms: `with_(task=gi.TaskConfig("modular_multiplication", {"p": 53},
#   0.5))`. The figures look the same.
