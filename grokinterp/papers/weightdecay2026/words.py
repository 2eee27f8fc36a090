"""What the reproduction of arXiv 2605.20441 found, in sentences that take their numbers from the measurements."""

from __future__ import annotations

from functools import partial

from grokinterp.papers.sentences import Sentence, told

OPENING = (
    (
        Sentence(
            "Of the paper's small models half grok within 5,000 epochs at λ_c = {boundary} [{boundary.low}, {boundary.high}] (published 0.0158), "
            "in {boundary.n} runs."
        ),
        Sentence(
            "The paper's own grid is not run; of a smaller model of ours half of the runs grok within 800 epochs at λ_c = {smaller_boundary} "
            "[{smaller_boundary.low}, {smaller_boundary.high}], from a share of {smaller_low} at the smallest λ to {smaller_high}."
        ),
    ),
    (
        Sentence("Above it grokking time falls as a power of λ − λ_c with the exponent {exponent} (published 0.757)."),
        Sentence(
            "That boundary belongs to the horizon: twice the epochs bring it down to {smaller_horizon:.0%}; and the exponent of grokking "
            "time above it "
            "is {smaller_exponent}, where the paper has 0.757 for its model."
        ),
    ),
    (
        Sentence(
            "The paper's model at λ = 1 groks by epoch 130 as described (accuracy {calibration_groks}), but its heads end less alike than published: "
            "s̄ = {calibration_similarity_150} over epochs 150–200, not 0.99.",
            lambda values: values["calibration_similarity_150"] < 0.97 <= values["calibration_groks"],
        ),
        Sentence(
            "The paper's model at λ = 1 has a test accuracy of {calibration_groks} at epoch 130 and s̄ = {calibration_similarity_150} at 150–200."
        ),
    ),
    (
        Sentence(
            "Re-initialised heads lower the peak of σ_H at λ = 0.05 by the effect size {reinit_d_0_05} (published −1.19).",
            lambda values: values["reinit_d_0_05"] < 0,
        ),
        Sentence("Re-initialised heads raise the peak of σ_H at λ = 0.05 by the effect size {reinit_d_0_05}, where the paper has −1.19."),
        Sentence(
            "Re-initialising two of eight heads raises the peak of σ_H in our smaller model (Cohen's d {smaller_reinit_d_near} near λ_c and "
            "{smaller_reinit_d_above} above it), where the paper has it fall (−0.609 and −1.19); a sham that resets the moments alone does "
            "not explain it.",
            lambda values: (
                min(values["smaller_reinit_d_near"], values["smaller_reinit_d_above"]) > 0
                and max(values["smaller_sham_p_near"], values["smaller_sham_p_above"]) < 0.05
            ),
        ),
    ),
    (
        Sentence(
            "The published bins hold {bins_runs} runs, 20 fewer than the published fit; fitted again they give the published boundary, "
            "{bins_boundary}.",
            lambda values: values["bins_runs"] == 190,
        ),
    ),
)

opening = partial(told, OPENING)
