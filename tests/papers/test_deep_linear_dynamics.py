"""Saddle to saddle, the bias of diagonal networks, and the edge of stability: every claim holds."""

from importlib import import_module

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["saddle_to_saddle", "diagonal_bias", "edge_of_stability"])
def test_every_claim_holds(figure: str) -> None:
    module = import_module(f"rectilinear.papers.deep_linear_dynamics.{figure}")
    claims = module.claims(module.compute("small"))
    assert [claim.name for claim in claims if not claim.ok] == []
