"""What to cite: this package and the papers whose measures it implements, as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass

from grokinterp.errors import unknown_name


@dataclass(frozen=True)
class Citation:
    """A paper, or this software.

    Attributes:
        title: as printed.
        year: of the first version.
        arxiv: its arXiv id; None for software.
        authors: "Given Family" each; empty where this package does not know them, so that none are invented.
        brings: what of it this package implements.
    """

    title: str
    year: int
    arxiv: str | None = None
    authors: tuple[str, ...] = ()
    brings: str = ""

    def bibtex(self, key: str) -> str:
        """The entry under a key; without an ``author`` field where the authors are not known here: the paper's arXiv page has them."""
        fields = {"title": f"{{{self.title}}}", "author": " and ".join(self.authors), "year": str(self.year)}
        if self.arxiv is not None:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv", "url": f"https://arxiv.org/abs/{self.arxiv}"}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@{'software' if self.arxiv is None else 'misc'}{{{key},\n{lines}\n}}"


CITATIONS = {
    "grokinterp": Citation(
        "grokinterp: a laboratory for how transformers come to compute", 2026, authors=("{The grokinterp authors}",), brings="this software"
    ),
    "nanda2023": Citation(
        "Progress measures for grokking via mechanistic interpretability",
        2023,
        "2301.05217",
        ("Neel Nanda", "Lawrence Chan", "Tom Lieberum", "Jess Smith", "Jacob Steinhardt"),
        "the Fourier circuit, restricted and excluded loss, phases",
    ),
    "fsd2026": Citation(
        "Circuit Synchronization Precedes Generalization", 2026, "2606.12966", brings="Frequency Synchronization Degree, lead times, the fork law"
    ),
    "cores2026": Citation(
        "Transformers converge to invariant algorithmic cores",
        2026,
        "2602.22600",
        brings="algorithmic core extraction, Markov and modular cores, the agreement axis",
    ),
    "weightdecay2026": Citation(
        "Weight Decay Regimes in Grokking Transformers: Cheap Online Diagnostics",
        2026,
        "2605.20441",
        brings="head similarity, entropy spread, the critical weight decay, head re-initialisation",
    ),
    "geometric2026": Citation(
        "The Geometric Inductive Bias of Grokking", 2026, "2603.05228", brings="spherical topology, uniform attention, the S5 negative control"
    ),
    "pizza2023": Citation(
        "The Clock and the Pizza: Two Stories in Mechanistic Explanation of Neural Networks",
        2023,
        "2306.17844",
        ("Ziqian Zhong", "Ziming Liu", "Max Tegmark", "Jacob Andreas"),
        "gradient symmetricity, distance irrelevance, circularity, the attention rate",
    ),
    "groups2023": Citation(
        "A Toy Model of Universality: Reverse Engineering How Networks Learn Group Operations",
        2023,
        "2302.03025",
        brings="key representations, restricted and excluded loss of a representation, the two-sided MLP",
    ),
}


def cite(*names: str) -> str:
    """BibTeX entries, by default all of them.

    Args:
        names: keys of `CITATIONS`.

    Raises:
        GrokinterpError: an unknown name.
    """
    for name in names:
        if name not in CITATIONS:
            raise unknown_name("paper", name, CITATIONS)
    return "\n\n".join(CITATIONS[name].bibtex(name) for name in names or CITATIONS)
