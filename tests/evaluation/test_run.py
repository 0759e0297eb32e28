"""A run counts what it should, stops anywhere, goes on, and says what each number is."""

import errno
import json
import os
import shutil
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from evaluation_pictures import smooth
from skimage.metrics import structural_similarity

from atoken import PRESETS, AToken, GaussianConfig, read_image, write_image
from atoken.evaluation import run as running
from atoken.evaluation.asset_methods import AssetMethod
from atoken.evaluation.codecs import PictureCodec
from atoken.evaluation.datasets import class_folders, picture_folder, video_folder
from atoken.evaluation.judges import Judge, PixelJudge
from atoken.evaluation.linear import LinearProjection
from atoken.evaluation.methods import LATENT_BITS, ATokenMethod, Method, Outcome, bytes_of_tokens
from atoken.evaluation.progress import Progress, read_items
from atoken.evaluation.protocols import PROTOCOLS
from atoken.evaluation.provenance import stamps
from atoken.evaluation.report import write_report
from atoken.evaluation.results import read_reference, read_results, summarise, write_references, write_results
from atoken.evaluation.run import Plan, read_clip, run
from atoken.evaluation.tables import markdown
from atoken.metrics.frechet import FeatureStatistics, frechet_distance
from atoken.metrics.psnr import psnr
from refusals import refused


