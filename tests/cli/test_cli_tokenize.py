"""``atoken tokenize``: whole data sets to shards, the same bytes however the work was cut off."""

import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

import atoken as package
from atoken import TokenShards, read_image
from atoken.cli.tokenize_cost import costs
from atoken.data.tokenize import Settings
from atoken.media.image.crop import adm_crop
from atoken.media.patchify import image_to_patches
from atoken.media.pixels import to_pixels
from atoken.nn.packed import Packed
from refusals import check_names


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch, pool_here):
    monkeypatch.setattr(import_module("atoken.cli.tokenize"), "ProcessPoolExecutor", pool_here)


@pytest.fixture
def pets(tmp_path, picture):
    """Two classes, three pictures, a caption beside one."""
    folder = tmp_path / "pets"
    for name in ("dog/a.png", "cat/b.png", "cat/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(folder / name, 40, 50 + len(name))
    (folder / "cat" / "b.txt").write_text("a cat\n")
    return folder


@pytest.fixture
def run(atoken, tiny):
    return lambda *arguments: atoken("tokenize", *arguments, "--model", tiny)


def samples(out):
    shards = TokenShards(out)
    return {shards.key(number): shards[number] for number in range(len(shards))}


def manifest(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def contents(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_folder_with_classes_captions_flips_and_embeddings(run, pets, tiny, tmp_path):
    out = tmp_path / "out"
    result = run(pets, "--out", out, "--labels", "folders", "--flip", "--embed", "--size", 32, "--latents", "float32")
    assert result.exit_code == 0, result.stderr
    found = samples(out)
    keys = ["cat/b", "cat/b@flip", "cat/c", "cat/c@flip", "dog/a", "dog/a@flip"]
    assert list(found) == keys == [line["key"] for line in manifest(out)]
    assert json.loads((out / "labels.json").read_text()) == {"cat": 0, "dog": 1}
    assert [found[key].label for key in keys] == [0, 0, 0, 0, 1, 1]
    assert found["cat/b@flip"].captions == ("a cat",)
    assert found["dog/a"].captions == ()
    model = package.load(tiny)
    seen = adm_crop(read_image(pets / "cat/c.png"), 32)
    for key, pixels in (("cat/c", seen), ("cat/c@flip", np.ascontiguousarray(seen[:, ::-1]))):
        # batches of other pictures may change the order of sums, in fp32
        assert torch.allclose(found[key].tokens.values, model.encode(pixels).values, atol=1e-4)
        assert torch.allclose(found[key].extras["embedding"], model.embed([pixels])[0], atol=1e-4)


@pytest.mark.slow
def test_pictures_clips_and_solids_in_one_run(run, pets, film, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    trimesh.creation.box((1, 0.5, 0.3)).export(pets / "chair.glb")
    shutil.move(film.write("clip.mp4", "mpeg4", film.frames(6)), pets / "clip.mp4")
    out = tmp_path / "out"
    result = run(pets, "--out", out, "--flip")
    assert result.exit_code == 0, result.stderr
    found = samples(out)
    assert [found[key].tokens.modality for key in ("cat/b", "chair", "clip", "clip@flip")] == [
        "image",
        "3d",
        "video",
        "video",
    ]
    assert "chair@flip" not in found
    assert not torch.equal(found["clip"].tokens.values, found["clip@flip"].tokens.values)
    cropped = run(pets / "clip.mp4", "--out", tmp_path / "small", "--size", 32)
    assert cropped.exit_code == 0
    assert samples(tmp_path / "small")["clip"].tokens.size == (32, 32)


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_webdataset_shards(run, film, tmp_path):
    clip = film.write("clip.mp4", "mpeg4", film.frames(5)).read_bytes()
    files = {"0.png": png(0), "0.cls": b"7", "0.txt": b"noise", "1.mp4": clip, "1.json": b'{"caption": "a pan"}'}
    files["0.cls"] = "7\r\n".encode("utf-16")  # as PowerShell writes
    files |= {"2.png": b"no picture", "3.png": png(3), "3.cls": b"seven", "4.txt": b"alone", "5.png": png(5)}
    write_tar(tmp_path / "data-000.tar", files)
    write_tar(tmp_path / "data-001.tar", {"0.png": png(9)})
    out = tmp_path / "out"
    result = run(tmp_path / "data-000.tar", tmp_path / "data-001.tar", "--out", out)
    assert result.exit_code == 2
    found = samples(out)
    assert list(found) == ["data-000/0", "data-000/1", "data-000/5", "data-001/0"]
    assert (found["data-000/0"].label, found["data-000/0"].captions) == (7, ("noise",))
    assert (found["data-000/1"].tokens.modality, found["data-000/1"].captions) == ("video", ("a pan",))
    failed = {line["key"]: line["error"] for line in manifest(out) if "error" in line}
    assert set(failed) == {"data-000/2", "data-000/3", "data-000/4"}
    check_names(failed["data-000/3"], "3.cls", "seven")
    assert sum(line.startswith("error: ") for line in result.stderr.splitlines()) == 3


def test_a_tar_that_is_cut_off_gives_what_is_before(run, tmp_path):
    path = write_tar(tmp_path / "data.tar", {f"{i}.png": png(i) for i in range(4)})
    path.write_bytes(path.read_bytes()[:6000])
    out = tmp_path / "out"
    assert run(path, "--out", out).exit_code == 2
    assert list(samples(out)) == ["data/0"]
    check_names(manifest(out)[-1]["error"], "data.tar")


@pytest.mark.slow
def test_parquet_and_saved_data_sets(run, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": png(i), "path": None} for i in range(5)], "label": list(range(5))}
    rows["caption"] = [f"noise {i}" for i in range(5)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.Value("int64"), "caption": datasets.Value("string")}
    )
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(str(tmp_path / "rows.parquet"))
    made.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "a.png").write_bytes(png(0))
    write_tar(tmp_path / "t.tar", {"x.png": png(0)})
    out = tmp_path / "out"
    result = run(tmp_path, "--out", out, "--per-shard", 2)
    assert result.exit_code == 0, result.stderr
    found = samples(out)
    tables = [f"{stem}/{i:08d}" for stem in ("rows", "saved") for i in range(5)]
    assert sorted(found) == sorted(["a", "t/x", *tables])
    for stem in ("rows", "saved"):
        third = found[f"{stem}/00000003"]
        assert (third.label, third.captions) == (3, ("noise 3",))
        assert third.tokens == found[f"{'rows' if stem == 'saved' else 'saved'}/00000003"].tokens


def test_lists_of_files(run, pets, tmp_path):
    (pets / "some.txt").write_text("dog/a.png\r\ncat/c.png\r\n", "utf-8-sig")
    out = tmp_path / "out"
    assert run(pets / "some.txt", "--out", out).exit_code == 0
    assert list(samples(out)) == ["c", "a"]


def test_files_that_differ_in_their_ending_alone(run, pets, picture, tmp_path):
    picture(pets / "cat" / "b.webp")
    out = tmp_path / "out"
    assert run(pets, "--out", out).exit_code == 0
    assert list(samples(out)) == ["cat/b.png", "cat/b.webp", "cat/c", "dog/a"]


def test_damaged_files_stop_no_others(run, pets, tmp_path):
    (pets / "cat" / "b.png").write_bytes(b"nothing")
    (pets / "cat" / "c.cls").write_text("first")
    out = tmp_path / "out"
    result = run(pets, "--out", out)
    assert result.exit_code == 2
    assert list(samples(out)) == ["dog/a"]
    assert [line["key"] for line in manifest(out) if "error" in line] == ["cat/b", "cat/c"]


def test_nothing_that_can_be_read(run, pets, tmp_path):
    for path in pets.rglob("*.png"):
        path.write_bytes(b"nothing")
    out = tmp_path / "out"
    assert run(pets, "--out", out).exit_code == 2
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == ["manifest.jsonl", "tokenize.json"]


@pytest.mark.slow
def test_a_run_goes_on_where_it_stood(run, pets, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(pets, "--out", whole, "--per-shard", 1).exit_code == 0
    for stop in (1, 2):
        interrupted(monkeypatch, run, pets, cut, after=stop)
    done = contents(cut)
    assert run(pets, "--out", cut, "--per-shard", 1).exit_code == 0
    assert contents(cut) == contents(whole)
    assert all(contents(cut)[name] == data for name, data in done.items() if name.endswith(".atoks"))
    times = {path: path.stat().st_mtime_ns for path in cut.iterdir()}
    assert run(pets, "--out", cut, "--per-shard", 1).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in cut.iterdir() if path.name in contents(whole)} == times


def interrupted(monkeypatch, run, source, out, after):
    """A run that ends while its ``after``-th manifest is written: the shard is there, the manifest is not."""
    from atoken.data import tokenize

    count = iter(range(1, 100))
    original = tokenize.atomic_write

    def ending(path):
        if path.suffix == ".jsonl" and next(count) == after:
            raise KeyboardInterrupt
        return original(path)

    with monkeypatch.context() as patched:
        patched.setattr(tokenize, "atomic_write", ending)
        assert run(source, "--out", out, "--per-shard", 1).exit_code != 0


REFUSED = [
    (["--kind", "codes"], "--kind"),
    (["--workers", 0], "--workers"),
    (["--labels", "guess"], "--labels"),
    (["--size", 0], "--size"),
]


@pytest.mark.parametrize(("options", "named"), REFUSED, ids=[named for _, named in REFUSED])
def test_options_that_cannot_be(options, named, run, pets, tmp_path):
    result = run(pets, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    check_names(result.stderr, named)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_another_run_in_the_same_folder(run, pets, picture, tmp_path):
    out = tmp_path / "out"
    assert run(pets, "--out", out).exit_code == 0
    before = contents(out)
    for options, named in ((["--flip"], "flip"), (["--latents", "float32"], "latents"), (["--size", 16], "size")):
        result = run(pets, "--out", out, *options)
        assert result.exit_code == 2
        check_names(result.stderr, out.name, named)
    picture(pets / "cat" / "new.png")
    result = run(pets, "--out", out)
    assert result.exit_code == 2
    check_names(result.stderr, out.name, "files")
    assert contents(out) == before


def test_two_runs_at_one_time(run, pets, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "out"
    out.mkdir()
    with open(out / ".atoken-lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run(pets, "--out", out)
    assert result.exit_code == 2
    check_names(result.stderr, "another run", "out")


def test_sources_without_samples(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for source in ("empty", "none"):
        result = run(tmp_path / source, "--out", tmp_path / "out")
        assert result.exit_code == 2
        check_names(result.stderr, source)


def test_a_file_in_no_folder_has_no_class(run, pets, picture, tmp_path):
    picture(pets / "bare.png")
    result = run(pets, "--out", tmp_path / "out", "--labels", "folders")
    assert result.exit_code == 2
    check_names(result.stderr, "bare.png")


@pytest.mark.slow
def test_a_killed_run_ends_in_the_bytes_of_one_that_was_not(tiny, picture, tmp_path):
    """Also with another number of processes."""
    (tmp_path / "in").mkdir()
    for number in range(24):
        picture(tmp_path / "in" / f"{number:02d}.png", 64, 64 + number)
    main = "import sys; from atoken.cli import main; main()"

    def start(out, workers):
        command = [
            sys.executable,
            "-c",
            main,
            "tokenize",
            tmp_path / "in",
            "--out",
            out,
            "--model",
            tiny,
            "--per-shard",
        ]
        return subprocess.Popen(list(map(str, [*command, 2, "--workers", workers])), stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole", 1).wait(600) == 0
    cut = tmp_path / "cut"
    process = start(cut, 2)
    while process.poll() is None and not list(cut.glob("*.atoks")):
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait(600)
    assert not (cut / "manifest.jsonl").exists()
    assert start(cut, 2).wait(600) == 0
    assert contents(cut) == contents(tmp_path / "whole")
    assert len(samples(cut)) == 24


@pytest.mark.slow
def test_states_of_the_encoder_are_stored_row_by_row(run, pets, tiny, tmp_path):
    assert run(pets, "--out", tmp_path / "out", "--features", 1, "--flip").exit_code == 0
    model = package.load(tiny)
    for key, sample in samples(tmp_path / "out").items():
        name = key.removesuffix("@flip")
        picture = read_image(next(pets.parent.rglob(f"{name.removeprefix('pets/')}*.png")))
        pixels = picture[:, ::-1].copy() if key != name else picture
        patches, coords, _ = image_to_patches(to_pixels(pixels))
        packed = Packed.cat([(patches, coords)])
        (states,) = model.encode_packed(packed, pool=False, hidden_layers=(1,)).hidden_layers
        found = sample.extras["features"]
        assert found.dtype == torch.float16
        assert len(found) == len(sample.tokens)
        torch.testing.assert_close(found.float(), states, atol=2e-3, rtol=2e-3)  # fp16 has 11 bits


@pytest.mark.parametrize("block", [0, 99])
def test_blocks_that_the_encoder_lacks_are_refused(run, pets, tmp_path, block):
    refused = run(pets, "--out", tmp_path / "out", "--features", block)
    assert refused.exit_code == 2
    check_names(refused.stderr, "--features", block)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_moments_go_to_mar(run, atoken, pets, tmp_path):
    assert (
        run(pets, "--out", tmp_path / "out", "--size", 32, "--flip", "--labels", "folders", "--moments").exit_code == 0
    )
    plain = tmp_path / "plain"
    assert run(pets, "--out", plain, "--size", 32, "--flip", "--labels", "folders").exit_code == 0
    for key, sample in samples(plain).items():
        found = samples(tmp_path / "out")[key]
        assert found.tokens == sample.tokens
        assert found.extras["logvar"].shape == found.tokens.values.shape
    done = atoken("export", tmp_path / "out", "--format", "mar", "--out", tmp_path / "mar")
    assert done.exit_code == 0, done.stderr
    assert len(list((tmp_path / "mar").rglob("*.npz"))) == 3
    refused = run(pets, "--out", tmp_path / "codes", "--kind", "discrete", "--moments")
    assert refused.exit_code == 2
    check_names(refused.stderr, "--moments")


@pytest.mark.slow
def test_solids_on_another_grid_go_to_internlumina_and_back(run, atoken, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    trimesh.creation.box((1, 0.5, 0.3)).export(tmp_path / "chair.glb")
    shards = tmp_path / "out"
    assert run(tmp_path / "chair.glb", "--out", shards, "--kind", "discrete", "--voxels", 48).exit_code == 0
    (sample,) = samples(shards).values()
    assert sample.tokens.grid == (1, 48, 48, 48)
    for command, source, out in (("export", shards, "theirs"), ("import", tmp_path / "theirs", "back")):
        done = atoken(command, source, "--format", "internlumina", "--out", tmp_path / out)
        assert done.exit_code == 0, done.stderr
    assert samples(tmp_path / "back") == {sample.key: sample}


def test_import_of_nothing(atoken, tmp_path):
    (tmp_path / "empty").mkdir()
    for form in ("internlumina", "webdataset", "numpy"):
        done = atoken("import", tmp_path / "empty", "--format", form, "--out", tmp_path / "out")
        assert done.exit_code == 2
        check_names(done.stderr, "empty")
        assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_data_sets_cost_and_writes_nothing(run, pets, tmp_path):
    out = tmp_path / "out"
    rows = {}
    for share in (0.2, 0.4):
        done = run(pets, "--out", out, "--dry-run", "--utilisation", share)
        assert done.exit_code == 0, done.stderr
        check_names(" ".join(done.stdout.split())[:500], "ImageNet", "Objaverse")
        rows[share] = done.stdout
    assert not out.exists()
    assert rows[0.2] != rows[0.4]
    refused = run(pets, "--out", out, "--dry-run", "--utilisation", 2)
    assert refused.exit_code == 2
    check_names(refused.stderr, "--utilisation", "2")


@pytest.mark.parametrize("flip", [False, True])
def test_costs_follow_from_the_arithmetic(flip):
    config = package.PRESETS["base"]
    found = costs(config, Settings("base", "out", size=512, flip=flip), 0.5)
    pictures = next(cost for name, cost in found.items() if "ImageNet" in name)
    assert pictures.tokens == 1024
    assert pictures.samples == 1_281_167 * (1 + flip)
    linear = 12 * (4 * 768**2 + 2 * 768 * 3072) + 768 * 768 + 2 * 768**2  # blocks, patch embedding, pooling
    attention = 12 * 2 * 1024 * 768
    assert pictures.rate == pytest.approx(0.5 * 989.4e12 / (2 * (linear + attention)))
    assert pictures.hours == pytest.approx(pictures.samples * 1024 / pictures.rate / 3600)
    assert pictures.bytes == pytest.approx(pictures.samples * (1024 * 96 + 700))
