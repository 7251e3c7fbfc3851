r"""CaliNET: some neurons beside the last MLP, trained to tell the true facts from the false ones.

\[ \mathrm{FFN}'(h) = \mathrm{FFN}(h) + \sigma(h \tilde K^\top) \, \tilde V \]

Nothing else is trained. For each edit the new answer \(o^*\) is true, the old one o false; minimised is the mean of

\[ -\log P(o^* \mid p) + \mu \, \log\bigl(1 + P(o \mid p) / P(o^* \mid p)\bigr) , \]

the second term where an old answer is given. \(\tilde V\) begins at 0: before the first step nothing is changed.
Nothing holds the neurons silent elsewhere, which is why locality is poor in the survey. No weight changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.editing.base import EditorCard, HookEdit, Task
from unlearn.language.editing.fine_tuning import answer_loss
from unlearn.language.editing.neurons import Neurons, beside, hanging, sizes
from unlearn.language.hooks import Anatomy, anatomy, at_least_32_bits, frozen, logits_of
from unlearn.language.text import Padded, encode, filler_of, pad
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="calinet",
    title="Calibration of factual knowledge (CaliNET)",
    guarantee=Guarantee.SUPPRESSION,
    needs_training=False,
    batches=True,
    edits_weights=False,
    place="last-layer MLP",
    parameters_added="some neurons, shared by all edits",
    citation=(
        "Dong, Dai, Song, Xu, Sui & Li 2022, Calibrating Factual Knowledge in Pretrained Language Models, "
        "arXiv:2210.03329"
    ),
    published=(
        "GPT-J, ZsRE: reliability 22.72, generalization 32.82, locality 12.03 (Yao et al. 2023; re-check)",
        "GPT-J, CounterFact: 43.58, 38.66, 2.69 (Yao et al. 2023; re-check)",
    ),
)


@dataclass(frozen=True)
class CaliNet:
    r"""How neurons are trained.

    Attributes:
        neurons: How many there are.
        steps: At most so many, of Adam.
        learning_rate: Of Adam.
        false_weight: \(\mu\).
        enough: Ends as soon as the loss is below this.
        seed: Keys begin at random.
    """

    neurons: int = 64
    steps: int = 200
    learning_rate: float = 1e-2
    false_weight: float = 1.0
    enough: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.neurons < 1 or self.steps < 0 or not self.learning_rate > 0 or self.false_weight < 0:
            raise InputError(
                f"neurons and learning_rate must be positive, steps and false_weight not negative, got {self}"
            )


def calinet(task: Task, config: CaliNet) -> HookEdit:
    """Train neurons on the true and false answers.

    Args:
        task: Model, tokenizer, and the edits, which are made together.
        config: How neurons are trained.

    Returns:
        The edit, not yet made.
    """
    body = anatomy(task.model, task.layout)
    with frozen(task.model):
        neurons = _begun(task, body, config)
        optimizer = torch.optim.Adam([neurons.keys, neurons.values], lr=config.learning_rate)
        for _ in range(config.steps):
            with beside(body, -1, neurons):
                loss = calibration_loss(task, config.false_weight)
            if loss.item() < config.enough:
                break
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    done = Neurons(neurons.keys.detach(), neurons.biases, neurons.values.detach(), neurons.activation)
    return HookEdit(task.edits, task.model, hanging(done, -1, task.layout), done.parts)


def calibration_loss(task: Task, false_weight: float) -> torch.Tensor:
    r"""What the neurons are trained to make small.

    Args:
        task: What the editor was given.
        false_weight: \(\mu\).

    Returns:
        `[]`, of the model as it is.
    """
    true = _asked(task, [(edit.prompt, edit.target_new) for edit in task.edits])
    loss = answer_loss(logits_of(task.model, true.ids, true.mask), true)
    known = [edit for edit in task.edits if edit.target_old is not None]
    if not known:
        return loss
    likely = _log_probability(task, _asked(task, [(edit.prompt, edit.target_new) for edit in known]))
    unlikely = _log_probability(task, _asked(task, [(edit.prompt, str(edit.target_old)) for edit in known]))
    return loss + false_weight * nn.functional.softplus(unlikely - likely).mean()


def _begun(task: Task, body: Anatomy, config: CaliNet) -> Neurons:
    into, out = sizes(task, body, -1)
    rng = torch.Generator().manual_seed(config.seed)
    weight = body.down(-1).weight
    drawn = torch.randn(config.neurons, into, generator=rng) / into**0.5
    keys = drawn.to(weight.device, at_least_32_bits(weight)).requires_grad_(True)
    values = keys.new_zeros(config.neurons, out).requires_grad_(True)
    return Neurons(keys, keys.new_zeros(config.neurons), values, nn.functional.gelu)


def _asked(task: Task, pairs: list[tuple[str, str]]) -> Padded:
    texts = [encode(task.tokenizer, prompt, answer) for prompt, answer in pairs]
    return pad(texts, filler_of(task.tokenizer)).to(task.device)


def _log_probability(task: Task, asked: Padded) -> torch.Tensor:
    said = logits_of(task.model, asked.ids, asked.mask)[:, :-1].log_softmax(-1)
    each = said.gather(2, asked.ids[:, 1:, None])[..., 0]
    return (each * asked.answers[:, 1:]).sum(1)
