"""Files of the Jacobian lens: one matrix for each layer, in the published format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rectilinear.errors import CheckpointError, ConfigError
from rectilinear.files import atomic_write
from rectilinear.maps.layer_profile import LayerProfile
from rectilinear.maps.map_report import LinearMap

_LAYER = re.compile(r"(?:^|\.)(\d+)$")


@dataclass(frozen=True, eq=False)
class JacobianLens:
    """Mean Jacobians from the outputs of blocks to that of the last block.

    Attributes:
        maps: by the index of the block; their constants are zero, as the file has none.
        prompts: how many samples they were averaged over.
        metadata: what else the file says, such as the model and the texts.
    """

    maps: Mapping[int, LinearMap]
    prompts: int
    metadata: Mapping[str, Any]


def read_jacobian_lens(path: Path | str) -> JacobianLens:
    """The Jacobian lens in the file ``path``, or the checkpoint of a fit; no code in it is run.

    The file holds ``J`` (a matrix by layer), ``n_prompts``, ``source_layers`` and ``d_model``; a
    checkpoint holds ``jacobian_sum`` and ``n_done``.

    Raises:
        CheckpointError: if the file is missing, or of another form.

    Reference: W. Gurnee et al., 2026, and the reference implementation anthropics/jacobian-lens.
    """
    path = Path(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no file {path}", "a Jacobian lens") from error
    except Exception as error:
        raise CheckpointError(
            f"{path}, which cannot be read",
            "a file of tensors",
            "Check the path; write_jacobian_lens writes such files.",
        ) from error
    prompts, matrices = _matrices(held, path)
    maps = {}
    for layer, matrix in sorted(matrices.items()):
        report: dict[str, Any] = {
            "method": "mean_jacobian",
            "source": f"block {layer}",
            "target": "last block",
        }
        report |= {"samples": prompts, "positions": "all"}
        maps[layer] = LinearMap(matrix, matrix.new_zeros(len(matrix)), report)
    known = ("J", "jacobian_sum", "n_prompts", "n_done", "metadata")
    metadata = {k: v for k, v in held.items() if k not in known and not isinstance(v, Tensor)}
    return JacobianLens(maps, prompts, metadata | dict(held.get("metadata") or {}))


def _matrices(held: Any, path: Path) -> tuple[int, dict[int, Tensor]]:
    """The number of prompts, and the matrices in float32."""
    try:
        summed = "jacobian_sum" in held
        prompts = int(held["n_done"] if summed else held["n_prompts"])
        found = held["jacobian_sum" if summed else "J"]
        matrices = {int(k): m.float() / (prompts if summed else 1) for k, m in found.items()}
        sizes = {tuple(m.shape) for m in matrices.values()}
        ((rows, columns),) = sizes
        if rows != columns or rows != int(held.get("d_model", rows)):
            raise ValueError(sizes)
    except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{path} without a square matrix for each layer",
            "J, n_prompts, source_layers and d_model",
            "Use a file of write_jacobian_lens or of the published lens.",
        ) from error
    return prompts, matrices


def write_jacobian_lens(
    profile: LayerProfile,
    path: Path | str,
    *,
    dtype: torch.dtype = torch.float16,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the mean Jacobians of a profile as a ``.pt`` file in the published format.

    Only layers that are outputs of numbered blocks are written.

    Args:
        profile: of ``layer_profile(..., positions="all")``; the published fits skip=(16, 1).
        path: the file.
        dtype: of the matrices; half precision in published files.
        metadata: numbers and strings to keep beside them.

    Raises:
        ConfigError: for a profile without mean Jacobians, of "same" positions, or to a target of
            another width.
        DiskError: if the disk is full or cannot be written.
    """
    matrices, prompts = {}, 0
    for source, maps in profile.maps.items():
        number = _LAYER.search(source)
        if number is None or "mean_jacobian" not in maps:
            continue
        found = maps["mean_jacobian"]
        if found.report.positions != "all":
            raise ConfigError(
                "mean Jacobians of 'same' positions",
                "those of 'all', which a Jacobian lens holds",
                "Pass layer_profile(..., positions='all').",
            )
        if not found.is_square:
            raise ConfigError(
                f"a map of {found.extra_repr()}",
                "a square one",
                "Choose layers and target of one width: layer_profile(..., layers=, target=).",
            )
        matrices[int(number[1])] = found.weight.detach().to("cpu", dtype)
        prompts = found.report.samples
    if not matrices:
        raise ConfigError(
            f"a profile without mean Jacobians from numbered blocks ({', '.join(profile.maps)})",
            "at least one, such as of layers.3",
            "Pass layer_profile(..., methods=['mean_jacobian'], positions='all').",
        )
    held = {
        "J": matrices,
        "n_prompts": prompts,
        "source_layers": sorted(matrices),
        "d_model": len(next(iter(matrices.values()))),
        "metadata": {"target": profile.target, "model": profile.model, **(metadata or {})},
    }
    with atomic_write(path) as tmp:
        torch.save(held, tmp)
