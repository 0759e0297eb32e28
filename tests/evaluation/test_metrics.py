"""Metrics against independent implementations."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
import torchmetrics.functional.image as tm
from skimage.metrics import structural_similarity

from atoken.metrics.codebook import CodebookUse
from atoken.metrics.frechet import FeatureStatistics, frechet_distance
from atoken.metrics.psnr import psnr
from atoken.metrics.ssim import ssim
from refusals import refused


def pictures(count, height, width):
    """Pairs of a smooth picture with noise and the same with more noise, uint8 [B, 3, H, W]."""
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 1.5, (count, 3, height, width)), -1), -2) + 128
    pair = [np.clip(smooth + rng.normal(0, s, smooth.shape), 0, 255).round().astype(np.uint8) for s in (1, 8)]
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1])


@pytest.mark.parametrize("size", [(11, 11), (64, 48), (300, 517)])
def test_ssim_is_that_of_scikit_image(size):
    a, b = pictures(2, *size)
    options = {"channel_axis": 0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        structural_similarity(x.numpy(), y.numpy(), data_range=255, **options) for x, y in zip(a, b, strict=True)
    ]
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-4)
    assert min(expected) < 0.96


def test_ssim_and_psnr_are_those_of_torchmetrics():
    a, b = pictures(3, 64, 80)
    _, full = tm.structural_similarity_index_measure(
        a.double(), b.double(), data_range=255.0, reduction="none", return_full_image=True
    )
    inside = full[..., 5:-5, 5:-5].mean((1, 2, 3))  # it also counts the border, over reflected pixels
    assert ssim(a, b).tolist() == pytest.approx(inside.tolist(), abs=1e-4)
    for x, y in zip(a, b, strict=True):
        expected = tm.peak_signal_noise_ratio(x.double(), y.double(), data_range=255.0)
        assert psnr(x.numpy(), y.numpy()) == pytest.approx(float(expected), abs=1e-4)


def test_ssim_of_equal_and_of_flat_pictures():
    a, _ = pictures(1, 32, 32)
    assert float(ssim(a, a)) == pytest.approx(1, abs=1e-6)
    white, grey = torch.full_like(a, 255), torch.full_like(a, 128)
    luminance = (2 * 255 * 128 + 6.5025) / (255**2 + 128**2 + 6.5025)
    assert float(ssim(white, grey)) == pytest.approx(luminance, abs=1e-4)


def test_ssim_refuses():
    a, _ = pictures(1, 32, 32)
    with refused("uint8"):
        ssim(a.float(), a)
    with refused(11):
        ssim(a[..., :8], a[..., :8])


def features(count, channels, seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(seed, 1, (count, channels)) @ rng.normal(0, 1, (channels, channels)))


def statistics(*parts):
    result = FeatureStatistics(parts[0].shape[1])
    for part in parts:
        result.update(part)
    return result


def test_streamed_statistics_are_those_of_numpy():
    x = features(101, 12, 3)
    merged = statistics(*x[:50].split(7))
    merged.merge(statistics(*x[50:].split(9)))
    assert merged.count == 101
    np.testing.assert_allclose(merged.mean, x.numpy().mean(0), atol=1e-10)
    np.testing.assert_allclose(merged.covariance, np.cov(x.numpy(), rowvar=False), atol=1e-8)


def test_statistics_keep_their_digits_far_from_zero():
    x = features(50, 4, 1) + 1e4
    expected = np.cov(x.numpy(), rowvar=False)
    np.testing.assert_allclose(statistics(*x.split(5)).covariance, expected, rtol=1e-5, atol=1e-5)


def test_frechet_distance_is_that_of_scipy():
    x, y = features(200, 16, 1), features(150, 16, 2)
    distance = frechet_distance(statistics(x), statistics(y))
    a, b = (np.cov(z.numpy(), rowvar=False) for z in (x, y))
    root = scipy.linalg.sqrtm(a @ b).real
    mean_part = np.sum((x.numpy().mean(0) - y.numpy().mean(0)) ** 2)
    assert distance.mean_part == pytest.approx(mean_part, rel=1e-8)
    assert distance.covariance_part == pytest.approx(np.trace(a + b - 2 * root), rel=1e-6)
    assert distance.total == distance.mean_part + distance.covariance_part


def test_frechet_distance_is_that_of_torchmetrics():
    from torchmetrics.image.fid import _compute_fid

    x, y = statistics(features(90, 8, 1)), statistics(features(90, 8, 2))
    expected = _compute_fid(x.mean, x.covariance, y.mean, y.covariance)
    assert frechet_distance(x, y).total == pytest.approx(float(expected), rel=1e-4)


def test_frechet_distance_with_fewer_vectors_than_channels():
    x = features(10, 32, 1)
    assert frechet_distance(statistics(x), statistics(x)).total == pytest.approx(0, abs=1e-6 * float(x.var(0).sum()))
    shifted = frechet_distance(statistics(x), statistics(x + 2))
    assert shifted.mean_part == pytest.approx(4 * 32)
    assert shifted.covariance_part == pytest.approx(0, abs=1e-6 * float(x.var(0).sum()))


def test_statistics_are_saved_and_used_again(tmp_path):
    x = statistics(features(20, 6, 1))
    x.save(tmp_path / "reference.safetensors", {"set": "val", "n": 20})
    again, origin = FeatureStatistics.load(tmp_path / "reference.safetensors")
    assert origin == {"set": "val", "n": 20}
    assert again.count == 20
    assert torch.equal(again.sum, x.sum)
    assert torch.equal(again.outer, x.outer)
    (tmp_path / "bad.safetensors").write_bytes(b"no statistics")
    with refused(tmp_path / "bad.safetensors"):
        FeatureStatistics.load(tmp_path / "bad.safetensors")


def test_statistics_refuse():
    with refused("NaN"):
        statistics(torch.full((2, 3), torch.nan))
    with refused([2, 3], "4]"):
        FeatureStatistics(4).update(torch.zeros(2, 3))
    with refused(2):
        frechet_distance(statistics(torch.zeros(1, 3)), statistics(torch.zeros(4, 3)))


def test_codebook_use():
    use, more = CodebookUse([4, 8]), CodebookUse([4, 8])
    use.update(torch.tensor([[0, 5], [1, 5]]).to(torch.uint16))
    more.update(torch.tensor([[2, 5], [3, 6]]))
    use.merge(more)
    assert use.total == 4
    assert use.used() == [1.0, 0.25]
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert use.perplexity() == pytest.approx([4.0, expected])
    with refused("0 ... 3"):
        use.update(torch.tensor([[4, 0]]))
