"""Conformance suites: what everything registered has to hold to, shipped so that one's own can be held to it as well.

    from unlearn.checks import check_method
    check_method(unlearn.methods.Method(card, function, Config))

Each check makes a small problem of its own, applies the method and raises `ConformanceError`, which names the check
and says what was expected and what was found. `method_checks` yields them one by one, for a test runner.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import random as python_random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from unlearn.errors import ConfigurationError, ConformanceError, InputError, UnlearnError
from unlearn.methods.base import Examples, Guarantee, Method, Task

if TYPE_CHECKING:
    import torch

Network: TypeAlias = "Callable[[int, int], torch.nn.Module]"
"""Builds an untrained model of so many features and outputs."""

Arguments: TypeAlias = "Callable[[torch.nn.Module, Examples, Examples], Mapping[str, Any]]"
"""Of a trained model and its examples, forget and retain: the keyword arguments a method takes besides."""


def check_method(
    method: Method, config: Any = None, *, network: Network | None = None, arguments: Arguments | None = None
) -> None:
    """Hold a method to the contract of `unlearn.methods.base`, and to its own card.

    Args:
        method: The method.
        config: Its configuration; None: its defaults.
        network: Builds an untrained model of so many features and outputs, for methods that do not take any network;
            None: a small one with a hidden layer.
        arguments: Of a trained model, forget and retain, what the method needs besides; None: nothing but `held_out`,
            where the card says so.

    Raises:
        ConformanceError: If a check fails: the first one that does.
    """
    for _, check in method_checks(method, config, network=network, arguments=arguments):
        check()


def method_checks(
    method: Method, config: Any = None, *, network: Network | None = None, arguments: Arguments | None = None
) -> Iterator[tuple[str, Callable[[], None]]]:
    """All checks that apply to a method, as `check_method` runs them.

    Args:
        method: The method.
        config: See `check_method`.
        network: See `check_method`.
        arguments: See `check_method`.

    Yields:
        Name of a check, and the check.
    """
    for name, check in _CHECKS.items():
        subject = _Subject(name, method, config, network or _network, arguments)
        if (name != "batch_normalisation" or network is None) and _applies(name, method):
            yield name, partial(_run, check, subject)


def _run(check: Callable[[_Subject], None], subject: _Subject) -> None:
    try:
        check(subject)
    except ConformanceError:
        raise
    except UnlearnError as error:
        subject.fail(f"expected a model, got {type(error).__name__}: {error}", error)


def _applies(name: str, method: Method) -> bool:
    """Whether a card's claims make a check one of this method's."""
    drawn = any(item.name == "seed" for item in dataclasses.fields(method.config))
    # Noise that such a promise rests on is fresh and secret: no seed decides it.
    secret = not drawn and method.card.guarantee in (Guarantee.CERTIFIED, Guarantee.DP)
    return {
        "seeds_reproduce": not secret,
        "depends_on_what_it_needs": not secret,
        "moves_towards_retraining": method.card.moves_towards_retraining,
        "progress": not method.card.leaves_model,
        "exact_owes_nothing": method.card.guarantee is Guarantee.EXACT,
    }.get(name, True)


_CRASHES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a method may stumble over that no error of this package tells of."""


@dataclass(frozen=True)
class _Subject:
    """A method under a check."""

    check: str
    method: Method
    config: Any
    network: Network
    arguments: Arguments | None

    def fail(self, message: str, cause: Exception | None = None) -> NoReturn:
        raise ConformanceError(self.check, self.method.card.name, message) from cause

    def apply(self, problem: _Problem, **changes: Any) -> torch.nn.Module:
        """What the method makes of a problem, some parts of which may be exchanged."""
        given = dataclasses.replace(problem, **changes)
        options: dict[str, Any] = {}
        if "held-out set" in self.method.card.needs:
            options["held_out"] = problem.held_out
        if self.arguments is not None:
            options |= self.arguments(problem.model, problem.forget, problem.retain)
        try:
            result: torch.nn.Module = self.method(given.model, given.forget, given.retain, self.config, **options)
        except UnlearnError:
            raise
        except _CRASHES as error:
            self.fail(f"it raised {type(error).__name__}: {error}", error)
        return result

    def refuses(self, problem: _Problem, what: str, **changes: Any) -> None:
        """Fail unless the method raises InputError, or ConfigurationError for a model that is none of its kind."""
        try:
            self.apply(problem, **changes)
        except InputError:
            return
        except ConfigurationError:
            if "model" in changes:
                return
            raise
        self.fail(f"{what}: expected InputError, but a model was returned")

    def task(self) -> Task:
        return "classification" if "classification" in self.method.card.tasks else "regression"

    def problem(self, **options: Any) -> _Problem:
        return _problem(self.network, **({"task": self.task()} | options))


