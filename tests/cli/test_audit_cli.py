import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rectilinear import cli

FILE = """
from torch import nn
from neighbour import WIDTH

def net():
    return nn.Sequential(nn.Linear(6, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, 1, bias=False))

def broken():
    return 1 / 0

def number():
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(FILE)
    (tmp_path / "neighbour.py").write_text("WIDTH = 8")
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 6))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "bytes.npy", random.integers(0, 255, (120, 6), dtype=np.uint8))
    np.save(tmp_path / "y.npy", (x[:, 0] > 0).astype(np.int64))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    zero = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 1, bias=False))
    nn.init.zeros_(zero[2].weight)
    save_file(zero.state_dict(), tmp_path / "zero.safetensors")
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_audits_and_writes(folder, ask):
    answer = ask(
        "audit",
        "model.py:net",
        "--data",
        "x.npy",
        "--labels",
        "y.npy",
        "--out",
        "found",
        "--html",
        "a.html",
    )
    assert answer["verdict"]["label"] == "not linear"
    assert answer["rows"] == 120
    assert answer["measures"]["affine_score"]["details"]["accuracy"] <= 1
    assert (
        json.loads((folder / "found" / "audit.json").read_text())["measures"] == answer["measures"]
    )
    assert (folder / "a.html").read_text() == (folder / "found" / "audit.html").read_text()
    again = ask("audit", "model.py:net", "--data", "x.npy", "--labels", "y.npy")
    assert again["measures"] == answer["measures"], "the model is made from the same seed"


def test_prints_a_table(folder, capsys):
    assert cli.main(["audit", "model.py:net", "--data", "bytes.npy"]) == 0
    said = capsys.readouterr().out
    assert "affine_r2" in said
    assert "not applicable" in said


def test_loads_weights(folder, ask):
    answer = ask("audit", "model.py:net", "--data", "x.npy", "--checkpoint", "zero.safetensors")
    assert answer["verdict"]["label"] == "linear"


MISTAKES = {
    "no such file": ["other.py:net", "--data", "x.npy"],
    "no such name": ["model.py:nothing", "--data", "x.npy"],
    "not that form": ["model.py", "--data", "x.npy"],
    "a function that fails": ["model.py:broken", "--data", "x.npy"],
    "no model": ["model.py:number", "--data", "x.npy"],
    "no such data": ["model.py:net", "--data", "nothing.npy"],
    "no array": ["model.py:net", "--data", "model.py"],
    "no numbers": ["model.py:net", "--data", "words.npy"],
    "labels too few": ["model.py:net", "--data", "x.npy", "--labels", "words.npy"],
    "no weights": ["model.py:net", "--data", "x.npy", "--checkpoint", "x.npy"],
    "other weights": ["model.py:net", "--data", "x.npy", "--checkpoint", "other.safetensors"],
    "steps without lr": ["model.py:net", "--data", "x.npy", "--steps", "10"],
    "threshold": ["model.py:net", "--data", "x.npy", "--threshold", "2"],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake, folder, capsys):
    assert cli.main(["audit", *MISTAKES[mistake]]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rectilinear: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_outputs_are_judged_each_or_together(folder, ask):
    (folder / "uneven.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Uneven(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.mix = nn.Linear(6, 2)\n\n"
        "    def forward(self, x):\n"
        "        h = self.mix(x)\n"
        "        return torch.stack([1e4 * h[:, 0], (5 * h[:, 1]).sin()], 1)\n"
    )
    labels = [
        ask("audit", "uneven.py:Uneven", "--data", "x.npy", "--outputs", outputs)["verdict"][
            "label"
        ]
        for outputs in ("each", "together", "standardised")
    ]
    assert labels == ["not linear", "effectively linear", "not linear"]


@pytest.mark.whole
def test_a_folder_of_a_transformer_and_its_texts(tmp_path, ask, monkeypatch, capsys):
    makers = pytest.importorskip("makers_hf")
    makers.write_bert(tmp_path / "bert")
    random = np.random.default_rng(0)
    lines = [" ".join(random.choice(makers.WORDS, random.integers(3, 8))) for _ in range(120)]
    (tmp_path / "texts.txt").write_text("\n\n".join(lines))
    monkeypatch.chdir(tmp_path)
    answer = ask("audit", "bert", "--text", "texts.txt", "--samples", "2", "--out", "found")
    layers = answer["profile"]["layers"]
    assert [layer["source"] for layer in layers] == [
        "encoder.layer.0@input",
        "encoder.layer.0",
        "encoder.layer.1",
    ]
    assert set(layers[0]["maps"]) == {"least_squares", "mean_jacobian", "frozen_jacobian"}
    page = (tmp_path / "found" / "audit.html").read_text(encoding="utf-8")
    assert page.count("<td>encoder.layer.1</td>") >= 1
    assert "<svg" in (tmp_path / "found" / "layers.svg").read_text(encoding="utf-8")
    ask("audit", "bert", "--text", "texts.txt", "--samples", "0", "--smaller", "small")
    words = ("--text", "texts.txt", "--measures", "verdict", "--samples", "0")
    small, large = (ask("audit", folder, *words) for folder in ("small", "bert"))
    assert small["verdict"]["label"], "with its tokenizer, the smaller model is one to audit again"
    assert small["parameters"] < large["parameters"]
    for words in (["bert"], ["bert", "--text", "none.txt"], ["texts.txt", "--text", "texts.txt"]):
        assert cli.main(["audit", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_weights_of_torch_save_are_loaded_and_nothing_is_run(folder, ask, capsys):
    weights = load_file(folder / "zero.safetensors")
    for name, held in {
        "plain.pth": weights,
        "nested.pt": {"state_dict": weights, "step": 3},
        "parallel.pt": {f"module.{key}": value for key, value in weights.items()},
        "lightning.pt": {"state_dict": {f"model._orig_mod.{k}": v for k, v in weights.items()}},
    }.items():
        torch.save(held, folder / name)
        answer = ask("audit", "model.py:net", "--data", "x.npy", "--checkpoint", name)
        assert answer["verdict"]["label"] == "linear"
    torch.save(nn.Linear(2, 2), folder / "whole.pth")  # its loading would run code
    torch.save([1], folder / "list.pth")
    (folder / "none.pth").write_bytes(b"not a file of torch")
    for name in ("whole.pth", "list.pth", "none.pth", "missing.pth"):
        assert cli.main(["audit", "model.py:net", "--data", "x.npy", "--checkpoint", name]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert name in said
        assert "\x1b" not in said


def test_a_model_itself_may_have_the_name(folder, ask):
    (folder / "made.py").write_text("from torch import nn\nlinear = nn.Linear(6, 2)")
    assert ask("audit", "made.py:linear", "--data", "x.npy")["verdict"]["label"] == "linear"


def test_measurements_are_chosen(folder, ask):
    answer = ask("audit", "model.py:net", "--data", "x.npy", "--measures", "parity")
    kinds = {name: m["note"] for name, m in answer["measures"].items()}
    assert kinds["weights"] == "not asked for"
    assert kinds["parity"] != "not asked for"


STACK = """
import torch
from torch import nn

