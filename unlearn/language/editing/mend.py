r"""MEND: a small network turns the gradient of one matrix into an edit, and is trained so that the edit is a good one.

The gradient of \(-\log P(o^* \mid p)\) by a matrix W `[out, in]` is a sum over tokens of outer products

\[ \nabla_W L = \sum_t \delta_t u_t^\top \]

of what W reads, u, and the gradient by what it writes, \(\delta\). The network \(g_\phi\) changes each pair,

\[ (\tilde u_t, \tilde \delta_t) = g_\phi(u_t, \delta_t), \qquad
   W' = W - \alpha \sum_t \tilde \delta_t \tilde u_t^\top , \]

and is trained with \(\alpha\) on lessons about other facts, with c weighing the edit against what is to stay, by

\[ c \, \bigl(-\log P_{W'}(o^* \mid p')\bigr)
   + \mathrm{KL}\bigl(P_W(\cdot \mid x) \,\Vert\, P_{W'}(\cdot \mid x)\bigr) , \]

p' another wording and x a prompt about something else. \(g_\phi\) normalises its input by the mean and deviation seen
in the lessons, is the identity plus \(A_2 \, \mathrm{relu}(A_1 z + b)\), and begins as the identity since
\(A_2 = 0\): without training, MEND is one step of gradient descent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.editing.base import EditorCard, LowRank, Task, WeightEdit
from unlearn.language.editing.gradients import Pairs, costs, gradient
from unlearn.language.editing.lessons import Lesson, needed
from unlearn.language.hooks import Projection, anatomy, frozen
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="mend",
    title="Model editor networks with gradient decomposition (MEND)",
    guarantee=Guarantee.EMPIRICAL,
    needs_training=True,
    batches=True,
    edits_weights=True,
    place="any layer",
    parameters_added="a network that edits",
    citation="Mitchell, Lin, Bosselut, Finn & Manning 2022, Fast Model Editing at Scale, arXiv:2110.11309",
    published=(
        "GPT-J, ZsRE: reliability 98.15, generalization 97.66, locality 97.39 (Yao et al. 2023; re-check)",
        "GPT-J, CounterFact: 73.80, 74.20, 93.75 (Yao et al. 2023; re-check)",
    ),
)


_SMALLEST = 0.01
"""Deviation that counts, in those of all numbers of its half."""


@dataclass(frozen=True)
class Mend:
    r"""What the network is trained on, and how.

    Attributes:
        lessons: Edits of other facts.
        layer: Block whose down-projection is edited; negative: from the end.
        steps: Of Adam.
        learning_rate: Of Adam.
        batch: Lessons a step; each is an edit of its own.
        rank: Rows of \(A_1\).
        step_size: \(\alpha\) to begin with.
        edit_weight: c. The paper's is 0.1, for larger models and longer training.
        seed: Of initial values and order.
        network: One that was trained before, by `prepared`; None: it is trained for these edits.
    """

    lessons: tuple[Lesson, ...] = ()
    layer: int = -1
    steps: int = 300
    learning_rate: float = 3e-3
    batch: int = 4
    rank: int = 64
    step_size: float = 0.1
    edit_weight: float = 1.0
    seed: int = 0
    network: Network | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        numbers = (self.learning_rate, self.batch, self.rank, self.step_size, self.edit_weight)
        if min(numbers) <= 0 or self.steps < 0:
            raise InputError(f"all numbers of Mend but steps, layer and seed must be positive, got {self}")


class Network(nn.Module):
    """What turns a gradient into an edit.

    Args:
        seen: Pairs of many lessons, by whose mean and deviation the input is normalised.
        config: Sizes.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    scale: torch.Tensor

    def __init__(self, seen: Pairs, config: Mend) -> None:
        super().__init__()
        joined = torch.cat([seen.read, seen.wrote], 1)
        width = joined.shape[1]
        rng = torch.Generator().manual_seed(config.seed)
        self.register_buffer("mean", joined.mean(0))
        self.register_buffer("deviation", torch.cat([_deviation(part) for part in (seen.read, seen.wrote)]))
        # Each half is changed in units of its own length, which differ by orders of magnitude.
        lengths = [
            part.norm(dim=1).mean().expand(part.shape[1]) / part.shape[1] ** 0.5 for part in (seen.read, seen.wrote)
        ]
        self.register_buffer("scale", torch.cat(lengths))
        self.first = nn.Parameter((torch.randn(config.rank, width, generator=rng) / width**0.5).to(joined))
        self.bias = nn.Parameter(joined.new_zeros(config.rank))
        self.second = nn.Parameter(joined.new_zeros(width, config.rank))
        self.step = nn.Parameter(joined.new_tensor(config.step_size).log())

    def forward(self, pairs: Pairs) -> Pairs:
        """Change each pair.

        Args:
            pairs: A gradient.

        Returns:
            The edit, before its step size.
        """
        joined = torch.cat([pairs.read, pairs.wrote], 1)
        hidden = ((joined - self.mean) / self.deviation @ self.first.T + self.bias).relu()
        changed = joined + self.scale * (hidden @ self.second.T)
        into = pairs.read.shape[1]
        return Pairs(changed[:, :into], changed[:, into:])

    def edit(self, pairs: Pairs) -> LowRank:
        """What is added to the matrix.

        Args:
            pairs: A gradient.

        Returns:
            Of rank at most the number of tokens.
        """
        found = self(pairs)
        return LowRank(-self.step.exp() * found.wrote.T, found.read)