@dataclass(frozen=True)
class _Problem:
    """A trained model with its examples."""

    model: Any
    forget: Any
    retain: Any
    held_out: Any = field(repr=False)


def _network(features: int, outputs: int) -> torch.nn.Module:
    import torch

    return torch.nn.Sequential(torch.nn.Linear(features, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs))


def _normalised(features: int, outputs: int) -> torch.nn.Module:
    import torch

    hidden = (torch.nn.Linear(features, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.2))
    return torch.nn.Sequential(*hidden, torch.nn.Linear(16, outputs))


_FEATURES, _CLASSES = 4, 3
_FORGET, _RETAIN, _HELD_OUT = 33, 129, 60
"""Sizes that leave a batch of a single example to whoever cuts off batches of 32, 64 or 128."""


def _problem(network: Network, task: Task, double: bool = False) -> _Problem:
    """A problem of one's own to change; making it takes longer than most methods do."""
    return copy.deepcopy(_made(network, task, double))


@lru_cache(maxsize=16)
def _made(network: Network, task: Task, double: bool) -> _Problem:
    """Three clouds, or a plane with noise, and a model trained on all of them but those held out."""
    import torch

    rng = torch.Generator().manual_seed(7)
    dtype = torch.float64 if double else torch.float32
    rows = _FORGET + _RETAIN + _HELD_OUT
    inputs = torch.randn(rows, _FEATURES, generator=rng, dtype=dtype)
    if task == "classification":
        # What is to be forgotten is of two classes only, so that a part of it can be of one, and others have a third.
        targets = torch.where(torch.arange(rows) < _FORGET, torch.arange(rows) % 2, torch.arange(rows) % _CLASSES)
        inputs += 2 * torch.eye(_CLASSES, _FEATURES, dtype=dtype)[targets]
    else:
        targets = (inputs.sum(dim=1, keepdim=True) / 2).tanh()
        targets = targets + 0.1 * torch.randn(rows, 1, generator=rng, dtype=dtype)
    given = Examples(inputs, targets, tuple(range(rows)))
    known, held_out = given.take(slice(0, _FORGET + _RETAIN)), given.take(slice(_FORGET + _RETAIN, None))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        model = network(_FEATURES, _CLASSES if task == "classification" else 1).to(dtype)
        _train(model, known)
    return _Problem(model, known.take(slice(0, _FORGET)), known.take(slice(_FORGET, None)), held_out)


