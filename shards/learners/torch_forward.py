"""Show a module its records: a minibatch gathered from the tensors, or augmented record by record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from shards.learners.base import StepContext, StepData
from shards.learners.generators import generators_kept, seed_generators
from shards.learners.torch_parts import augmentation

if TYPE_CHECKING:
    import torch

    from shards.learners.torch import TorchLearner

    Tensors: TypeAlias = Mapping[str, torch.Tensor]


def call_module(module: torch.nn.Module, inputs: Tensors) -> torch.Tensor:
    """Output of a module: one feature as its first argument, several by name.

    Args:
        module: In training or evaluation mode.
        inputs: Feature name to tensor `[n, *shape]`.

    Returns:
        What the module gives, unchecked.
    """
    if len(inputs) > 1:
        return module(**inputs)  # type: ignore[no-any-return]
    return module(*inputs.values())  # type: ignore[no-any-return]


def window_forward(
    learner: TorchLearner, module: torch.nn.Module, inputs: Tensors, data: StepData, context: StepContext
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Make the function that shows a module one minibatch of a step.

    Records are gathered into memory of their own, also where they lie side by side: a view is no faster beside
    the step itself, and a module that works in place on its input would change the training data.

    Args:
        learner: Names the augmentation, if any.
        module: In training mode.
        inputs: Feature name to tensor `[n, *shape]`.
        data: The same records; their tokens seed the augmentation.
        context: Seeds.

    Returns:
        A window's record indices, `[batch]` int64, and the number of its first visit, to the module's output.
    """
    import torch

    if len(inputs) > 1:
        return lambda index, _: module(**{name: x.index_select(0, index) for name, x in inputs.items()})
    (only,) = inputs.values()
    if learner.transform is None:
        return lambda index, _: module(only.index_select(0, index))
    augment, n = augmentation(learner), len(data)

    def forward(index: torch.Tensor, first: int) -> torch.Tensor:
        # Seeded record by record: what happens to one must not tell how many others there are. The training's
        # own stream goes on afterwards as if nothing had been drawn.
        with generators_kept():
            rows = []
            for visit, record in enumerate(index.tolist(), start=first):
                seed_generators(context.seed("transform", data.tokens[record].tobytes(), visit // n))
                # A copy of its own, so that an augmentation in place reaches neither data nor neighbours.
                rows.append(augment(only[record].clone()))
        return module(torch.stack(rows))  # type: ignore[no-any-return]

    return forward
