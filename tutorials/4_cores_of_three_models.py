# %% [markdown]
# # The cores of three models
#
# Three transformers learn to predict the same Markov chain of four states from other initial weights. Their weights
# have nothing in common. Do they compute the same? An *algorithmic core* is the subspace of the residual stream that
# is both active and read by the outputs (arXiv 2602.22600). Three trainings of some ten seconds each.

# %%
import numpy as np
import plotly.graph_objects as go
import torch

import grokinterp as gi
from grokinterp import ace
from grokinterp.plots import STYLES, layout_figure

hook = "blocks.0.hook_resid_post"
runs = [gi.train(gi.presets.cores2026_markov(seed=seed, epochs=8), f"runs/markov-{seed}") for seed in (0, 100, 200)]
task = runs[0].task
accuracies = ", ".join(f"{run.metrics.test_accuracy.iloc[-1]:.3f}" for run in runs)
print(f"{task.chain.n_states} states, test accuracies {accuracies}; the best predictor has 0.750")

# %% [markdown]
# **Extract.** Directions are ranked by how strongly they are both active and read; the core are the few that hold 99.9
# % of that.

# %%
cores = [ace.extract(run.model(), task, hook, energy=0.999, split="test") for run in runs]
print("dimensions of the cores:", ", ".join(str(core.rank) for core in cores), "of", len(cores[0].mean))
cores[0]

# %% [markdown]
# **Necessary and sufficient.** Keep nothing but the core, or cut it out, and see what the model still knows. Guessing
# gives 0.25.

# %%
for run, core in zip(runs, cores, strict=True):
    found = ace.size(run.model(), core, task, ranks=[core.rank], energy=0.999, split="test")
    print(f"whole model {found.base:.3f}, core alone {found.keep[0]:.3f}, without the core {found.remove[0]:.3f}")


# %% [markdown]
# **Compare.** Cosine of two models' weights, overlap of their cores as subspaces (0 to 1), and canonical correlations
# of what the cores do on the same inputs.


# %%
def cosine(one, other):
    """Cosine of all weights of two runs, as one long vector each."""
    a, b = (torch.cat([weight.flatten() for weight in run.weights().values() if weight.ndim > 1]) for run in (one, other))
    return float(a @ b / a.norm() / b.norm())


tokens = task.tokens[task.indices("test")]
states = [core.project(ace.Tail(run.model(), hook).activations(tokens)) for run, core in zip(runs, cores, strict=True)]
for i, j in ((0, 1), (0, 2), (1, 2)):
    shared = ace.canonical_correlations(states[i].flatten(0, 1), states[j].flatten(0, 1))[:2]
    correlations = ", ".join(f"{float(value):.3f}" for value in shared)
    print(f"{i} and {j}: weights {cosine(runs[i], runs[j]):+.2f}, subspaces {ace.overlap(cores[i], cores[j]):.2f}, states {correlations}")

# %% [markdown]
# Other weights, other directions, the same states: a linear map takes one core to another. And those states obey the
# chain's own law. The linear operator that best predicts a core's next state has the eigenvalues of the transition
# matrix, 0.75 ± 0.25i and 0.5 (the eigenvalue 1 belongs to the mean).

# %%
truth = np.array([value for value in task.chain.eigenvalues if abs(value - 1) > 1e-9])
dots = [go.Scatter(x=truth.real, y=truth.imag, mode="markers", name="the chain", marker={"symbol": "circle-open", "size": 18, "color": "#999999"})]
for i, state in enumerate(states):
    values = ace.sequence_dynamics(state).eigenvalues
    marker = {"color": STYLES[i][0], "symbol": ["x", "cross", "diamond"][i], "size": 9, "opacity": 0.7}
    dots.append(go.Scatter(x=values.real, y=values.imag, mode="markers", name=f"core of model {i}", marker=marker))
    print(f"model {i}:", ", ".join(f"{value:.2f}" for value in values))
caption = "Three models that share no weights share the eigenvalues of what they model."
layout_figure("Eigenvalues of the cores and of the chain", caption, dots, "real part", "imaginary part").update_layout(hovermode="closest")

# %% [markdown]
# ## What this shows
#
# **Claim**: in their two strongest directions the three cores say the same about the same inputs. **Control**: the same
# correlations with the inputs of one model shuffled. Two sets of numbers can always be turned towards each other a
# little; this is how much.

# %%
flat = [state.flatten(0, 1) for state in states]
shuffled = torch.randperm(len(flat[0]), generator=torch.Generator().manual_seed(0))
pairs = ((0, 1), (0, 2), (1, 2))
same = min(float(ace.canonical_correlations(flat[i], flat[j])[1]) for i, j in pairs)
chance = max(float(ace.canonical_correlations(flat[i], flat[j][shuffled])[0]) for i, j in pairs)
print(f"two canonical correlations of each pair of models: at least {same:.3f}; with shuffled inputs at most {chance:.3f}")

# %% [markdown]
# ## Try
#
# - The third eigenvalue is the fragile one: its direction holds a percent of the energy. Train all 40 epochs of the
#   paper (leave `epochs` out).
# - `gi.tasks.markov_chain(transition=…)` takes your own chain; with two complex pairs, are there two rotations in the
#   core?
# - `gi.analyze(runs[0], ["ace"])` reads size, necessity and dynamics off every checkpoint.
