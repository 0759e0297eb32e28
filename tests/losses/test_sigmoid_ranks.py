"""The sigmoid loss over two processes is the loss of the whole batch, in value and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import normalize

from atoken.losses.sigmoid import SigmoidLoss


def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, texts = (normalize(torch.randn(4, 6, generator=generator), dim=-1) for _ in range(2))
    return images, texts, torch.tensor([3, 1, 3, 2])


def losses_and_gradients(images, texts, labels) -> list[torch.Tensor]:
    out = []
    for names in (None, labels):
        loss = SigmoidLoss()
        x, y = images.clone().requires_grad_(), texts.clone().requires_grad_()
        value = loss(x, y, names)
        value.backward()
        out += [value.detach()[None], x.grad, y.grad, loss.log_scale.grad, loss.bias.grad]
    return out


def worker(rank: int, folder: str, counts: list[int]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(losses_and_gradients(*(x.split(counts)[rank] for x in pairs())), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("counts", [[2, 2], [1, 3]])
def test_two_ranks_agree_with_one(tmp_path, counts):
    mp.spawn(worker, (str(tmp_path), counts), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for whole, *parts in zip(losses_and_gradients(*pairs()), *ranks, strict=True):
        if whole.ndim == 1:  # loss, scale and bias: the mean over ranks
            torch.testing.assert_close(torch.stack(parts).mean(0), whole)
        else:  # each rank holds the gradient of its own pairs, which DDP would halve
            torch.testing.assert_close(torch.cat(parts) / 2, whole)
