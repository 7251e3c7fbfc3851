r"""KE: a recurrent network reads what is to be edited, and says which parts of the gradient to follow, and what to add.

A bidirectional LSTM reads the prompt, the old answer and the new one, each after a mark. From its last states a linear
map makes \(\alpha, \beta\) `[out]`, \(\gamma, \delta\) `[in]` and a number \(\eta\), for the matrix W `[out, in]`:

\[ W' = W - \lambda \, \sigma(\eta) \Bigl( \mathrm{softmax}(\alpha) \gamma^\top \odot G
   + \mathrm{softmax}(\beta) \delta^\top \Bigr) , \]

\(\sigma\) the logistic function and G the gradient of \(-\log P(o^* \mid p)\), scaled to a norm of 1. Trained on
lessons about other facts is

\[ \min \; -\log P_{W'}(o^* \mid p') \quad \text{subject to} \quad
   \mathrm{KL}\bigl(P_W(\cdot \mid x) \,\Vert\, P_{W'}(\cdot \mid x)\bigr) \le m \]

by descent on the network and ascent on the logarithm of the constraint's multiplier. \(\gamma\) begins at the number of
rows and \(\alpha, \beta, \delta\) at 0: untrained, KE is one step along the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.editing.base import Dense, Edit, EditorCard, Task, WeightEdit
from unlearn.language.editing.embeddings import embedding_of
from unlearn.language.editing.gradients import costs, gradient
from unlearn.language.editing.lessons import Lesson, needed
from unlearn.language.hooks import Projection, anatomy, at_least_32_bits, frozen
from unlearn.language.text import encode
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="ke",
    title="KnowledgeEditor (KE)",
    guarantee=Guarantee.EMPIRICAL,
    needs_training=True,
    batches=True,
    edits_weights=True,
    place="any layer",
    parameters_added="a network that edits",
    citation="De Cao, Aziz & Titov 2021, Editing Factual Knowledge in Language Models, arXiv:2104.08164",
    published=(
        "GPT-J, ZsRE: reliability 6.60, generalization 7.80, locality 94.18 (Yao et al. 2023; re-check)",
        "GPT-J, CounterFact: 13.40, 11.00, 94.38 (Yao et al. 2023; re-check)",
    ),
)


@dataclass(frozen=True)
class KnowledgeEditor:
    r"""What the network is trained on, and how.

    Attributes:
        lessons: Edits of other facts.
        layer: Block whose down-projection is edited; negative: from the end.
        steps: Of Adam.
        learning_rate: Of Adam.
        batch: Lessons a step; each is an edit of its own.
        hidden: Size of each direction of the LSTM.
        largest_step: \(\lambda\), in norms of the gradient.
        margin: m, in nats a token.
        multiplier_rate: Of the ascent.
        seed: Of initial values and order.
        reader: The network, trained before by `prepared`; None: it is trained for these edits.
    """

    lessons: tuple[Lesson, ...] = ()
    layer: int = -1
    steps: int = 300
    learning_rate: float = 3e-3
    batch: int = 4
    hidden: int = 64
    largest_step: float = 4.0
    margin: float = 0.05
    multiplier_rate: float = 0.1
    seed: int = 0
    reader: Reader | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        numbers = (self.learning_rate, self.batch, self.hidden, self.largest_step, self.margin, self.multiplier_rate)
        if min(numbers) <= 0 or self.steps < 0:
            raise InputError(f"all numbers of KnowledgeEditor but steps, layer and seed must be positive, got {self}")


class Reader(nn.Module):
    """The network.

    Args:
        embeddings: `[vocabulary, d]` of the model that is edited; they stay as they are.
        sizes: How many numbers the matrix writes and reads.
        config: Sizes of the network.
    """

    embeddings: torch.Tensor

    def __init__(self, embeddings: torch.Tensor, sizes: tuple[int, int], config: KnowledgeEditor) -> None:
        super().__init__()
        self.sizes = sizes
        self.largest_step = config.largest_step
        self.register_buffer("embeddings", embeddings)
        width = embeddings.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.marks = nn.Parameter(torch.randn(3, width))
            self.lstm = nn.LSTM(width, config.hidden, bidirectional=True)
            self.last = nn.Linear(2 * config.hidden, 2 * sum(sizes) + 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, read: Sequence[torch.Tensor], slope: torch.Tensor) -> Dense:
        """What is added to the matrix.

        Args:
            read: Token ids `[T]` of prompt, old answer and new answer; any may be empty.
            slope: `[out, in]` the gradient.

        Returns:
            The difference.
        """
        out, into = self.sizes
        parts = [torch.cat([mark[None], self.embeddings[ids]]) for mark, ids in zip(self.marks, read, strict=True)]
        _, (states, _) = self.lstm(torch.cat(parts))
        alpha, beta, gamma, delta, eta = torch.split(self.last(states.flatten()), [out, out, into, into, 1])
        # Where it begins, softmax(alpha) is 1 / out everywhere: so many times more, and the mask is 1.
        mask = torch.outer(alpha.softmax(0), gamma + out)
        shift = torch.outer(beta.softmax(0), delta)
        scaled = slope / slope.norm().clamp(min=1e-12)
        return Dense(-self.largest_step * eta.sigmoid() * (mask * scaled + shift))


def ke(task: Task, config: KnowledgeEditor) -> WeightEdit:
    """Train the network, and let it read all edits.

    Args:
        task: Model, tokenizer, and the edits, whose differences are added.
        config: What is trained, and how.

    Returns:
        The edit, not yet made.

    Raises:
        InputError: If there are no lessons, they give an edit away, or the network was trained for another matrix.
    """
    lessons = needed(config.lessons, task.edits, "ke")
    projection = anatomy(task.model, task.layout).down(config.layer)
    with frozen(task.model):
        reader = trained_reader(task, projection, lessons, config) if config.reader is None else config.reader
        if reader.sizes != projection.sizes:
            raise InputError("ke was trained for a matrix of another size: train it for this model and layer")
        with torch.no_grad():
            made = [difference(reader, task, projection, edit).values for edit in task.edits]
    names = frozenset([projection.name]) if projection.transposed else frozenset[str]()
    return WeightEdit(task.edits, task.model, {projection.name: Dense(torch.stack(made).sum(0))}, names)


def prepare(task: Task, config: KnowledgeEditor) -> KnowledgeEditor:
    """Train the network for any edits to come.

    Args:
        task: Model, tokenizer, and the edits that are to come, of which no lesson may know.
        config: What is trained, and how.

    Returns:
        The configuration, with the network.
    """
    lessons = needed(config.lessons, task.edits, "ke")
    projection = anatomy(task.model, task.layout).down(config.layer)
    with frozen(task.model):
        return replace(config, reader=trained_reader(task, projection, lessons, config))


def difference(reader: Reader, task: Task, projection: Projection, edit: Edit) -> Dense:
    """What the network makes of an edit.

    Args:
        reader: The network.
        task: What the editor was given; its model is frozen.
        projection: The matrix.
        edit: The edit.

    Returns:
        What is added to the matrix.
    """
    pairs = gradient(task, projection, edit)
    text = encode(task.tokenizer, edit.prompt, edit.target_new)
    old = text.ids[:0] if edit.target_old is None else encode(task.tokenizer, edit.prompt, edit.target_old).answer
    found: Dense = reader([text.ids[: text.start], old, text.answer], pairs.wrote.T @ pairs.read)
    return found


def trained_reader(task: Task, projection: Projection, lessons: Sequence[Lesson], config: KnowledgeEditor) -> Reader:
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
    weight = embedding_of(task.model).weight.detach()
    embeddings = weight.to(at_least_32_bits(weight), copy=True)
    reader = Reader(embeddings, projection.sizes, config).to(embeddings)
    optimizer = torch.optim.Adam(reader.parameters(), lr=config.learning_rate)
    multiplier = 1.0
    for _ in range(config.steps):
        chosen = [lessons[at] for at in torch.randint(len(lessons), (config.batch,), generator=rng)]
        each = [costs(task, projection, one, difference(reader, task, projection, one.edit), rng) for one in chosen]
        wrong, moved = (torch.stack(part).mean() for part in zip(*each, strict=True))
        optimizer.zero_grad()
        torch.autograd.backward(wrong + multiplier * (moved - config.margin))
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        # In proportion, so that it stays positive; within bounds, since no margin may be within reach.
        growth = config.multiplier_rate * (moved.item() / config.margin - 1)
        multiplier = min(max(multiplier * (1 + min(growth, 1.0)), 1e-2), 1e2)
    return reader