def _train(model: torch.nn.Module, known: Examples) -> None:
    import torch

    loss = torch.nn.functional.mse_loss if known.task == "regression" else torch.nn.functional.cross_entropy
    optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        loss(model(known.inputs), known.targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for value in model.parameters():
        value.grad = None


def _accuracy(model: torch.nn.Module, given: Examples) -> float:
    return float((_outputs(model, given).argmax(dim=1) == given.targets).double().mean())


def _outputs(model: torch.nn.Module, given: Examples) -> torch.Tensor:
    import torch

    with torch.no_grad():
        found: torch.Tensor = copy.deepcopy(model).eval()(given.inputs)
    return found


def _difference(one: torch.nn.Module, other: torch.nn.Module) -> str | None:
    """The first parameter or buffer in which two models differ in any bit; None: they are equal."""
    import torch

    first, second = one.state_dict(), other.state_dict()
    if first.keys() != second.keys():
        return str(sorted(first.keys() ^ second.keys()))
    return next((name for name, value in first.items() if not torch.equal(value, second[name])), None)


def _check_card(subject: _Subject) -> None:
    card, config = subject.method.card, subject.method.config
    for name in ("name", "title", "citation", "statement", "tasks", "needs"):
        if not getattr(card, name):
            subject.fail(f"the card's {name} is empty")
    if card.uses_retain and "retain set" not in card.needs:
        subject.fail("the card says that it uses the retain set, but not that it needs it")
    if not dataclasses.is_dataclass(config) or not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        subject.fail(f"its configuration {config.__name__} is no frozen dataclass")
    for item in dataclasses.fields(config):
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            subject.fail(f"field {item.name} of its configuration has no default")
    hash(config())


def _check_returns(subject: _Subject) -> None:
    import torch

    problem = subject.problem()
    result = subject.apply(problem)
    if not isinstance(result, torch.nn.Module):
        subject.fail(f"expected a model, got {type(result).__name__}")
    if {name: value.shape for name, value in result.state_dict().items()} != {
        name: value.shape for name, value in problem.model.state_dict().items()
    }:
        subject.fail("the result has other parameters or buffers than the model it was given")
    before = {value.data_ptr() for value in problem.model.state_dict().values() if value.numel()}
    if result is problem.model or any(
        value.data_ptr() in before for value in result.state_dict().values() if value.numel()
    ):
        subject.fail("the result shares memory with the model it was given")


def _check_seeds(subject: _Subject) -> None:
    import torch

    problem = subject.problem()
    results = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            results.append(subject.apply(problem))
    where = _difference(*results)
    if where is not None:
        subject.fail(f"the same arguments gave two results, which differ in {where}: draw from the seed alone")


def _check_unmutated(subject: _Subject) -> None:
    problem = subject.problem()
    problem.model.train()
    next(problem.model.children(), problem.model).eval()
    before, flags, modes = copy.deepcopy(problem), _flags(problem.model), _modes(problem.model)
    generators = _generators()
    result = subject.apply(problem)
    where = _difference(before.model, problem.model)
    if where is not None:
        subject.fail(f"{where} of the model it was given has changed")
    if _flags(problem.model) != flags or _modes(problem.model) != modes:
        subject.fail("the model it was given has another mode, other requires_grad flags or gradients than before")
    if _flags(result) != flags or _modes(result) != modes:
        subject.fail("the result has another mode, other requires_grad flags or gradients than the model it was given")
    for name in ("forget", "retain", "held_out"):
        # An example unpacks as inputs and targets.
        pairs = zip(getattr(before, name), getattr(problem, name), strict=True)
        if any(not bool((one == other).all()) for one, other in pairs):
            subject.fail(f"examples of {name} have changed")
    if _generators() != generators:
        subject.fail("the global state of a random generator (torch, numpy or random) has changed")


def _flags(model: torch.nn.Module) -> list[tuple[bool, bool]]:
    return [(value.requires_grad, value.grad is None) for value in model.parameters()]


def _modes(model: torch.nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def _generators() -> tuple[Any, ...]:
    import torch

    legacy = np.random.get_state(legacy=False)["state"]
    return torch.get_rng_state().tolist(), legacy["key"].tolist(), legacy["pos"], python_random.getstate()


def _check_changes(subject: _Subject) -> None:
    import torch

    problem = subject.problem()
    parameters = dict(problem.model.named_parameters())
    result = subject.apply(problem)
    same = all(torch.equal(value, parameters[name]) for name, value in result.named_parameters())
    if same and not subject.method.card.leaves_model:
        subject.fail("no parameter has changed: nothing was forgotten")
    if not same and subject.method.card.leaves_model:
        subject.fail("the card says that the model stays as it is, but it has changed")


def _check_useful(subject: _Subject) -> None:
    problem = subject.problem()
    result = subject.apply(problem)
    outputs = _outputs(result, problem.retain)
    if not bool(outputs.isfinite().all()):
        subject.fail("the result's outputs are not finite")
    if float((outputs - outputs[0]).abs().max()) == 0:
        subject.fail("the result says the same to every input")
    if subject.task() == "classification":
        before, after = _accuracy(problem.model, problem.retain), _accuracy(result, problem.retain)
        least = (before + float(problem.retain.targets.bincount().max()) / _RETAIN) / 2
        if after < least:
            subject.fail(f"accuracy on what stays fell from {before:.3f} to {after:.3f}, below {least:.3f}")


def _check_needs(subject: _Subject) -> None:
    """Other retain set, forget set or labels: the result depends on those that the card says, and on no others."""
    needs, problem = subject.method.card.needs, subject.problem()
    result = subject.apply(problem)
    exchanged: list[tuple[str, bool, dict[str, Examples]]] = [
        ("retain set", subject.method.card.uses_retain, {"retain": _other(problem.retain)}),
        ("forget set", "forget set" in needs, {"forget": _fewer(problem.forget)}),
    ]
    if "labels" not in needs:
        relabelled = {"forget": _relabelled(problem.forget), "retain": _relabelled(problem.retain)}
        exchanged.append(("labels", False, relabelled))
    for what, needed, changes in exchanged:
        same = _difference(result, subject.apply(problem, **changes)) is None
        if needed and same:
            subject.fail(f"the card says that it uses the {what}, but another {what} gave the same result")
        if not needed and not same:
            subject.fail(f"the card says that it does not use the {what}, but another {what} gave another result")


def _other(given: Examples) -> Examples:
    return dataclasses.replace(_relabelled(given), inputs=given.inputs.flip(1) + 0.5)


def _relabelled(given: Examples) -> Examples:
    other = -given.targets if given.task == "regression" else (given.targets + 1) % _CLASSES
    return dataclasses.replace(given, targets=other)


def _fewer(forget: Examples) -> Examples:
    """Those of one class, or half of them: records that were trained on, as any forget set."""
    return forget.take(forget.targets == 0 if forget.task == "classification" else slice(0, _FORGET // 2))


def _check_empty_forget(subject: _Subject) -> None:
    problem = subject.problem()
    subject.refuses(problem, "an empty forget set", forget=problem.forget.take(slice(0, 0)))


def _check_full_forget(subject: _Subject) -> None:
    problem = subject.problem()
    nothing = problem.retain.take(slice(0, 0))
    if "retain set" in subject.method.card.needs:
        subject.refuses(problem, "an empty retain set", retain=nothing)
        return
    results = [subject.apply(problem, retain=retain) for retain in (nothing, None)]
    if _difference(*results) is not None:
        subject.fail("retain=None gave another result than an empty retain set")


def _check_dtype(subject: _Subject) -> None:
    for double in (False, True):
        problem = subject.problem(double=double)
        result = subject.apply(problem)
        states = zip(result.state_dict().items(), problem.model.state_dict().values(), strict=True)
        for (name, after), before in states:
            if (after.dtype, after.device) != (before.dtype, before.device):
                subject.fail(f"{name} was {before.dtype} on {before.device}, and is {after.dtype} on {after.device}")


def _check_batch_normalisation(subject: _Subject) -> None:
    problem = dataclasses.replace(subject, network=_normalised).problem()
    problem.model.eval()
    result = subject.apply(problem)
    broken = [name for name, value in result.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        subject.fail(f"{broken[0]} is not finite")
    if any(_modes(result)):
        subject.fail("the model was in evaluation mode, the result is not")


def _check_tasks(subject: _Subject) -> None:
    tasks: tuple[Task, ...] = ("classification", "regression")
    for task in tasks:
        problem = subject.problem(task=task)
        if task not in subject.method.card.tasks:
            subject.refuses(problem, f"targets of {task}, which the card does not name")
            continue
        outputs = _outputs(subject.apply(problem), problem.retain)
        if not bool(outputs.isfinite().all()):
            subject.fail(f"{task}: the result's outputs are not finite")


def _check_bad_input(subject: _Subject) -> None:
    import torch

    class Pair(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, inputs: torch.Tensor) -> Any:
            return self.inner(inputs), None

    problem = subject.problem()
    forget: Examples = problem.forget
    among = dataclasses.replace(problem.retain, ids=tuple(range(_FORGET - 1, _FORGET - 1 + _RETAIN)))
    subject.refuses(problem, "an example of the forget set among those that stay", retain=among)
    subject.refuses(problem, "a model that returns a tuple", model=Pair(problem.model))
    subject.refuses(problem, "inputs that are not finite", forget=(forget.inputs * math.nan, forget.targets))
    subject.refuses(problem, "fewer targets than inputs", forget=(forget.inputs, forget.targets[1:]))
    if subject.task() == "classification":
        beyond = dataclasses.replace(forget, targets=forget.targets + _CLASSES)
        subject.refuses(problem, "a class the model has no output for", forget=beyond)
    if _difference(problem.model, subject.problem().model) is not None:
        subject.fail("the model has changed, although its arguments were refused")


def _check_progress(subject: _Subject) -> None:
    problem = subject.problem()
    told: list[int] = []
    function = partial(subject.method.function, advance=told.append)
    dataclasses.replace(subject, method=dataclasses.replace(subject.method, function=function)).apply(problem)
    if not told or any(type(count) is not int or count < 1 for count in told):
        subject.fail(f"advance must be told of whole numbers of examples visited, was told {told[:5]}")


def _check_moves(subject: _Subject) -> None:
    """On a strongly convex problem the retrained model is known, and the result must be nearer to it."""
    given = _convex(subject)
    forget, retain = given.take(slice(0, _TURNED)), given.take(slice(_TURNED, None))
    model, target = _optimum(given), _optimum(retain)
    result = subject.apply(_Problem(model, forget, retain, _perturbed(retain)))
    before, after = _distance(model, target), _distance(result, target)
    if not after < before:
        subject.fail(f"the distance to the retrained model was {before:.4f}, and is {after:.4f}")


def _check_exact(subject: _Subject) -> None:
    """Two worlds that differ in what is forgotten, and so in the model: afterwards they must not."""
    import torch

    given = _convex(subject)
    retain = given.take(slice(_TURNED, None))
    results = []
    for forget in (given.take(slice(0, _TURNED)), _relabelled(given.take(slice(0, _TURNED)))):
        both = (torch.cat(pair) for pair in zip(forget, retain, strict=True))
        model = _optimum(Examples(*both))  # type: ignore[arg-type]
        results.append(subject.apply(_Problem(model, forget, retain, _perturbed(retain))))
    apart = _distance(*results)
    if not apart < 1e-6:
        subject.fail(f"other records, forgotten as well, gave a model {apart:.2g} away: the result owes them something")


_TURNED = 100
"""Rows of the convex problem whose targets speak against the others'; they are to be forgotten."""


def _convex(subject: _Subject) -> Examples:
    """Squared loss, or cross-entropy of overlapping classes: no penalty is needed for one optimum."""
    import torch

    rng = torch.Generator().manual_seed(3)
    inputs = torch.randn(600, _FEATURES, generator=rng, dtype=torch.float64)
    noise = torch.randn(600, _CLASSES, generator=rng, dtype=torch.float64)
    values = inputs[:, :_CLASSES] + noise
    values[:_TURNED] *= -1
    targets = values[:, :1] if "regression" in subject.method.card.tasks else values.argmax(dim=1)
    return Examples(inputs, targets, tuple(range(len(inputs))))


def _perturbed(given: Examples) -> Examples:
    """As if held out."""
    return Examples(given.inputs + 0.01, given.targets)


def _optimum(given: Examples) -> torch.nn.Module:
    import torch

    regression = given.task == "regression"
    loss = torch.nn.functional.mse_loss if regression else torch.nn.functional.cross_entropy
    model = torch.nn.Linear(_FEATURES, 1 if regression else _CLASSES, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        value = loss(model(given.inputs), given.targets)
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    for value in model.parameters():
        value.grad = None
    return model


def _distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return math.sqrt(sum(((a - b) ** 2).sum().item() for a, b in pairs))


_CHECKS: Mapping[str, Callable[[_Subject], None]] = {
    "card": _check_card,
    "returns_a_new_model": _check_returns,
    "seeds_reproduce": _check_seeds,
    "inputs_unmutated": _check_unmutated,
    "is_no_no_op": _check_changes,
    "keeps_what_stays": _check_useful,
    "depends_on_what_it_needs": _check_needs,
    "empty_forget_set": _check_empty_forget,
    "full_forget_set": _check_full_forget,
    "dtype_and_device_kept": _check_dtype,
    "batch_normalisation": _check_batch_normalisation,
    "tasks": _check_tasks,
    "bad_input": _check_bad_input,
    "progress": _check_progress,
    "moves_towards_retraining": _check_moves,
    "exact_owes_nothing": _check_exact,
}
"""In the order in which they are run, from what the others presuppose."""
