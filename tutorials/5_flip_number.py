# %% [markdown]
# # Flip grammatical number
#
# "The keys to the cabinet …": *are*, not *is*, although *cabinet* stands closer. Somewhere a language model keeps the
# number of the subject. In GPT-2 it is one dimension, and mirroring the activations along it makes the model write the
# wrong verb (arXiv 2602.22600). Here the same is done to a small model that needs no network: GPT-2's architecture
# with two layers, trained for some ten seconds on a generated grammar, and kept in a cache folder after that.

# %%
import grokinterp as gi
from grokinterp import ace
from grokinterp.language.tiny import TinyConfig, tiny

model = tiny(TinyConfig(n_layers=2, d_model=48, n_ctx=32, n_nouns=24, steps=300, lr=5e-3))  # or: gi.load_model("gpt2")
prompts = gi.tasks.agreement(model.tokenizer, n=120, seed=0)
print(prompts.texts[0], "…", prompts.texts[1], "…")

# %% [markdown]
# The prompts end just before the verb, and head noun and attractor always differ in number. Half of them are there to
# find the axis, half to test it.
#
# At each layer the core of rank one is kept alone, removed and flipped. The AUC says how well the margin between
# plural and singular verbs tells plural from singular subjects: 1 is perfect, 0.5 chance, 0 always wrong.

# %%
report = gi.analyze(model, ["ace"], task=prompts)
last = report.dataset.isel(step=0)
chosen = int(last["chosen_layer"])
auc = last["agreement_auc"].sel(half="test", layer=chosen)
print(f"layer {chosen} of {int(last['layer'].max())}:", ", ".join(f"{mode} {float(auc.sel(mode=mode)):.2f}" for mode in auc["mode"].to_numpy()))

# %% [markdown]
# One direction out of 48 carries the number, and flipping it turns every answer over. Without it what is left does not
# know the subject any more. The layer was chosen on the other half of the prompts. Is that any direction's doing? Ten
# random ones:

# %%
print(f"a random direction flipped: AUC {float(last['random_auc'].sel(mode='flip').min()):.2f} at the least")

# %% [markdown]
# **Write.** The prompt is continued with the axis flipped at each new token, as much as that token needs, beside the
# clean continuation from the same random numbers.

# %%
core = ace.best_core(model, prompts)
for prompt in ("The keys to the cabinet", "The cabinet by the keys"):
    print(ace.generate(model, prompt, core, mode="flip", n_tokens=6), end="\n\n")

# %% [markdown]
# The axis is a knob: the margin follows the coordinate along it, and a factor between −1 and 1 sets it anywhere
# between the two numbers.

# %%
report.plot("agreement_strength")

# %% [markdown]
# ## What this shows
#
# **Claim**: mirroring this one direction turns the number of the verb over. **Control**: ten random directions, mirrored in
# the same way; the AUC of the one that does most harm is printed.

# %%
flipped, random = float(auc.sel(mode="flip")), float(last["random_auc"].sel(mode="flip").min())
print(f"the axis flipped: AUC {flipped:.2f}; a random direction flipped: {random:.2f} at the least")

# %% [markdown]
# ## Try
#
# - `gi.load_model("gpt2")` in place of the first line, and `n=1200`: the paper's model. It needs the weights (0.5 GB)
#   and some minutes; `report.plot("agreement_by_layer")` shows at which layer number becomes readable.
# - `mode="remove"` with `strength=1.0`: what does the model write when it does not know the number?
# - `held_out_nouns=True` in `agreement`: is it an axis of these nouns or of number?
# - On the command line: `grokinterp flip tiny "The keys to the cabinet"`.
