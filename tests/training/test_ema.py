import pytest
import torch
from torch import nn

from rectilinear.checks import tolerance
from rectilinear.training.optimizer import EMA, evaluation


def test_the_average_is_the_recursion_written_out():
    module, decay = nn.Linear(3, 2).double(), 0.8
    ema, expected = EMA(module, decay), module.weight.detach().clone()
    for step in range(12):
        nn.init.normal_(module.weight)
        ema.update(step)
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * module.weight.detach()
    assert (ema.state_dict()["weight"] - expected).abs().max() < tolerance(torch.float64, scale=3)


def test_frozen_parameters_and_no_decay_keep_nothing():
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    assert set(EMA(module, 0.9).state_dict()) == {"weight"}
    assert EMA(module, None).state_dict() == {}


def test_evaluation_shows_the_averages_and_gives_all_back_even_after_an_error():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    ema = EMA(module, 0.9)
    start = module[0].weight.detach().clone()
    nn.init.ones_(module[0].weight)
    with pytest.raises(KeyError), evaluation(module, ema):  # noqa: PT012 - the failing block is under test
        assert torch.equal(module[0].weight, start)
        assert not module.training
        assert not torch.is_grad_enabled()
        raise KeyError
    assert torch.equal(module[0].weight, torch.ones(2, 2))
    assert module.training
    assert torch.equal(ema.state_dict()["0.weight"], start)
