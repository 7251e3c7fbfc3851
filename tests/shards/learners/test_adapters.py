"""Adapters over a base that stays as it is: against a loop over dense weights, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch_cases import CONTEXT, DATA, TASK, X, weights
from transformers.pytorch_utils import Conv1D
from user_modules import make

from shards.digest import digest_arrays
from shards.errors import ConfigurationError
from shards.learners import adapters
from shards.learners.adapters import AdapterLearner
from shards.learners.base import StepContext
from shards.learners.generators import generators_kept
from shards.learners.low_rank import Adapted, LowRank
from shards.learners.visits import windows
from shards.train import describe_learner, learner_from


def learner(module: str = "user_modules:make", **settings: object) -> AdapterLearner:
    usual: dict[str, object] = {"adapt": ["0"], "train": ["2"], "rank": 2, "scale": 3.0, "base_seed": 7}
    return AdapterLearner(module, **usual | settings)  # type: ignore[arg-type]


def base() -> nn.Module:
    torch.manual_seed(7)
    return make()


def test_a_step_is_that_of_dense_weights_of_which_only_the_factors_are_trained() -> None:
    found = weights(learner(optimizer_args={"lr": 1.0}).train_step(None, DATA, CONTEXT))
    first, _, last = base()
    torch.manual_seed(CONTEXT.seed("module"))
    down = (torch.rand(2, 6) * 2 - 1) / 6**0.5
    up = torch.zeros(8, 2)
    trained = [value.detach().clone().requires_grad_() for value in (down, up, last.weight, last.bias)]
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for rows in windows(len(DATA), CONTEXT.visits, 16, lambda k: CONTEXT.seed("pass", k)):
        hidden = torch.tanh(x[rows] @ (first.weight + 1.5 * trained[1] @ trained[0]).T + first.bias)
        loss = nn.functional.cross_entropy(hidden @ trained[2].T + trained[3], y[rows])
        with torch.no_grad():
            for value, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                value -= gradient
    names = ("adapters.0.down", "adapters.0.up", "trained.2.weight", "trained.2.bias")
    assert sorted(found) == sorted(names)
    for name, value in zip(names, trained, strict=True):
        np.testing.assert_allclose(found[name], value.detach().numpy(), atol=1e-5, err_msg=name)
    assert np.abs(found["adapters.0.up"]).max() > 0.05


def test_an_untrained_adapter_changes_nothing_and_the_base_is_shared() -> None:
    with generators_kept():
        one, other = (learner(train=[]).make(TASK) for _ in range(2))
    x = torch.tensor(X, dtype=torch.float32)
    assert torch.equal(one(x), base()(x))
    assert one.base[2].weight.data_ptr() == other.base[2].weight.data_ptr()
    assert {name for name, _ in one.named_parameters()} == {"adapters.0.down", "adapters.0.up"}
    with torch.no_grad():
        one.get_parameter("adapters.0.up").fill_(1.0)
    assert torch.equal(other(x), base()(x))


def test_layers_trained_in_full_are_each_ones_own() -> None:
    with generators_kept():
        one, other = (learner().make(TASK) for _ in range(2))
    with torch.no_grad():
        one.get_parameter("trained.2.weight").zero_()
    assert torch.equal(other.base[2].weight, base()[2].weight)


def test_a_step_is_the_same_whether_the_base_was_made_before_or_not() -> None:
    first = learner().train_step(None, DATA, CONTEXT)
    again = learner().train_step(None, DATA, CONTEXT)
    adapters._made.cache_clear()
    anew = learner().train_step(None, DATA, CONTEXT)
    assert digest_arrays(first) == digest_arrays(again) == digest_arrays(anew)


def test_training_changes_no_weight_of_the_base() -> None:
    with generators_kept():
        module = learner().make(TASK)
    kept = {name: value.clone() for name, value in module.base[0].layer.state_dict().items()}
    learner(optimizer="AdamW", optimizer_args={"lr": 0.1, "weight_decay": 0.5}).train_step(None, DATA, CONTEXT)
    assert all(torch.equal(value, kept[name]) for name, value in module.base[0].layer.state_dict().items())


def test_the_next_step_goes_on_where_the_last_one_ended() -> None:
    still = learner(optimizer_args={"lr": 1e-30})
    parent = learner().train_step(None, DATA, CONTEXT)
    after = still.train_step(parent, DATA, StepContext(TASK, root_seed=5, shard=2, position=1, visits=16))
    for name, value in parent.items():
        np.testing.assert_allclose(after[name], value, atol=1e-20)


def test_shards_start_from_different_adapters_on_one_base() -> None:
    states = [
        learner(optimizer_args={"lr": 1e-30}).train_step(None, DATA, StepContext(TASK, 5, shard, 0, visits=16))
        for shard in range(2)
    ]
    assert not np.array_equal(*(state["module/adapters.0.down"] for state in states))
    assert np.array_equal(*(state["module/trained.2.weight"] for state in states))


def test_a_transposed_layer_gets_the_same_update() -> None:
    plain, transposed = nn.Linear(6, 3), Conv1D(3, 6)
    with torch.no_grad():
        transposed.weight.copy_(plain.weight.T)
        transposed.bias.copy_(plain.bias)
    x, said = torch.tensor(X, dtype=torch.float32), []
    for layer in (plain, transposed):
        torch.manual_seed(0)
        update = LowRank(layer, "layer", 2, 1.0)
        with torch.no_grad():
            update.up.normal_()
        said.append(update(x))
    torch.testing.assert_close(*said)
    assert not torch.equal(said[0], plain(x))


def test_the_base_does_not_drop_out() -> None:
    with generators_kept():
        module = learner("user_modules:dropout", adapt=["2"], train=[]).make(TASK).train()
    x = torch.tensor(X, dtype=torch.float32)
    assert torch.equal(module(x), module(x))


def test_weights_are_those_of_the_file_and_a_head_may_be_missing(tmp_path: Path) -> None:
    path, state = tmp_path / "w.safetensors", {name: value + 1.0 for name, value in base().state_dict().items()}
    save_file(state, path)
    x = torch.tensor(X, dtype=torch.float32)
    expected = base()
    expected.load_state_dict(state)
    with generators_kept():
        assert torch.equal(learner(train=[], weights=str(path)).make(TASK)(x), expected(x))
    save_file({name: value for name, value in state.items() if name.startswith("0.")}, path)
    with generators_kept():
        found = learner(weights=str(path)).make(TASK)
        assert torch.equal(found.get_parameter("trained.2.weight"), base()[2].weight)
        with pytest.raises(ConfigurationError, match=r"(?s)does not hold the state of user_modules:make.*2\.weight"):
            learner(train=[], weights=str(path)).make(TASK)
        declared = learner(weights=str(path))
        save_file(state, path)
        adapters._made.cache_clear()
        with pytest.raises(ConfigurationError, match="is not the file that was declared"):
            declared.make(TASK)


def test_described_and_built_again() -> None:
    ours = learner(adapt=("0",), weights=None)
    described = json.loads(json.dumps(describe_learner(ours)))
    assert learner_from(described) == ours
    assert hash(ours) == hash(AdapterLearner.from_params(ours.params()))
    assert ours.code() == ("user_modules:make",)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head.weight = self.first.weight


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapt": ["conv.*"]}, r"adapt 'conv\.\*' finds no linear layer: there are 0"),
        ({"train": ["score"]}, "train 'score' finds no layer: there are 0, 1, 2"),
        ({"adapt": [], "train": []}, "nothing to train"),
        ({"adapt": "0"}, "give a list of patterns"),
        ({"rank": 0}, "rank is 0: give an integer of at least 1"),
        ({"base_seed": -1}, "base_seed is -1"),
        ({"scale": float("inf")}, "scale is inf"),
        ({"weights": "nowhere.safetensors"}, "cannot be read"),
        ({"module": "builtins:dict"}, "builtins"),
    ],
)
def test_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigurationError, ValueError), match=message):
        learner(**settings).check(TASK)  # type: ignore[arg-type]


def test_a_head_tied_to_what_stays_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="tied"):
        Adapted(Tied(), ["first"], ["head"], 2, 1.0)


def test_a_layer_with_two_names_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.second = self.first

    for adapt, train in ((["first"], []), ([], ["first"])):
        with pytest.raises(ConfigurationError, match="'second' is the same layer"):
            Adapted(Twice(), adapt, train, 2, 1.0)


def test_a_weight_that_is_read_past_the_layer_is_refused() -> None:
    base = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    module = Adapted(base, ["linear1"], [], 2, 1.0).eval()
    with (
        pytest.raises(ConfigurationError, match=r"the weight of 'linear1' is read by the layer around it"),
        torch.no_grad(),
    ):
        module(torch.zeros(2, 3, 8))
