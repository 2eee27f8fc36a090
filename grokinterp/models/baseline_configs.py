"""Architectures without attention, as data: an MLP, an LSTM and a Mamba classifier, to be compared with transformers.

They are built by `build_model` (see `baselines.py` for what they compute) and take a `ModelConfig`'s place in a `RunConfig`. Defaults are
those of "Weight Decay Regimes in Grokking Transformers" (arXiv 2605.20441), whose inputs are the two operands alone: give it a task with
``equals=False``. With p = 97 the LSTM then has the paper's 7,680,640 parameters and Mamba its 957,952.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias, TypeVar

from grokinterp.checks import check_fields
from grokinterp.errors import GrokinterpError
from grokinterp.tasks import Task

Outputs = Literal["vocab", "classes"]
Inputs = Literal["concatenated", "mean", "sum"]
_Kind = TypeVar("_Kind")
WIDEST = 2**16  # of every size in a config; chosen here, so that a damaged config is refused before anything is allocated


@dataclass(frozen=True)
class BaselineConfig:
    """What every architecture without attention has.

    All weights are drawn as PyTorch draws them by default (chosen here): embeddings N(0, 1), linear maps uniform on ±1/√fan_in; where
    an architecture differs, that is said at its class. The unembedding is a matrix of its own, without a bias.

    Attributes:
        n_layers: number of layers between embedding and unembedding.
        d_model: width of the embedding.
        outputs: "vocab" for one logit a token, "classes" for one logit an answer.
    """

    n_layers: int = 4
    d_model: int = 128
    outputs: Outputs = "vocab"

    def __post_init__(self) -> None:
        check_fields(self)
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int) and value < 1:
                raise GrokinterpError(f"{each.name} must be at least 1; got {value}")
            if isinstance(value, int) and value > WIDEST:
                raise GrokinterpError(f"{each.name} must be at most {WIDEST:,}; got {value}")

    @property
    def interventions(self) -> tuple[()]:
        """None: what is in force in a `ModelConfig` acts on transformers."""
        return ()

    def intervention(self, kind: type[_Kind]) -> _Kind | None:
        """None, see `interventions`."""
        return None

    def n_outputs(self, task: Task) -> int:
        """Number of logits on a task."""
        return task.n_vocab if self.outputs == "vocab" else task.n_classes


@dataclass(frozen=True)
class MLPConfig(BaselineConfig):
    """A multi-layer perceptron that sees all tokens of an input at once: ReLU layers with biases, then the unembedding.

    The paper does not state its input format; concatenated embeddings are chosen here. "mean" and "sum" make it blind to their order.

    Attributes:
        d_hidden: units of each layer.
        inputs: "concatenated" embeddings of all tokens, their "mean", or their "sum".
    """

    d_hidden: int = 512
    inputs: Inputs = "concatenated"
    kind: str = field(default="mlp", init=False, repr=False)


@dataclass(frozen=True)
class TwoSidedMLPConfig(BaselineConfig):
    """One hidden layer of ReLUs to which each operand adds: logits = relu(Σ_i W_E[t_i] W_i) W_U, without biases (arXiv 2302.03025's MLP).

    Weights are drawn N(0, 1/d_model) in W_E and N(0, 1/fan_in) elsewhere, as there. It is the concatenated `MLPConfig` of one layer without its
    biases; what each token adds to each neuron has a hook of its own. Give it a task with ``separate=True`` for the paper's two embeddings, and
    ``equals=False``.

    Attributes:
        d_hidden: neurons.
    """

    n_layers: int = 1
    d_model: int = 256
    outputs: Outputs = "classes"
    d_hidden: int = 128
    kind: str = field(default="two_sided_mlp", init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_layers != 1:
            raise GrokinterpError(f"a two-sided MLP has one hidden layer; got n_layers = {self.n_layers}")


@dataclass(frozen=True)
class LSTMConfig(BaselineConfig):
    """A long short-term memory: layers of gated cells that pass over the tokens in turn, with both of PyTorch's bias vectors.

    Weights and biases of a layer are uniform on ±1/√d_hidden.

    Attributes:
        d_hidden: units of each layer.
    """

    d_hidden: int = 512
    kind: str = field(default="lstm", init=False, repr=False)


@dataclass(frozen=True)
class MambaConfig(BaselineConfig):
    """Mamba: pre-LN residual blocks with a causal convolution, a selective state space and a gate (arXiv 2312.00752), and a final LayerNorm.

    Biases are those of the convolution, of Δ and of the LayerNorms; with them p = 97 gives the parameter count. A starts at −1 … −d_state,
    D at 1, softplus(Δ's bias) log-uniform in [0.001, 0.1] and Δ's weights uniform on ±1/√dt_rank, as in the reference.

    Attributes:
        expand: inner width over d_model.
        d_state: states of each inner channel.
        d_conv: positions that the convolution sees, the present one included.
        dt_rank: rank of the map to Δ.
    """

    expand: int = 4
    d_state: int = 16
    d_conv: int = 4
    dt_rank: int = 8
    kind: str = field(default="mamba", init=False, repr=False)

    @property
    def d_inner(self) -> int:
        """Inner width, expand · d_model."""
        return self.expand * self.d_model


Baselines: TypeAlias = MLPConfig | TwoSidedMLPConfig | LSTMConfig | MambaConfig
