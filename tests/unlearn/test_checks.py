"""The conformance suite: methods broken on purpose, each in one way, and the check that has to notice."""

from __future__ import annotations

import copy
import random as python_random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from unlearn.checks import check_method, method_checks
from unlearn.errors import ConformanceError, InputError, UnlearnError
from unlearn.methods import METHODS
from unlearn.methods.base import Examples, Guarantee, Method, MethodCard, examples
from unlearn.methods.training import problem

GOOD = METHODS["fine_tune"]
CLIMBING = METHODS["gradient_ascent"]


def variant(function: Callable[..., Any], config: type[Any] = GOOD.config, **changes: Any) -> Method:
    """Fine-tuning with another function, and a card changed here and there."""
    return Method(replace(GOOD.card, **changes), function, config)


def afterwards(change: Callable[[torch.nn.Module], Any], method: Method = GOOD) -> Callable[..., Any]:
    """A method whose result is changed, or replaced by what the change returns."""

    def function(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
        result = method.function(model, forget, retain, config, **options)
        with torch.no_grad():
            changed = change(result)
        return result if changed is None else changed

    return function


def besides(change: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """A method that does something to its arguments, or to the world, before it works."""

    def function(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
        result = GOOD.function(model, forget, retain, config, **options)
        change(model, forget, retain)
        return result

    return function


def shaken(result: torch.nn.Module) -> None:
    for value in result.parameters():
        value.add_(torch.rand(()))


def contrary(result: Any) -> None:
    result[2].weight.neg_()


def no_op(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
    problem(GOOD.card, model, forget, retain)
    return copy.deepcopy(model)


def unchecked(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
    """Fine-tuning as scripts do it: whatever it is given, and no batch is too small."""
    student = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    for _ in range(5):
        for batch in torch.split(torch.arange(len(retain.inputs)), 32):
            optimizer.zero_grad()
            output, target = student(retain.inputs[batch]), retain.targets[batch]
            loss = torch.nn.functional.mse_loss if target.is_floating_point() else torch.nn.functional.cross_entropy
            loss(output, target).backward()
            optimizer.step()
    return student.train(model.training)


def careless(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
    """Fine-tuning that takes regression targets for classes."""
    kept = examples(retain, "retain")
    if kept.task == "regression":
        return no_op(model, Examples(forget.inputs, forget.targets), kept, config)
    return GOOD.function(model, forget, retain, config, **options)


def silent(model: Any, forget: Any, retain: Any, config: Any, *, advance: Any = None) -> Any:
    return GOOD.function(model, forget, retain, config)


def boasting(model: Any, forget: Any, retain: Any, config: Any, *, advance: Any = None) -> Any:
    if advance is not None:
        advance(0.5)
    return GOOD.function(model, forget, retain, config)


def in_place(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
    result = GOOD.function(model, forget, retain, config, **options)
    model.load_state_dict(result.state_dict())
    return result


def without_ids(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
    forget, retain = examples(forget, "forget"), examples(retain, "retain")
    return GOOD.function(model, Examples(*forget), Examples(*retain), config, **options)


def scaled(factor: float) -> Callable[[torch.nn.Module], None]:
    def change(result: torch.nn.Module) -> None:
        for value in result.parameters():
            value.mul_(factor)

    return change


@dataclass(frozen=True)
class Unset:
    epochs: int


BROKEN: dict[str, tuple[str, str, Callable[[], Method]]] = {
    "no statement": ("card", "statement is empty", lambda: variant(GOOD.function, statement="")),
    "no citation": ("card", "citation is empty", lambda: variant(GOOD.function, citation="")),
    "uses what it does not need": ("card", "not that it needs it", lambda: variant(GOOD.function, needs=("labels",))),
    "field without default": ("card", "epochs of its configuration", lambda: variant(GOOD.function, Unset)),
    "the model itself": ("returns_a_new_model", "shares memory", lambda: variant(lambda model, *_, **__: model)),
    "no model": ("returns_a_new_model", "expected a model", lambda: variant(lambda *_, **__: {"weights": 1})),
    "a layer more": (
        "returns_a_new_model",
        "other parameters",
        lambda: variant(afterwards(lambda result: torch.nn.Sequential(result, torch.nn.Linear(3, 3)))),
    ),
    "a crash": ("returns_a_new_model", "raised ZeroDivisionError", lambda: variant(lambda *_, **__: 1 / 0)),
    "an error of its own": (
        "returns_a_new_model",
        "got UnlearnError: no",
        lambda: variant(lambda *_, **__: (_ for _ in ()).throw(UnlearnError("no"))),
    ),
    "draws from outside": (
        "seeds_reproduce",
        "two results",
        lambda: variant(afterwards(shaken)),
    ),
    "in place": ("inputs_unmutated", "has changed", lambda: variant(in_place)),
    "leaves the mode": ("inputs_unmutated", "another mode", lambda: variant(besides(lambda model, *_: model.eval()))),
    "leaves gradients": (
        "inputs_unmutated",
        "gradients than before",
        lambda: variant(besides(lambda model, forget, _: model(forget.inputs).sum().backward())),
    ),
    "freezes the result": (
        "inputs_unmutated",
        "the result has another mode",
        lambda: variant(afterwards(lambda result: result.requires_grad_(False))),
    ),
    "scales the examples": (
        "inputs_unmutated",
        "examples of forget",
        lambda: variant(besides(lambda _, forget, __: forget.inputs.mul_(2))),
    ),
    "seeds torch": ("inputs_unmutated", "global state", lambda: variant(besides(lambda *_: torch.manual_seed(0)))),
    "seeds numpy": ("inputs_unmutated", "global state", lambda: variant(besides(lambda *_: np.random.rand()))),
    "seeds random": ("inputs_unmutated", "global state", lambda: variant(besides(lambda *_: python_random.random()))),
    "does nothing": ("is_no_no_op", "nothing was forgotten", lambda: variant(no_op)),
    "does something": (
        "is_no_no_op",
        "the card says that the model stays",
        lambda: variant(GOOD.function, leaves_model=True),
    ),
    "says one thing": ("keeps_what_stays", "the same to every input", lambda: variant(afterwards(scaled(0.0)))),
    "says nothing": ("keeps_what_stays", "not finite", lambda: variant(afterwards(scaled(float("nan"))))),
    "says the contrary": ("keeps_what_stays", "accuracy on what stays fell", lambda: variant(afterwards(contrary))),
    "ignores the retain set": (
        "depends_on_what_it_needs",
        "another retain set gave the same result",
        lambda: replace(CLIMBING, card=replace(CLIMBING.card, needs=("forget set", "retain set"), uses_retain=True)),
    ),
    "uses the retain set": (
        "depends_on_what_it_needs",
        "another retain set gave another result",
        lambda: variant(GOOD.function, uses_retain=False),
    ),
    "ignores the forget set": (
        "depends_on_what_it_needs",
        "another forget set gave the same result",
        lambda: variant(GOOD.function, needs=("forget set", "retain set", "labels")),
    ),
    "uses the forget set": (
        "depends_on_what_it_needs",
        "another forget set gave another result",
        lambda: replace(CLIMBING, card=replace(CLIMBING.card, needs=("labels",))),
    ),
    "uses labels": (
        "depends_on_what_it_needs",
        "another labels gave another result",
        lambda: variant(GOOD.function, needs=("retain set",)),
    ),
    "forgets nobody": ("empty_forget_set", "a model was returned", lambda: variant(unchecked)),
    "keeps nobody": ("full_forget_set", "a model was returned", lambda: variant(unchecked)),
    "crashes at nobody": (
        "full_forget_set",
        "raised IndexError",
        lambda: variant(lambda _, __, retain, *___, **____: retain.inputs[0]),
    ),
    "knows single precision": ("dtype_and_device_kept", "float32", lambda: variant(afterwards(torch.nn.Module.float))),
    "a batch of one": ("batch_normalisation", "more than 1 value", lambda: variant(unchecked)),
    "evaluates for ever": (
        "batch_normalisation",
        "the result is not",
        lambda: variant(afterwards(torch.nn.Module.train)),
    ),
    "takes values for classes": (
        "tasks",
        "which the card does not name",
        lambda: variant(careless, tasks=("classification",)),
    ),
    "looks at no ids": ("bad_input", "among those that stay", lambda: variant(without_ids)),
    "tells nothing": ("progress", r"was told \[\]", lambda: variant(silent)),
    "tells half": ("progress", r"was told \[0.5\]", lambda: variant(boasting)),
    "is called exact": (
        "exact_owes_nothing",
        "the result owes them something",
        lambda: variant(GOOD.function, guarantee=Guarantee.EXACT),
    ),
    "goes elsewhere": (
        "moves_towards_retraining",
        "distance to the retrained model",
        lambda: variant(afterwards(scaled(3.0))),
    ),
}
"""Of each broken method: the check that has to notice, and what it says."""


@pytest.mark.parametrize("what", BROKEN)
def test_each_check_notices_what_is_broken(what: str) -> None:
    check, said, make = BROKEN[what]
    method = make()
    run = dict(method_checks(method))[check]
    with pytest.raises(ConformanceError, match=said) as caught:
        run()
    assert (caught.value.check, caught.value.subject) == (check, method.card.name)


def test_every_check_has_a_broken_method() -> None:
    everything = {check for check, _ in method_checks(METHODS["retrain"])}
    assert {check for check, _, _ in BROKEN.values()} == everything


def test_all_checks_are_run_until_one_fails() -> None:
    check_method(GOOD)
    with pytest.raises(ConformanceError, match="fine_tune fails the check 'is_no_no_op'"):
        check_method(variant(no_op))


def test_a_configuration_that_can_be_changed_is_no_frozen_one() -> None:
    @dataclass
    class Loose:
        epochs: int = 1

    with pytest.raises(ConformanceError, match="Loose is no frozen dataclass"):
        dict(method_checks(variant(GOOD.function, Loose)))["card"]()


def test_methods_on_one_kind_of_model_bring_it() -> None:
    def linear_only(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
        if not isinstance(model, torch.nn.Linear):
            raise InputError("linear models only")
        return GOOD.function(model, forget, retain, config, **options)

    method = variant(linear_only)
    with pytest.raises(ConformanceError, match="linear models only"):
        check_method(method)
    assert "batch_normalisation" not in dict(method_checks(method, network=torch.nn.Linear))
    runs = dict(method_checks(method, network=torch.nn.Linear))
    del runs["bad_input"]  # a pair of outputs comes from no Linear
    for run in runs.values():
        run()


def test_methods_are_given_what_they_need_besides() -> None:
    def needing(model: Any, forget: Any, retain: Any, config: Any, *, trail: Any, advance: Any = None) -> Any:
        assert len(trail) in (162, 600)
        return GOOD.function(model, forget, retain, config, advance=advance)

    method = variant(needing)
    with pytest.raises(ConformanceError, match="TypeError"):
        check_method(method)
    check_method(method, arguments=lambda _, forget, retain: {"trail": [0] * (len(forget) + len(retain))})


def test_noise_that_a_certificate_rests_on_need_not_be_reproduced() -> None:
    @dataclass(frozen=True)
    class Secret:
        epsilon: float = 1.0

    def card(guarantee: Guarantee) -> MethodCard:
        return replace(GOOD.card, guarantee=guarantee)

    certified, private = (
        {name for name, _ in method_checks(Method(card(guarantee), no_op, Secret))}
        for guarantee in (Guarantee.CERTIFIED, Guarantee.DP)
    )
    plain = {name for name, _ in method_checks(Method(card(Guarantee.EMPIRICAL), no_op, Secret))}
    assert plain - certified == plain - private == {"seeds_reproduce", "depends_on_what_it_needs"}


def test_a_model_may_stay_as_it_is_where_its_card_says_so() -> None:
    @dataclass(frozen=True)
    class Promise:
        epsilon: float = 1.0

    private = Method(
        replace(
            GOOD.card,
            guarantee=Guarantee.CERTIFIED,
            needs=("training configuration",),
            uses_retain=False,
            moves_towards_retraining=False,
            leaves_model=True,
        ),
        lambda model, forget, retain, config: left(model, forget, retain),
        Promise,
    )

    def left(model: Any, forget: Any, retain: Any) -> Any:
        problem(private.card, model, forget, retain)
        return copy.deepcopy(model)

    assert "progress" not in dict(method_checks(private))
    check_method(private)


def test_a_newton_step_under_squared_loss_is_exact() -> None:
    def newton(model: Any, forget: Any, retain: Any, config: Any, **options: Any) -> Any:
        result = copy.deepcopy(model)
        design = torch.cat([retain.inputs, torch.ones_like(retain.inputs[:, :1])], dim=1)
        weights = torch.cat([model.weight.T, model.bias[None]]).detach()
        weights -= torch.linalg.solve(design.T @ design, design.T @ (design @ weights - retain.targets))
        result.load_state_dict({"weight": weights[:-1].T, "bias": weights[-1]})
        return result

    checks = dict(method_checks(variant(newton, guarantee=Guarantee.EXACT), network=torch.nn.Linear))
    checks["exact_owes_nothing"]()
    checks["moves_towards_retraining"]()
