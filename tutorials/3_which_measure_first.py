# %% [markdown]
# # Which measure sees grokking first?
#
# Several papers introduce a number that moves before test accuracy does. Here they meet on one run: at which step does
# each say that something is under way? The run is that of the first tutorial, and is trained here if it is not there
# yet.

# %%
import plotly.graph_objects as go

import grokinterp as gi
from grokinterp.laws import onset
from grokinterp.plots import STYLES, layout_figure

run = gi.train(gi.presets.demo(), "runs/demo")
report = gi.analyze(run, ["progress", "fsd", "filtered_loss"])
table = report.to_dataframe()
grokked = onset(table.index, table["accuracy[test]"], 0.95, persistence=2)
print(f"test accuracy reaches 0.95 at step {grokked:,.0f}")

# %% [markdown]
# **With thresholds of the papers.** FSD above 0.8 and filtered loss below 0.5 are those of arXiv 2606.12966; 0.5 nats
# for restricted loss is chosen here.

# %%
thresholds = {"restricted_loss[all]": ("<=", 0.5), "filtered_loss": ("<=", 0.5), "fsd[1]": (">=", 0.8), "loss[test]": ("<=", 0.5)}
for name, (direction, threshold) in thresholds.items():
    step = onset(table.index, table[name], threshold, direction, persistence=2)
    says = "never" if step != step else f"step {step:,.0f}, {grokked - step:,.0f} before"
    print(f"{name} {direction} {threshold}: {says}")

# %% [markdown]
# FSD asks whether the neurons agree on *one* frequency. This model uses several, so it stays low, although it rises: a
# threshold from one architecture does not carry over to another. A rule that needs no threshold: when has a measure
# gone half of its way from the end of memorisation to the end of the run? It looks back from the end, so it describes
# and could not have warned.

# %%
start = report.phases.memorization_end
late = table[table.index >= start]
halfway = {}
for name in ("restricted_loss[all]", "filtered_loss", "excluded_loss[train]", "fsd[1]", "sum_of_squares", "loss[test]", "accuracy[test]"):
    middle = (late[name].iloc[0] + late[name].iloc[-1]) / 2
    halfway[name] = onset(late.index, late[name], middle, ">=" if late[name].iloc[-1] > middle else "<=", persistence=2)
for name, step in sorted(halfway.items(), key=lambda entry: entry[1]):
    print(f"{name:22} step {step:6,.0f}")

# %% [markdown]
# Restricted loss comes first: the circuit works long before it is all there is. Test accuracy comes last. In between
# stands the sum of squared weights, which knows nothing of frequencies: a claim that a measure *predicts* grokking has
# to be compared with such plain quantities.

# %%
lines = []
for name, (colour, dash) in zip(halfway, STYLES, strict=False):
    way = (late[name] - late[name].iloc[0]) / (late[name].iloc[-1] - late[name].iloc[0])
    lines.append(go.Scatter(x=late.index, y=way, name=name, line={"color": colour, "dash": dash}))
caption = "From the end of memorisation (0) to the end of the run (1). What crosses one half further left moved earlier."
layout_figure("How far each measure has gone", caption, lines, "training steps", "share of its way")

# %% [markdown]
# ## What this shows
#
# **Claim**: on this run restricted loss moves earlier than a quantity that knows nothing of the algorithm. **Control**: the
# sum of squared weights, which moves before test accuracy, too. Only the difference between the two leads is what
# knowing the frequencies adds.

# %%
leads = {name: halfway["accuracy[test]"] - step for name, step in halfway.items()}
print(f"restricted loss leads by {leads['restricted_loss[all]']:,.0f} steps, the sum of squared weights by {leads['sum_of_squares']:,.0f}")

# %% [markdown]
# ## Try
#
# - One run proves nothing. Train seeds 0 to 4 with `gi.sweep(gi.grid(gi.presets.demo(), seed=range(5)),
#   "sweeps/seeds")`, and give the onsets of all of them to `gi.laws.lead_times`, which has the intervals.
# - The controls matter more: a run without weight decay never groks. Which measures move all the same?
#   `gi.laws.detection` scores alarms by that.
# - `gi.analyze(run, ["heads"])`: what do the attention heads do meanwhile?
