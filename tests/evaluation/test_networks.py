"""Networks that the user points at: called as their files want it, refused where they are not what they should be."""

import pytest
import torch
from torch import Tensor, nn

from atoken.backbones.alex import alexnet
from atoken.backbones.lpips import lpips
from atoken.evaluation.judges import LpipsJudge, NetworkFiles, build_judges
from atoken.evaluation.torchscript import i3d, inception
from refusals import refused


class StandInInception(nn.Module):
    """Takes what the FID Inception takes."""

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        assert img.dtype == torch.uint8
        assert return_features
        return img.float().mean([2, 3]) @ torch.ones(3, 8, device=img.device)


class StandInI3D(nn.Module):
    """Takes what the I3D of FVD takes."""

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        assert x.dim() == 5
        assert x.shape[1] == 3
        assert x.shape[3] == 224
        assert float(x.abs().max()) <= 1.0
        assert return_features
        assert not rescale
        assert not resize
        return x.mean([3, 4]).flatten(1)


@pytest.fixture
def files(tmp_path):
    torch.jit.script(StandInInception()).save(str(tmp_path / "inception.pt"))
    torch.jit.script(StandInI3D()).save(str(tmp_path / "i3d.pt"))
    return NetworkFiles(inception=tmp_path / "inception.pt", i3d=tmp_path / "i3d.pt")


FRAMES = torch.arange(16 * 3 * 20 * 24).remainder(256).to(torch.uint8).view(16, 3, 20, 24)


def test_inception_reads_bytes(files):
    features = inception(files.inception, "cpu")(FRAMES)
    assert features.shape == (16, 8)
    assert torch.allclose(features[:, 0], FRAMES.float().mean((2, 3)).sum(1))


def test_i3d_reads_whole_clips(files):
    network = i3d(files.i3d, 16, "cpu")
    features = network(FRAMES)
    assert features.shape == (1, 48)
    expected = FRAMES.float().mean((2, 3)).T.flatten() / 127.5 - 1
    assert torch.allclose(features[0], expected, atol=0.02)
    assert network(FRAMES[:15]) is None


def test_missing_and_wrong_files_say_what_to_do(files, tmp_path):
    for metric, option in (("rfid", "--inception"), ("rfvd", "--i3d"), ("lpips", "--vgg16")):
        with refused(option):
            build_judges([metric], NetworkFiles(), 16, "cpu")
    with refused(tmp_path / "nowhere.pt", "inception-2015", error=FileNotFoundError):
        inception(tmp_path / "nowhere.pt", "cpu")
    (tmp_path / "bad.pt").write_bytes(b"no script")
    with refused(tmp_path / "bad.pt", "TorchScript"):
        inception(tmp_path / "bad.pt", "cpu")
    with refused(files.i3d.name):
        inception(files.i3d, "cpu")(FRAMES)


def random_alexnet(path, **changed):
    """A state dict in torchvision's form; ``changed`` replaces weights, by their number."""
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    torch.manual_seed(0)
    state = {}
    for number, (out, channels, side) in shapes.items():
        state[f"features.{number}.weight"] = torch.randn(out, channels, side, side) / (channels * side**2) ** 0.5
        state[f"features.{number}.bias"] = torch.zeros(out)
    for number, weight in changed.items():
        state[f"features.{number.removeprefix('n')}.weight"] = weight
    torch.save(state, path)


def test_lpips_from_a_file(tmp_path):
    random_alexnet(tmp_path / "alexnet.pth")
    (judge,) = build_judges(["lpips"], NetworkFiles(alexnet=tmp_path / "alexnet.pth"), 16, "cpu")
    assert isinstance(judge, LpipsJudge)
    before = judge.network("lpips")
    judge.distance.heads[0].data[0] += 1
    after = judge.network("lpips")
    judge.distance.heads[0].data[0] -= 1
    assert before["sha256"] == after["sha256"]
    assert before["heads"] != after["heads"]
    a = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    b = 255 - a
    values = judge.compare(judge.look(a), judge.look(b))["lpips"]
    expected = lpips(alexnet(tmp_path / "alexnet.pth"))(a / 127.5 - 1, b / 127.5 - 1)
    assert torch.allclose(values, expected, atol=1e-5)
    assert float(values.min()) > 0
    assert float(judge.compare(judge.look(a), judge.look(a))["lpips"].abs().max()) == 0


def test_trunks_of_another_shape_are_refused_and_say_how_small_pictures_may_be(tmp_path):
    random_alexnet(tmp_path / "bad.pth", n3=torch.zeros(192, 3, 5, 5))
    with refused("features.3", [192, 3, 5, 5]):
        alexnet(tmp_path / "bad.pth")
    random_alexnet(tmp_path / "alexnet.pth")
    network = alexnet(tmp_path / "alexnet.pth")
    assert network.least == 31
    assert network.features(torch.zeros(1, 3, 31, 31))[-1].shape[-2:] == (1, 1)
    with pytest.raises(RuntimeError):
        network.features(torch.zeros(1, 3, 30, 30))


class Pair(nn.Module):
    """What a classifier with two outputs gives."""

    def forward(self, img: Tensor, return_features: bool = False) -> tuple[Tensor, Tensor]:
        return img.float().mean([2, 3]), img.float().mean([2, 3])


def test_scripts_that_give_no_vectors_are_refused(tmp_path):
    torch.jit.script(Pair()).save(str(tmp_path / "pair.pt"))
    with refused("pair.pt", "vectors"):
        inception(tmp_path / "pair.pt", "cpu")(FRAMES)