def _deviation(part: torch.Tensor) -> torch.Tensor:
    """Of each number, `[d]`, and at least a share of that of all."""
    # A neuron that lessons hardly excite has none, and an edit that excites it would be changed without bound.
    found = part.std(0)
    return found.clamp(min=max(_SMALLEST * float(found.square().mean().sqrt()), 1e-12))


def mend(task: Task, config: Mend) -> WeightEdit:
    """Train the network, and let it turn the gradients of all edits into one.

    Args:
        task: Model, tokenizer, and the edits, whose differences are added.
        config: What is trained, and how.

    Returns:
        The edit, not yet made: a matrix of at most as many ranks as the edits have tokens.

    Raises:
        InputError: If there are no lessons, they give an edit away, or the network was trained for another matrix.
    """
    lessons = needed(config.lessons, task.edits, "mend")
    projection = anatomy(task.model, task.layout).down(config.layer)
    with frozen(task.model):
        network = trained(task, projection, lessons, config) if config.network is None else config.network
        if len(network.mean) != sum(projection.sizes):
            raise InputError("mend was trained for a matrix of another size: train it for this model and layer")
        with torch.no_grad():
            made = [network.edit(gradient(task, projection, edit)) for edit in task.edits]
    joined = LowRank(torch.cat([one.left for one in made], 1), torch.cat([one.right for one in made]))
    names = frozenset([projection.name]) if projection.transposed else frozenset[str]()
    return WeightEdit(task.edits, task.model, {projection.name: joined}, names)


def prepare(task: Task, config: Mend) -> Mend:
    """Train the network for any edits to come.

    Args:
        task: Model, tokenizer, and the edits that are to come, of which no lesson may know.
        config: What is trained, and how.

    Returns:
        The configuration, with the network.
    """
    lessons = needed(config.lessons, task.edits, "mend")
    projection = anatomy(task.model, task.layout).down(config.layer)
    with frozen(task.model):
        return replace(config, network=trained(task, projection, lessons, config))


def trained(task: Task, projection: Projection, lessons: Sequence[Lesson], config: Mend) -> Network:
    """Train the network.

    Args:
        task: What the editor was given; its model is frozen.
        projection: The matrix.
        lessons: What is learned from.
        config: How.

    Returns:
        The network.
    """
    rng = torch.Generator().manual_seed(config.seed)
    some = [lessons[at] for at in torch.randperm(len(lessons), generator=rng)[:64]]
    seen = [gradient(task, projection, lesson.edit) for lesson in some]
    network = Network(Pairs(torch.cat([one.read for one in seen]), torch.cat([one.wrote for one in seen])), config)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    for _ in range(config.steps):
        chosen = [lessons[at] for at in torch.randint(len(lessons), (config.batch,), generator=rng)]
        optimizer.zero_grad()
        for lesson in chosen:
            edit = network.edit(gradient(task, projection, lesson.edit))
            wrong, moved = costs(task, projection, lesson, edit, rng)
            torch.autograd.backward((config.edit_weight * wrong + moved) / config.batch)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network