class Block(nn.Module):
    keep = 6

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x):
        return (x + self.down(self.up(x).tanh()))[:, :self.keep]

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.head = nn.ModuleList(Block() for _ in range(4)), nn.Linear(6, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return {"hidden": x, "logits": self.head(x).exp()}
"""


def test_smaller_models_beside_the_original(folder, ask):
    (folder / "stack.py").write_text(STACK)
    asked = ("audit", "stack.py:Net", "--data", "x.npy", "--measures", "segments")
    answer = ask(*asked, "--samples", "0", "--out", "found", "--smaller", "small")
    rows = answer["smaller"]["rows"]
    assert [row["Blocks less"] for row in rows] == [0, 1, 2]
    assert rows[0]["Parameters"] == "669"
    assert rows[2]["Parameters"] == "345"
    assert 0.9 < rows[1]["Output kept, R²"] < 1
    weights = load_file("small/model.safetensors")
    assert {name.split(".")[1] for name in weights if name.startswith("layers")} == {"0", "1"}
    page = Path("found/audit.html").read_text()
    assert "A smaller model" in page
    assert 'td class="number">669</td>' in page  # set flush right and not broken
    assert "smaller" not in ask(*asked, "--remove", "0", "--samples", "0")


def test_layers_are_those_of_the_output_asked_for(folder, ask):
    narrowing = """
class Two(Net):
    def __init__(self):
        super().__init__()
        self.layers[3].keep = 4
        self.head = nn.Linear(4, 3)
"""
    (folder / "stack.py").write_text(STACK + narrowing)
    asked = ("audit", "stack.py:Two", "--data", "x.npy", "--measures", "segments", "--remove", "0")
    found = [
        ask(*asked, "--output", name, "--samples", "2")["profile"]["layers"][0]["maps"]
        for name in ("hidden", "logits")
    ]
    assert found[0]["least_squares"]["r2"] != found[1]["least_squares"]["r2"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "model_type"),
        ('{"model_type": "frobnicate"}', "does not recognize this architecture"),
        (
            '{"model_type": "bert", "hidden_size": 16, "num_attention_heads": 2}',
            "model.safetensors",
        ),
    ],
)
def test_folders_that_hold_no_model(folder, config, said, ask_error):
    pytest.importorskip("transformers", reason="needs rectilinear[hf]")
    (folder / "bert").mkdir()
    (folder / "texts.txt").write_text("one\ntwo\n")
    if config:
        (folder / "bert" / "config.json").write_text(config)
    assert said in ask_error("audit", "bert", "--text", "texts.txt")


def test_a_folder_without_a_vocabulary(folder, ask_error):
    transformers = pytest.importorskip("transformers", reason="needs rectilinear[hf]")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    transformers.BertModel(transformers.BertConfig(**size)).save_pretrained(folder / "bert")
    (folder / "texts.txt").write_text("one\ntwo\n")
    assert "no tokenizer" in ask_error("audit", "bert", "--text", "texts.txt")
