"""The Muon step."""

import pytest
import torch
from torch import nn

from training.optimiser import Muon, make_optimisers, orthogonalise


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 48, 16), (2, 16, 48)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_the_singular_directions_stay() -> None:
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(24, 24))
    v, _ = torch.linalg.qr(torch.randn(24, 24))
    matrix = u @ torch.diag(torch.linspace(0.5, 1.5, 24)) @ v.T
    inner = u.T @ orthogonalise(matrix[None])[0] @ v
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-4
    assert (inner.diagonal() > 0.6).all()


def test_a_stack_gives_what_each_matrix_gives_alone() -> None:
    torch.manual_seed(0)
    stack = torch.randn(4, 20, 12)
    alone = torch.stack([orthogonalise(m[None])[0] for m in stack])
    assert torch.allclose(orthogonalise(stack), alone, atol=1e-5)


def test_a_step_goes_downhill() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 16, bias=False)
    optimiser = Muon([layer.weight], lr=0.02, momentum=0.9, weight_decay=0.0)
    x, target = torch.randn(64, 16), torch.randn(64, 16)
    losses = []
    for _ in range(30):
        loss = (layer(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_matrices_go_to_muon_and_the_rest_to_adam() -> None:
    model = nn.ModuleDict(
        {"embed_tokens": nn.Embedding(8, 4), "norm": nn.LayerNorm(4), "mix": nn.Linear(4, 4, False)}
    )
    muon, adam = make_optimisers(model, 0.02, 0.001)
    assert [p.shape for g in muon.param_groups for p in g["params"]] == [(4, 4)]
    assert len([p for g in adam.param_groups for p in g["params"]]) == 3
