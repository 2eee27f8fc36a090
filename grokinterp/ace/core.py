"""An algorithmic core: the few directions at one hook that are both active and read, and what can be done to them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from grokinterp.checks import conformed, shown
from grokinterp.errors import GrokinterpError
from grokinterp.files import parse_json, read_tensors_and_facts, write_tensors
from grokinterp.interventions import HookFunction, Intervention
from grokinterp.models.adapter import Adapter, index_of, placed
from grokinterp.models.edits import applied
from grokinterp.notebook import html_table
from grokinterp.outputs import CORE, output
from grokinterp.shapes import Positions
from grokinterp.tasks import Task

Activations = Float[Tensor, "*batch d_model"]
Coordinates = Float[Tensor, "*batch rank"]
Directions = Float64[Tensor, "d_model direction"]
Spectrum = Float64[Tensor, "singular_value"]
Mean = Float64[Tensor, "width"]

_FORMAT = "grokinterp core 1"
_TENSORS = {"directions", "spectrum", "mean"}
_FACTS = {"rank", "hook", "positions", "centred", "provenance"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Core:
    """The rank-r subspace through which activity at a hook reaches the outputs, with every wider core it is nested in.

    Directions are ordered: the first r of them span the core of rank r, for every r, so that `with_rank` costs nothing.

    Attributes:
        directions: orthonormal columns [d_model, direction], float64.
        rank: r, how many of them are the core.
        spectrum: all singular values of Lcᵀ Lo, descending.
        mean: μ, mean activation at the sampled positions.
        hook: where it was found and where it acts.
        positions: "all", or the index of the one position where it was sampled and acts.
        centred: whether projections act on h − μ (agreement) or on h itself (the toy experiments).
        provenance: how it was found, in words.
    """

    directions: Directions
    rank: int
    spectrum: Spectrum
    mean: Mean
    hook: str
    positions: Positions = "all"
    centred: bool = False
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, n_dimensions in (("directions", self.directions, 2), ("spectrum", self.spectrum, 1), ("mean", self.mean, 1)):
            if not isinstance(value, Tensor) or value.dtype != torch.float64 or value.ndim != n_dimensions or not bool(value.isfinite().all()):
                found = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
                raise GrokinterpError(f"the {name} of a core are finite float64 numbers in {n_dimensions} dimensions; got {found}")
        width, available = self.directions.shape
        if isinstance(self.rank, bool) or not isinstance(self.rank, Integral) or not 1 <= self.rank <= available:
            raise GrokinterpError(
                f"the rank of a core lies in 1 … {available}, its number of directions in {width} dimensions; got {shown(self.rank)}"
            )
        check_orthonormal(self.directions)
        if len(self.mean) != width:
            raise GrokinterpError(f"the mean has {len(self.mean)} dimensions and the directions have {width}")
        if not len(self.spectrum) or bool((self.spectrum < 0).any()) or bool((self.spectrum.diff() > 0).any()):
            raise GrokinterpError(f"the spectrum of a core is at least 0 and descends; got {shown(self.spectrum.tolist())}")
        if isinstance(self.positions, bool) or not (self.positions == "all" or isinstance(self.positions, Integral)):
            raise GrokinterpError(f'the positions of a core are "all" or the index of one; got {shown(self.positions)}')
        conformed(str, self.hook, "the hook of a core")
        conformed(bool, self.centred, "centred, of a core,")
        for name, text in conformed(Mapping, self.provenance, "the provenance of a core").items():
            conformed(str, text, f"the provenance of a core, {name!r},")

    def __repr__(self) -> str:
        where = "all positions" if self.positions == "all" else f"position {self.positions}"
        return f"Core({self.hook}, {where}: {self.rank} of {len(self.mean)} dimensions{', centred' if self.centred else ''})"

    def _repr_html_(self) -> str:
        energy = self.spectrum.square()
        rows = [
            ("hook", self.hook),
            ("dimensions", f"{self.rank} of {len(self.mean)}"),
            ("share of Σ S²", f"{float(energy[: self.rank].sum() / energy.sum()):.6f}"),
            ("leading singular values", ", ".join(f"{float(value):.3g}" for value in self.spectrum[: self.rank + 3])),
            ("acts on", f"{'h − μ' if self.centred else 'h'} at {'all positions' if self.positions == 'all' else f'position {self.positions}'}"),
            *self.provenance.items(),
        ]
        return html_table("Algorithmic core", rows)

    @property
    def basis(self) -> Directions:
        """Q: the core's orthonormal basis, [d_model, rank], float64."""
        return self.directions[:, : self.rank]

    @property
    def projector(self) -> Float64[Tensor, "d_model d_model"]:
        """P = QQᵀ, derived: nothing stores it."""
        return self.basis @ self.basis.T

    def with_rank(self, rank: int) -> Core:
        """The core of another rank from the same factorisation."""
        return replace(self, rank=rank)

    def project(self, activations: Activations) -> Coordinates:
        """Core coordinates Qᵀh, or Qᵀ(h − μ) of a centred core, [..., rank], float64.

        Raises:
            GrokinterpError: activations of another width.
        """
        if activations.shape[-1] != len(self.mean):
            raise GrokinterpError(f"this core lives in {len(self.mean)} dimensions; got activations of shape {tuple(activations.shape)}")
        x = activations.double()
        return (x - self.mean.to(x.device) if self.centred else x) @ self.basis.to(x.device)

    def keep(self) -> Project:
        """Only the core: h → Ph."""
        return self._project(inside=1.0, outside=0.0)

    def remove(self) -> Project:
        """All but the core: h → h − Ph."""
        return self._project(inside=0.0, outside=1.0)

    def flip(self) -> Project:
        """The core mirrored: h → h − 2Ph."""
        return self._project(inside=-1.0, outside=1.0)

    def scale(self, s: float) -> Project:
        """The core times s: h → h + (s − 1)Ph."""
        return self._project(inside=float(s), outside=1.0)

    def _project(self, inside: float, outside: float) -> Project:
        return Project(self.basis, self.hook, inside, outside, self.positions, self.mean if self.centred else None)

    def save(self, path: Path | str, *, force: bool = False) -> None:
        """Write the core as safetensors, atomically.

        Args:
            path: the file; a core that stands there is replaced.
            force: replace a file of another kind, too.

        Raises:
            GrokinterpError: nothing may or can be written there.
        """
        facts = {
            "rank": self.rank,
            "hook": self.hook,
            "positions": self.positions,
            "centred": self.centred,
            "provenance": dict(self.provenance),
        }
        tensors = {"directions": self.directions, "spectrum": self.spectrum, "mean": self.mean}
        with output(path, CORE, force=force) as temporary:
            write_tensors(temporary, tensors, {"format": _FORMAT, "core": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path | str) -> Core:
        """Read a core that `save` wrote; nothing in the file is executed.

        Raises:
            GrokinterpError: the file is missing, damaged, or holds something else.
        """
        tensors, said = read_tensors_and_facts(Path(path))
        if said.get("format") != _FORMAT:
            raise GrokinterpError(f"{path} holds no core: its format is {said.get('format', 'not given')!r}, expected {_FORMAT!r}")
        facts = parse_json(said.get("core", "null"), f"the core in {path}")
        for what, found, names in (("tensors", tensors, _TENSORS), ("facts", facts, _FACTS)):
            if not isinstance(found, dict) or found.keys() != names:
                listed = shown(sorted(found) if isinstance(found, dict) else found)
                raise GrokinterpError(f"{path} holds no core: its {what} are {', '.join(sorted(names))}; got {listed}")
        try:
            return cls(**{**tensors, **facts})
        except GrokinterpError as error:
            raise GrokinterpError(f"{path} holds no core: {error}") from error


@dataclass(frozen=True, eq=False)
class Project(Intervention):
    """h → outside·h + (inside − outside)·Ph at one hook: keep, remove, flip and scale in one formula.

    With a mean μ it acts on h − μ, and μ is added back. Out of place, so that gradients pass through it.

    Attributes:
        basis: Q with P = QQᵀ, orthonormal columns [d_model, rank].
        hook: name of the hook.
        inside: factor of what lies in the core.
        outside: factor of what lies outside.
        positions: "all", or the index of one position (negative counts from the end).
        mean: μ, or None for the uncentred form.
    """

    basis: Directions = field(repr=False)
    hook: str
    inside: float
    outside: float
    positions: Positions = "all"
    mean: Mean | None = field(default=None, repr=False)

    def hooks(self, model: Any, task: Task | None = None) -> list[tuple[str, HookFunction]]:
        """See `Intervention.hooks`; the task plays no part.

        Raises:
            GrokinterpError: a hook that the model lacks; when run, activations of another width or a position that the batch lacks.
        """
        Adapter(model).check_hook(self.hook)
        return [(self.hook, self._edit)]

    @contextlib.contextmanager
    def applied(self, model: Any, task: Task | None = None) -> Iterator[Any]:
        """See `Intervention.applied`; the task plays no part."""
        self.check_backend(model)
        with applied(model, self.hooks(model)):
            yield model

    def __call__(self, activations: Activations) -> Activations:
        """The edited activations, [..., d_model], computed in their own precision but at least float32."""
        if activations.shape[-1] != len(self.basis):
            raise GrokinterpError(
                f"this core lives in {len(self.basis)} dimensions; the activations at {self.hook} have shape {tuple(activations.shape)}"
            )
        h = activations.to(torch.promote_types(activations.dtype, torch.float32))
        q = self.basis.to(h)
        x = h if self.mean is None else h - self.mean.to(h)
        edited = self.outside * x + (self.inside - self.outside) * ((x @ q) @ q.T)
        return (edited if self.mean is None else edited + self.mean.to(h)).to(activations.dtype)

    def _edit(self, value: Tensor, hook: Any) -> Tensor:
        if self.positions == "all":
            return self(value)
        at = index_of(self.positions, value.shape[1])
        return placed(value, self(value[:, at : at + 1]), at)


def check_orthonormal(basis: Tensor) -> None:
    """Raise a GrokinterpError unless the columns are orthonormal to 1e-8."""
    gram = basis.T @ basis
    deviation = float((gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max())
    if not deviation <= 1e-8:
        raise GrokinterpError(f"a basis needs orthonormal columns, in float64; QᵀQ is {deviation:.1e} off the identity; use torch.linalg.qr(basis).Q")
