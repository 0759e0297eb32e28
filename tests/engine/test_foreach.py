"""Operations on lists of tensors with and without torch's private kernels."""

import pytest
import torch

from atoken.engine.foreach import foreach


@pytest.mark.parametrize(
    ("operation", "others", "scalars"),
    [
        ("lerp_", ("tensors", 0.3), {}),
        ("lerp", ("tensors", 0.3), {}),
        ("copy_", ("tensors",), {}),
        ("mul_", (0.5,), {}),
        ("add_", ("tensors",), {"alpha": -0.1}),
    ],
)
def test_without_the_kernel_the_result_is_the_same(monkeypatch, operation, others, scalars):
    torch.manual_seed(0)
    mine = [torch.randn(3, 2), torch.randn(5)]
    theirs = [tensor.clone() for tensor in mine]
    columns = [[torch.randn_like(tensor) for tensor in mine] if other == "tensors" else other for other in others]
    fused = foreach(operation, mine, *columns, **scalars)
    monkeypatch.delattr(torch, f"_foreach_{operation}")
    plain = foreach(operation, theirs, *columns, **scalars)
    for a, b, c, d in zip(fused, plain, mine, theirs, strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(c, d)