@pytest.mark.slow
def test_numbers_are_those_of_a_loop_over_pictures(plan, tiny, tmp_path):
    results = summarise(plan, run(plan, tmp_path / "out"))
    network = plan.judges[1].net
    originals, others = FeatureStatistics(1280), FeatureStatistics(1280)
    psnrs, ssims, bits, pixels, codes = [], [], [], [], []
    for item in plan.items:
        picture = read_image(item.path)
        tokens = tiny.encode(picture, kind="discrete")
        result = tiny.decode(tokens)
        psnrs.append(psnr(result, picture))
        options = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        ssims.append(structural_similarity(picture, result, data_range=255, **options))
        codes.append(tokens.codes.int())
        bits.append(96 * len(tokens) / picture[..., 0].size)
        for statistics, array in ((originals, picture), (others, result)):
            pixels = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 127.5 - 1
            statistics.update(network.embedding(pixels))
    continuous, discrete = results["methods"]
    assert (continuous["name"], discrete["name"]) == ("tiny, continuous", "tiny, discrete")
    numbers = discrete["metrics"]
    assert numbers["psnr"]["value"] == pytest.approx(np.mean(psnrs), abs=1e-4)
    assert numbers["ssim"]["value"] == pytest.approx(np.mean(ssims), abs=1e-4)
    assert numbers["bpp"]["value"] == pytest.approx(np.mean(bits))
    distance = frechet_distance(originals, others)
    assert numbers["lite0-frechet"]["value"] == pytest.approx(distance.total, rel=1e-3)
    assert numbers["lite0-frechet"]["parts"]["mean_part"] == pytest.approx(distance.mean_part, rel=1e-3)
    used = [len(column.unique()) / 4096 for column in torch.cat(codes).unbind(1)]
    assert discrete["codebooks"]["used"] == pytest.approx(used)
    assert continuous["codebooks"] is None
    tokens = sum(-(-h // 16) * -(-w // 16) / (h * w) for h, w in [(40, 56)] * 4 + [(33, 47)]) / 5
    assert continuous["metrics"]["bpp"]["value"] == pytest.approx(tokens * 48 * LATENT_BITS)


@pytest.mark.slow
def test_every_number_carries_its_protocol(plan, tmp_path):
    results = summarise(plan, run(plan, tmp_path / "out"))
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == json.loads(json.dumps(results))
    for method in results["methods"]:
        for name, number in method["metrics"].items():
            protocol = number["protocol"]
            assert (protocol["name"], protocol["size"], protocol["range"]) == ("native", "native", [0, 255])
            assert protocol["n"] == protocol["reference"]["n"] == 5
            assert len(protocol["reference"]["sha256"]) == len(protocol["code"]["sha256"]) == 64
            if name.startswith("lite0"):
                assert protocol["network"]["name"] == "efficientnet-lite0"
                assert len(protocol["network"]["sha256"]) == 64
    text = markdown(results)
    assert "FID" not in text
    assert "LPIPS" not in text
    assert text.count("\n| tiny, ") == 2


@pytest.mark.slow
@pytest.mark.parametrize("place", ["model", "counting"])
def test_an_interrupted_run_goes_on_to_the_same_numbers(plan, tmp_path, monkeypatch, place):
    whole = summarise(plan, run(plan, tmp_path / "whole"))
    calls = []
    home, name = {"model": (running, "_judge"), "counting": (Progress, "record")}[place]
    original = getattr(home, name)

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(running, "SAVE_EVERY", -1)
    with monkeypatch.context() as patch:
        patch.setattr(home, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "out")
    seen = []
    read = running.read_clip
    monkeypatch.setattr(running, "read_clip", lambda item, protocol: seen.append(item.name) or read(item, protocol))
    resumed = summarise(plan, run(plan, tmp_path / "out"))
    assert "a.png" not in seen
    assert "e.png" in seen
    assert [line["name"] for line in read_items(tmp_path / "out")] == [item.name for item in plan.items]
    for key in ("methods", "data"):
        assert resumed[key] == whole[key]


@pytest.mark.slow
def test_a_finished_run_is_not_measured_again(plan, tmp_path, monkeypatch):
    first = summarise(plan, run(plan, tmp_path / "out"))
    monkeypatch.setattr(running, "read_clip", None)
    assert summarise(plan, run(plan, tmp_path / "out"))["methods"] == first["methods"]


@pytest.mark.slow
def test_another_run_in_the_folder_is_refused(plan, tmp_path):
    run(plan, tmp_path / "out")
    with refused(tmp_path / "out", "--out", "--overwrite"):
        run(replace(plan, metrics=("psnr",), judges=plan.judges[:1]), tmp_path / "out")
    with refused(tmp_path / "out", "--out", "--overwrite"):
        run(replace(plan, items=plan.items[:-1]), tmp_path / "out")


@pytest.mark.slow
def test_items_that_cannot_be_read_are_said_and_not_counted(plan, pictures, tmp_path):
    (pictures / "b.png").write_bytes(b"no picture")
    results = summarise(plan, run(plan, tmp_path / "out"))
    assert results["data"]["n"] == 4
    assert [failure["name"] for failure in results["failures"]] == ["b.png"]
    assert "not a JPEG, PNG" in results["failures"][0]["error"]


@pytest.mark.slow
def test_saved_statistics_of_the_originals_are_used_again(plan, tmp_path):
    progress = run(plan, tmp_path / "out")
    whole = summarise(plan, progress)
    write_references(plan, progress, tmp_path)
    path = tmp_path / "reference.lite0-frechet.safetensors"
    metric, statistics, origin = read_reference(path, plan)
    assert origin == whole["data"]
    fewer = replace(plan, items=plan.items[:3])
    counts = run(fewer, tmp_path / "fewer")
    number = summarise(fewer, counts, {metric: (statistics, origin)})["methods"][0]["metrics"][metric]
    own = summarise(fewer, counts)["methods"][0]["metrics"][metric]
    assert number["value"] != own["value"]
    assert (number["protocol"]["reference"]["n"], number["protocol"]["n"]) == (5, 3)
    with refused(path, "protocol"):
        read_reference(path, replace(plan, protocol=PROTOCOLS["paper-image"]))


def test_videos_frame_by_frame_and_clip_by_clip(tmp_path):

    class Clips(Judge):
        """A vector for every whole clip of four frames."""

        frechet_metric = "rfvd"
        whole_clips = True

        def look(self, frames):
            return frames.float().mean((2, 3)).flatten()[None] if len(frames) == 4 else None

        def vectors(self, seen):
            return seen

        def network(self, metric):
            return {"name": "means", "sha256": "0" * 64}

    for video, count in (("bear", 9), ("camel", 4)):
        for index in range(count):
            write_image(tmp_path / f"data/{video}/{index:05d}.png", smooth(f"{video}{index}"))
    codec = PictureCodec("JPEG", lambda clip: 20 * bytes_of_tokens(PRESETS["tiny"], clip))
    metrics = ("psnr", "ssim", "rfvd")
    protocol = replace(PROTOCOLS["paper-video"], clip=4)
    items = video_folder(tmp_path / "data")
    plan = Plan(protocol, metrics, items, "data", [codec], [PixelJudge(metrics), Clips()], 16, "cpu")
    results = summarise(plan, run(plan, tmp_path / "out"))
    numbers = results["methods"][0]["metrics"]
    assert numbers["rfvd"]["vectors"] == 3
    assert "against data (N = 2), 3 vectors; rfvd" in markdown(results)
    means = []
    for item in items:
        clip = read_clip(item, protocol)
        result = codec.reconstruct([clip])[0].frames
        means.append(np.mean([psnr(a, b) for a, b in zip(result, clip, strict=True)]))
    assert numbers["psnr"]["value"] == pytest.approx(np.mean(means), abs=1e-4)
    assert numbers["psnr"]["protocol"]["n"] == 2


@pytest.mark.slow
def test_names_that_are_odd_survive_an_interruption(plan, tiny, tmp_path, monkeypatch):
    first = plan.items[0].path
    for name in ("line\u2028end", "no\udcffutf", "quote\"'<script>"):
        (first.parent / f"{name}.png").write_bytes(first.read_bytes())
    methods = [ATokenMethod(tiny, "a|b", "discrete"), ATokenMethod(tiny, "a|c", "discrete")]
    plan = replace(plan, methods=methods, items=picture_folder(first.parent))
    whole = summarise(plan, run(plan, tmp_path / "whole"))
    record = Progress.record
    monkeypatch.setattr(running, "SAVE_EVERY", -1)
    with monkeypatch.context() as patch:

        def interrupted(progress, line):
            if progress.done == 5:
                raise KeyboardInterrupt
            record(progress, line)

        patch.setattr(Progress, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "out")
    resumed = summarise(plan, run(plan, tmp_path / "out"))
    assert resumed["methods"] == whole["methods"]
    write_results(resumed, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json")["methods"] == whole["methods"]
    page = write_report(plan, resumed, tmp_path / "out").read_text()
    assert "<script" not in page


@pytest.mark.slow
def test_a_picture_that_was_replaced_makes_another_run(plan, pictures, tmp_path):
    run(plan, tmp_path / "out")
    (pictures / "a.png").write_bytes((pictures / "e.png").read_bytes())
    with refused(tmp_path / "out", "--overwrite"):
        run(plan, tmp_path / "out")


def test_the_same_names_in_another_place_make_another_run(plan, pictures, tmp_path):
    """Files of one name, size and time of change in two folders, as archives with fixed times give them."""
    shutil.copytree(pictures, tmp_path / "other")
    moved = replace(plan, items=picture_folder(tmp_path / "other"))
    assert [stamps(item.path) for item in moved.items] == [stamps(item.path) for item in plan.items]
    assert moved.fingerprint() != plan.fingerprint()
    assert replace(plan, methods=plan.methods[::-1]).fingerprint() != plan.fingerprint(), "codecs follow the first one"


def test_a_texture_that_was_replaced_makes_another_run(plan, tmp_path):
    for name in ("chair/a/mesh.obj", "chair/a/maps/wood.png", "chair/a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"one")
    plan = replace(plan, items=class_folders(tmp_path))
    before = plan.fingerprint()
    (tmp_path / "chair/a/notes.txt").write_bytes(b"two, longer")
    assert plan.fingerprint() == before
    (tmp_path / "chair/a/maps/wood.png").write_bytes(b"two, longer")
    assert plan.fingerprint() != before


def test_what_a_method_says_of_itself_tells_all_its_weights(tiny):
    head = GaussianConfig(64, 1, 2, 64, per_voxel=2, resolution=16)
    solid = AToken(replace(PRESETS["tiny"], gaussians=head))
    said = [AssetMethod(solid, "solid", "continuous").describe()]
    next(solid.gaussians.parameters()).data += 1
    said.append(AssetMethod(solid, "solid", "continuous").describe())
    directions = torch.eye(768)[:48]
    said += [LinearProjection(torch.zeros(768), part, 48, "one").describe() for part in (directions, -directions)]
    said.append(ATokenMethod(tiny, "tiny", "continuous").describe())
    cached = AToken(replace(tiny.config, decoder_cache=2))
    cached.load_state_dict(tiny.state_dict())
    said.append(ATokenMethod(cached, "tiny", "continuous").describe())
    assert len({json.dumps(values) for values in said}) == 6


def test_large_pictures_and_frames_are_computed_a_few_at_once(plan, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("atoken.evaluation.methods.NORMAL", 40 * 56)
    sizes = []
    look = plan.judges[0].look
    monkeypatch.setattr(plan.judges[0], "look", lambda frames: sizes.append(len(frames)) or look(frames))
    for index in range(3):
        write_image(tmp_path / f"videos/bear/{index}.png", smooth(f"{index}", 80, 56))
    codec = PictureCodec("JPEG", lambda clip: 10**6)
    small = replace(plan, methods=[codec], judges=plan.judges[:1], metrics=("psnr", "ssim"))
    run(small, tmp_path / "small")
    assert sizes == [2, 2, 2, 2, 1, 1], "the originals and what became of them"
    sizes.clear()
    for name in "abcd":
        write_image(pictures / f"{name}.png", smooth(name, 80, 112))
    run(small, tmp_path / "large")
    assert sizes == [1] * 10
    sizes.clear()
    run(replace(small, protocol=PROTOCOLS["paper-video"], items=video_folder(tmp_path / "videos")), tmp_path / "video")
    assert sizes == [1] * 6


@pytest.mark.slow
def test_lost_lines_are_said(plan, tmp_path):
    run(plan, tmp_path / "out")
    (tmp_path / "out/items.jsonl").write_bytes(b"")
    with refused(tmp_path / "out/items.jsonl", "--overwrite"):
        run(plan, tmp_path / "out")


def test_a_full_disk_is_said_with_the_path(tmp_path, monkeypatch):
    """An open file does not say which one it is when it cannot be written."""
    progress = Progress(tmp_path / "out", "one")
    fails = Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    monkeypatch.setattr(progress, "_items", Mock(write=fails, flush=fails))
    for change in (lambda: progress.record({"name": "a"}), progress.save):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
            change()
        assert caught.value.filename == str(tmp_path / "out/items.jsonl")


@pytest.mark.slow
def test_equal_pictures_count_as_100_db_and_what_a_method_cannot_do_is_left_out(plan, tmp_path):
    class Picky(Method):
        """Gives pictures back, but for one that it cannot do."""

        name = family = "picky"

        def reconstruct(self, clips):
            if any(np.array_equal(clip[0], odd) for clip in clips):
                raise ValueError("no odd pictures")
            return [Outcome(clip, 8) for clip in clips]

        def describe(self):
            return {}

    odd = read_image(plan.items[1].path)
    plan = replace(plan, methods=[Picky()])
    results = summarise(plan, run(plan, tmp_path / "out"))
    assert results["failures"] == [{"name": "b.png", "error": "picky: no odd pictures"}]
    assert results["data"]["n"] == 4
    numbers = results["methods"][0]["metrics"]
    assert numbers["psnr"]["value"] == 100
    assert numbers["psnr"]["protocol"]["peak"] == 255
    assert numbers["ssim"]["protocol"]["window"] == 11


def test_seconds_of_items_that_are_tried_again_count_once(plan, tmp_path, monkeypatch):
    """A batch that fails as a whole goes through the method one by one: each try counts as long as it took."""
    seconds = [0.0]
    monkeypatch.setattr(running.time, "perf_counter", lambda: seconds[0])

    class Slow(Method):
        """Takes a second a picture, and cannot do two at once."""

        name = family = "slow"

        def reconstruct(self, clips):
            seconds[0] += len(clips)
            if len(clips) > 1:
                raise ValueError("one at a time")
            return [Outcome(clip, 8) for clip in clips]

        def describe(self):
            return {}

    progress = run(replace(plan, methods=[Slow()], judges=plan.judges[:1], metrics=("psnr",)), tmp_path / "out")
    assert progress.done == 5
    assert progress.seconds["method: slow"] == 2 * 2 + 5, "two pairs that failed, and five alone"


def test_a_network_that_gives_no_numbers_ends_the_run(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(plan.judges[1], "compare", lambda a, b: {"lite0-distance": torch.tensor([torch.nan])})
    with refused("lite0-distance", "tiny, continuous"):
        run(plan, tmp_path / "out")
    assert Progress(tmp_path / "out", plan.fingerprint()).done == 0


@pytest.mark.slow
def test_too_little_memory_is_one_sentence_and_a_smaller_batch_goes_on(plan, tmp_path, monkeypatch):
    look = plan.judges[0].look

    def short(frames):
        if len(frames) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return look(frames)

    monkeypatch.setattr(plan.judges[0], "look", short)
    with refused("memory", "a.png", "--batch"):
        run(plan, tmp_path / "out")
    assert run(replace(plan, batch=1), tmp_path / "out").done == 5


@pytest.mark.slow
def test_pictures_too_small_for_a_network_are_left_out(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(plan.judges[1], "least", 34, raising=False)
    results = summarise(plan, run(plan, tmp_path / "out"))
    assert results["failures"][0]["error"] == "47 x 33 is too small to measure: 34 pixels a side are the least"
