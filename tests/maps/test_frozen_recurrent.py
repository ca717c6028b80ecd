"""LSTM, GRU and plain recurrent layers with their gates held: exact, in every form."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.errors import StructureError


class Read(nn.Module):
    """A recurrent layer between two linear ones, its state started as the user likes."""

    def __init__(self, layer, width, state=None):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.layer, self.last = nn.Linear(3, 4), layer, nn.Linear(width, 2)
        self.state = state

    def forward(self, x):
        state = self.state
        if state is not None:
            state = tuple(s.expand(-1, len(x), -1).contiguous() for s in state)
            state = state if len(state) > 1 else state[0]
        return self.last(self.layer(self.first(x), state)[0])


KINDS = {
    "lstm": (nn.LSTM(4, 5, batch_first=True), 5),
    "two layers, both ways": (nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True), 10),
    "projected": (nn.LSTM(4, 5, batch_first=True, proj_size=3), 3),
    "no bias": (nn.LSTM(4, 5, batch_first=True, bias=False), 5),
    "gru": (nn.GRU(4, 5, batch_first=True), 5),
    "gru, two layers, both ways": (nn.GRU(4, 5, 2, batch_first=True, bidirectional=True), 10),
    "tanh": (nn.RNN(4, 5, batch_first=True), 5),
    "relu": (nn.RNN(4, 5, batch_first=True, nonlinearity="relu"), 5),
}


@pytest.mark.parametrize("name", KINDS)
def test_exact(name):
    layer, width = KINDS[name]
    model = Read(layer, width).double().eval()
    found = rl.local_map(model, rand(6, 3), freeze=True)
    assert found.error < 1e-12
    torch.testing.assert_close(found.value.reshape(6, 2), model(rand(1, 6, 3))[0])
    shares = found.shares()
    assert float(shares.input.sum()) + shares.bias == pytest.approx(1)
    assert ("layer.bias_ih_l0" in shares.biases) == (name != "no bias")


def test_a_first_state_is_an_input_of_its_own():
    state = (rand(1, 1, 5, seed=1), rand(1, 1, 5, seed=2))
    model = Read(nn.LSTM(4, 5, batch_first=True), 5, state).double()
    found = rl.local_map(model, rand(6, 3), freeze=True)
    assert found.error < 1e-12
    assert found.shares().biases["constant"] != 0


@pytest.mark.parametrize("cell", [nn.LSTMCell(4, 5), nn.GRUCell(4, 5), nn.RNNCell(4, 5)])
def test_cells(cell):
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = cell

        def forward(self, x):
            state = None
            for t in range(x.shape[1]):
                state = self.cell(x[:, t], state)
            return state[0] if isinstance(state, tuple) else state

    found = rl.local_map(Steps().double(), rand(6, 4), freeze=True)
    assert found.error < 1e-12
    assert "cell.bias_hh" in found.shares().biases


def test_the_mean_over_samples_follows_them_too():
    model = Read(nn.GRU(4, 5, batch_first=True), 5).double()
    found = rl.linear_map(
        model, "first", "layer", rand(60, 6, 3), method="frozen_jacobian", samples=8
    )
    assert found.r2 > 0.5


def test_packed_sequences_are_refused():
    class Packed(Read):
        def forward(self, x):
            h = nn.utils.rnn.pack_padded_sequence(self.first(x), [6] * len(x), batch_first=True)
            out, _ = nn.utils.rnn.pad_packed_sequence(self.layer(h)[0], batch_first=True)
            return self.last(out)

    with pytest.raises(StructureError, match=r"packed sequence|pack_padded"):
        rl.local_map(Packed(nn.GRU(4, 5, batch_first=True), 5).double(), rand(6, 3), freeze=True)
