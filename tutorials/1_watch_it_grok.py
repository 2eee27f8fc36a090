# %% [markdown]
# # Train a transformer and watch it grok
#
# A one-layer transformer learns addition mod 53 from half of all pairs. Within two hundred steps it knows its training
# pairs by heart and is wrong on two thirds of the others; some two thousand steps later it suddenly generalises. This
# takes about a minute on two cores, and nothing the second time: the run is a folder.

# %%
import grokinterp as gi

run = gi.train(gi.presets.demo(), "runs/demo")
run

# %% [markdown]
# The metrics that were written down while it trained are a table. When did it know its training pairs, and when the
# others?

# %%
learned = run.first("train_accuracy >= 0.99")
grokked = run.first("test_accuracy >= 0.99")
print(f"training pairs at step {learned}, unseen pairs at step {grokked}: {grokked / learned:.0f} times as late")

# %% [markdown]
# `analyze` reads measures off every checkpoint. The progress measures of Nanda et al. 2023 ask how much of the model
# is a *Fourier circuit*: a few frequencies of the two operands, combined into cos w(a + b − c).

# %%
report = gi.analyze(run, ["progress"])
print(report.summary)

# %% [markdown]
# **Restricted loss** keeps nothing but the key frequencies in the logits; **excluded loss** takes them out.
# Restricted loss falls long before test loss does. By itself that shows no circuit: it averages logits over training
# pairs too, so a mere lookup table of these has a low restricted loss once nearly all frequencies are key. Here a few
# are, and excluded loss rises meanwhile: the model comes to need what is kept. The shaded phases are found by rule.

# %%
report.plot("progress")

# %% [markdown]
# ## What this shows
#
# **Claim**: the circuit answers unseen pairs long before the model does. **Control**: the same projection of a lookup
# table that knows the training pairs and nothing else. Guessing costs ln 53 = 3.97 nats. What the table gains on that is
# the projection's own doing; only the loss below the table's is the circuit's.

# %%
formed = report.dataset.sel(step=report.phases.circuit_end)
print(f"step {report.phases.circuit_end:,}, unseen pairs: the model's loss {float(formed['loss'].sel(split='test')):.2f} nats")
print(f"its key frequencies alone {float(formed['restricted_loss'].sel(split='test')):.2f} nats")
print(f"the same of a lookup table {float(formed['restricted_loss_lookup'].sel(split='test')):.2f} nats")

# %% [markdown]
# ## Try
#
# - Without weight decay nothing takes the memorised part away: `gi.presets.demo().with_(weight_decay=0.0)`,
#   into another folder.
# - Fewer pairs: `task.train_fraction` 0.3. How much later does it grok?
# - `report.to_html("demo.html")` writes everything as one page, with the rest of the figures.
