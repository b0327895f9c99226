"""Which rank holds what: every element of every tensor exactly once, and no layout that cannot be."""

import doctest
from math import prod

import pytest
import torch
from checkpoints import make_params, tensor_shapes

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.errors import UsageError
from mistral_local.model.transformer import Transformer
from mistral_local.parallel import place
from mistral_local.parallel.launch import Launch, find_launch
from mistral_local.parallel.place import Place
from mistral_local.parallel.rules import Sharding, tensor_parallel_sizes

MOE = MoeArgs(num_experts=4, num_experts_per_tok=2)


def covered(params, sharding_of, world_size):
    """How often each element of each tensor is held."""
    counts = {name: torch.zeros(shape, dtype=torch.int64) for name, shape in tensor_shapes(params).items()}
    for rank in range(world_size):
        sharding = sharding_of(rank)
        for name, count in counts.items():
            if sharding.holds(name):
                part = sharding.part(name, tuple(count.shape))
                held = count if part is None else count.narrow(part.dim, part.start, part.length)
                held += 1
                assert prod(held.shape) > 0
    return counts


@pytest.mark.parametrize("num_stages", [1, 2, 4])
@pytest.mark.parametrize(("moe", "expert_parallel"), [(None, False), (MOE, False), (MOE, True)])
def test_every_element_is_held_once_and_replicas_by_the_whole_stage(moe, num_stages, expert_parallel):
    params = make_params(n_layers=5, moe=moe, vocab_size=321)
    args = TransformerArgs.from_dict(dict(params))
    counts = covered(params, lambda rank: Sharding(args, Place(rank, 4, num_stages), expert_parallel), 4)
    tp_size = 4 // num_stages
    for name, count in counts.items():
        is_replica = len(count.shape) == 1 or ".gate." in name
        # Two key/value heads: each is held by half of the ranks of a stage, if there are more than two.
        replicas = tp_size if is_replica else max(1, tp_size // 2) if ".wk." in name or ".wv." in name else 1
        assert count.eq(replicas).all(), name


def test_tied_embeddings_are_on_the_first_and_the_last_stage():
    args = TransformerArgs.from_dict(make_params(tied=True))
    assert [Sharding(args, Place(rank, 2, 2)).holds("tok_embeddings.weight") for rank in range(2)] == [True, True]


def test_the_example_in_the_docstring_holds():
    assert doctest.testmod(place).failed == 0


@pytest.mark.parametrize(
    ("world_size", "num_stages", "params", "message"),
    [
        (3, 1, {}, "3 ranks cannot share a layer: 4 heads do not divide by 3.*; 1, 2 or 4 can"),
        (4, 1, {"hidden_dim": 66}, "hidden_dim 66 does not divide by 4; 1 or 2 can"),
        (12, 1, {"n_heads": 12, "n_kv_heads": 3, "hidden_dim": 40}, "hidden_dim 40 does not divide by 12; 1 can"),
        (4, 3, {}, "num_pipeline_ranks: 4 rank.s. cannot form 3 stages of 2 layers, only 1 or 2"),
        (4, 4, {}, "cannot form 4 stages of 2 layers, only 1 or 2"),
        (1, 2, {}, "1 rank.s. cannot form 2 stages of 2 layers, only 1; torchrun"),
        (2, 0, {}, "cannot form 0 stages"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_with_those_that_can(world_size, num_stages, params, message):
    args = TransformerArgs.from_dict(make_params(**params))
    with pytest.raises(UsageError, match=message):
        Sharding(args, Place(0, world_size, num_stages)).check()


def test_experts_that_do_not_divide_are_refused():
    args = TransformerArgs.from_dict(make_params(moe=MoeArgs(num_experts=3, num_experts_per_tok=2)))
    with pytest.raises(UsageError, match="3 experts do not divide by 2; 1 can"):
        Sharding(args, Place(0, 2), expert_parallel=True).check()
    with pytest.raises(UsageError, match="expert_parallel: the model has no experts"):
        Sharding(TransformerArgs.from_dict(make_params()), Place(0, 2), expert_parallel=True).check()


def test_key_value_heads_are_shared_where_there_are_more_ranks():
    args = TransformerArgs.from_dict(make_params(n_heads=12, n_kv_heads=4, hidden_dim=96))
    assert tensor_parallel_sizes(args) == [1, 2, 4, 12]


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, Launch()),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, Launch()),
        ({"WORLD_SIZE": "2"}, Launch()),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "host"},
            Launch(1, 2, 1, 2),
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "host"},
            Launch(1, 2, 0, 1, "host"),
        ),
    ],
)
def test_the_environment_of_torchrun_is_read(monkeypatch, environment, launch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_launch() == launch


def test_one_process_has_nothing_of_it():
    model = Transformer(TransformerArgs.from_dict(make_params()))
    assert model.world.size == 1
    assert model.slots is None
    assert not any(module._forward_hooks for module in model.modules())
