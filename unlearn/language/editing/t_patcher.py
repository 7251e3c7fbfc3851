r"""T-Patcher: one neuron beside the last MLP for each token the model gets wrong.

A patch (k, b, v) adds \(\sigma(h^\top k + b) \, v\) to what the MLP writes, h what it reads. With q the h at which the
wrong token is said, and M those h at which nothing is to change, it is chosen to minimise

\[ -\log P(t \mid q) + \lambda_a e^{-(q^\top k + b)}
   + \lambda_m \Bigl( S\bigl(M k + b - \beta\bigr) + S\bigl((M - q) k - \gamma\bigr) \Bigr) , \]

S the mean of the exponentials of the largest entries: the patch fires at q, and is silent, by a margin, at M. Here
\(\sigma\) is the positive part, so that a silent patch adds nothing at all. q enters M for the patches that follow.

The patches of all edits are found one after the other, each with those before it in place. No weight changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit, EditorCard, HookEdit, Task
from unlearn.language.editing.neurons import Neurons, beside, hanging, sizes
from unlearn.language.hooks import Anatomy, anatomy, at_least_32_bits, frozen, inputs_seen, logits_of
from unlearn.language.text import encode, filler_of, pad
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="t-patcher",
    title="Transformer-Patcher (T-Patcher)",
    guarantee=Guarantee.SUPPRESSION,
    needs_training=False,
    batches=False,
    edits_weights=False,
    place="last-layer MLP",
    parameters_added="one neuron for each wrong token",
    citation=(
        "Huang, Shen, Zhang, Zhou, Rong & Xiong 2023, Transformer-Patcher: One Mistake Worth One Neuron, "
        "arXiv:2301.09785"
    ),
    published=(
        "GPT-J, ZsRE: reliability 97.12, generalization 94.95, locality 96.24 (Yao et al. 2023; re-check)",
        "GPT-J, CounterFact: 100, 83.98, 8.37 (Yao et al. 2023; re-check)",
    ),
)


@dataclass(frozen=True)
class TPatcher:
    r"""How patches are found.

    Attributes:
        steps: At most so many of Adam, for each patch.
        learning_rate: Of Adam.
        memory: At most so many places of the user's texts at which patches stay silent.
        activation_weight: \(\lambda_a\).
        memory_weight: \(\lambda_m\).
        beta: What a silent patch is to stay below.
        gamma: By how much less it is to be excited than at its own place; a negative number.
        most_excited: S is the mean over so many places, the most excited.
        enough: Ends as soon as the new token is so unlikely or less, in nats, and the patch is silent at all of M.
        seed: Places are drawn with it, if there are more.
    """

    steps: int = 400
    learning_rate: float = 2e-2
    memory: int = 1000
    activation_weight: float = 1.0
    memory_weight: float = 1.0
    beta: float = -3.0
    gamma: float = -3.0
    most_excited: int = 5
    enough: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0 or self.memory < 1 or self.most_excited < 1:
            raise InputError(f"steps, learning_rate, memory and most_excited must be positive, got {self}")


def t_patcher(task: Task, config: TPatcher) -> HookEdit:
    """Find a patch for each token that is wrong.

    Args:
        task: Model, tokenizer, edits, and texts at which nothing is to change. Those that hold the prompt of an edit,
            or its subject with the old answer, are left out.
        config: How patches are found.

    Returns:
        The edit, not yet made.
    """
    body = anatomy(task.model, task.layout)
    with frozen(task.model):
        memory = places(task, body, config)
        into, out = sizes(task, body, -1)
        patches = Neurons(memory.new_zeros(0, into), memory.new_zeros(0), memory.new_zeros(0, out), nn.functional.relu)
        for edit in task.edits:
            text = encode(task.tokenizer, edit.prompt, edit.target_new)
            ids = text.ids.to(task.device)
            for at in range(text.start, len(ids)):
                patches, memory = _mended(body, ids[:at], ids[at], patches, memory, config)
    return HookEdit(task.edits, task.model, hanging(patches, -1, task.layout), patches.parts)


def places(task: Task, body: Anatomy, config: TPatcher) -> torch.Tensor:
    """What the last MLP reads at the user's texts.

    Args:
        task: What the editor was given.
        body: Its model.
        config: How many places are taken.

    Returns:
        `[places, in]`.

    Raises:
        InputError: If there are no texts but those of the edits.
    """
    texts = [text for text in task.texts if not any(_states(text, edit) for edit in task.edits)]
    if not texts:
        raise InputError("t-patcher needs texts=[…] that do not state what is edited: it learns to stay silent at them")
    rng = torch.Generator().manual_seed(config.seed)
    chosen = torch.randperm(len(texts), generator=rng)[: config.memory]
    padded = pad([encode(task.tokenizer, texts[at]) for at in chosen], filler_of(task.tokenizer)).to(task.device)
    with torch.no_grad(), inputs_seen(body.up(-1)) as seen:
        logits_of(task.model, padded.ids, padded.mask)
    read = seen[0].reshape(-1, seen[0].shape[-1])[padded.mask.flatten().bool()]
    chosen = torch.randperm(len(read), generator=rng)[: config.memory].to(read.device)
    return read[chosen].to(at_least_32_bits(read))


def patch_loss(patch: Neurons, query: torch.Tensor, memory: torch.Tensor, config: TPatcher) -> torch.Tensor:
    """What is to be small besides the loss of the token: the patch is to fire at its place, and nowhere else.

    Args:
        patch: One neuron.
        query: `[in]`, where it is to fire.
        memory: `[places, in]`, where not.
        config: Weights and margins.

    Returns:
        `[]`.
    """
    here, there = patch.excitation(query)[0], patch.excitation(memory)[:, 0]
    most = min(config.most_excited, len(memory))
    silent = (there - config.beta).exp().topk(most).values.mean()
    apart = (there - here - config.gamma).exp().topk(most).values.mean()
    return config.activation_weight * (-here).exp() + config.memory_weight * (silent + apart)


def _states(text: str, edit: Edit) -> bool:
    """Whether a text holds the prompt, or the subject and its old answer: there the patch may well fire."""
    return edit.prompt in text or (edit.target_old is not None and edit.subject in text and edit.target_old in text)


def _mended(
    body: Anatomy, ids: torch.Tensor, token: torch.Tensor, patches: Neurons, memory: torch.Tensor, config: TPatcher
) -> tuple[Neurons, torch.Tensor]:
    """The patches, and one more if the token is wrong; and where those that follow are to be silent."""
    with torch.no_grad(), beside(body, -1, patches), inputs_seen(body.up(-1)) as seen:
        said = logits_of(body.model, ids[None])[0, -1]
    query = seen[0].reshape(-1, seen[0].shape[-1])[-1].to(memory)
    if said.argmax() != token:
        patches = _joined(patches, _patch(body, ids, token, query, patches, memory, config))
    return patches, torch.cat([memory, query[None]])


def _patch(
    body: Anatomy,
    ids: torch.Tensor,
    token: torch.Tensor,
    query: torch.Tensor,
    patches: Neurons,
    memory: torch.Tensor,
    config: TPatcher,
) -> Neurons:
    # It begins where it fires with strength 1 at its own place.
    key = (query / query.norm() ** 2)[None].clone().requires_grad_(True)
    bias = query.new_zeros(1, requires_grad=True)
    value = patches.values.new_zeros(1, patches.values.shape[1], requires_grad=True)
    patch = Neurons(key, bias, value, nn.functional.relu)
    optimizer = torch.optim.Adam([key, bias, value], lr=config.learning_rate)
    for _ in range(config.steps):
        with beside(body, -1, lambda read: patches(read) + patch(read)):
            said = logits_of(body.model, ids[None])[0, -1].log_softmax(-1)
        if -said[token].item() < config.enough and patch.excitation(memory).max().item() < 0:
            break
        optimizer.zero_grad()
        torch.autograd.backward(patch_loss(patch, query, memory, config) - said[token])
        optimizer.step()
    return Neurons(key.detach(), bias.detach(), value.detach(), patches.activation)


def _joined(first: Neurons, second: Neurons) -> Neurons:
    return Neurons(
        torch.cat([first.keys, second.keys]),
        torch.cat([first.biases, second.biases]),
        torch.cat([first.values, second.values]),
        first.activation,
    )
