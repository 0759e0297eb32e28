"""``atoken eval`` from the command line."""

import json
import re

import pytest

from atoken.evaluation import run as running
from refusals import check_names

METRICS = ["--metrics", "psnr,ssim,lite0-frechet,lite0-distance"]


@pytest.fixture
def data(picture, tmp_path):
    for index, name in enumerate("abc"):
        picture(tmp_path / f"data/{name}{'x' * index}.png", 40, 50)
    return tmp_path / "data"


@pytest.mark.slow
def test_table_json_and_report(atoken, tiny, data, tmp_path):
    arguments = ["eval", tiny, "--protocol", "native", "--data", data, *METRICS, "--out", tmp_path / "out"]
    result = atoken(*arguments, "--against", "jpeg,webp", "--rates", "1,4")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["method", "PSNR", "dB"]
    assert [line.split("  ")[0].rstrip("*") for line in lines[1:7]] == [
        *("tiny, continuous", "tiny, discrete", "JPEG", "JPEG × 4", "WebP", "WebP × 4")
    ]
    assert "3 of 3 do not fit even at the lowest quality" in result.stdout  # JPEG of noise in 144 bytes
    assert re.search(r"Time .* s: methods \d+ % .*metrics \d+ % .*reading", result.stdout)
    results = json.loads((tmp_path / "out/results.json").read_text())
    values = {method["name"]: method["metrics"]["psnr"]["value"] for method in results["methods"]}
    assert f"{values['JPEG × 4']:.2f}" in next(line for line in lines if line.startswith("JPEG × 4"))
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("<svg") == 4
    assert page.count("data:image/webp;base64,") == 3 * 5  # the original, two kinds, two codecs
    assert not re.search(r"""(src|href)=(?!"data:)""", page)
    again = atoken(*arguments, "--against", "jpeg,webp", "--rates", "1,4")
    assert again.stdout == result.stdout


@pytest.mark.slow
def test_without_metrics_all_is_measured_that_needs_no_download(atoken, tiny, data, tmp_path, monkeypatch):
    base = ["eval", tiny, "--protocol", "native", "--data", data, "--kind", "discrete"]

    def measured(*arguments):
        result = atoken(*base, *arguments, "--overwrite", "--out", tmp_path / "out")
        assert result.exit_code == 0, result.stderr
        values = json.loads((tmp_path / "out/results.json").read_text())["methods"][0]["metrics"]
        return [name for name in values if name != "bpp"], result.stderr

    assert measured() == (["psnr", "ssim", "lite0-distance", "lite0-frechet"], "")
    assert measured("--limit", 1) == (["psnr", "ssim", "lite0-distance"], ""), "one picture is no set"
    monkeypatch.setattr("atoken.cli.evaluate.has_lite0", lambda: False)
    names, said = measured()
    assert names == ["psnr", "ssim"]
    check_names(said, "Lite0", "atoken[eval]")
    result = atoken(*base, "--inception", data / "none.pt", "--out", tmp_path / "other")
    assert result.exit_code == 2
    check_names(result.stderr.splitlines()[-1], data / "none.pt")


@pytest.mark.slow
def test_items_are_listed_worst_first(atoken, tiny, data, tmp_path):
    atoken("eval", tiny, "--protocol", "native", "--data", data, "--metrics", "psnr", "--out", tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    table = page.split("Every item, worst first")[1]
    scores = [float(cell) for cell in re.findall(r"<tr><td>[^<]*\.png</td><td>([\d.]+)</td>", table)]
    assert len(scores) == 3
    assert scores == sorted(scores)


@pytest.mark.slow
def test_missing_networks_and_wrong_names_are_one_sentence(atoken, tiny, data, tmp_path):
    base = ["eval", tiny, "--data", data, "--out", tmp_path / "out"]
    for arguments, words in (
        (["--protocol", "paper-image", "--metrics", "lpips"], ["lpips", "--vgg16", "--metrics"]),
        (["--protocol", "paper-image", "--metrics", "rfid"], ["rfid", "--inception"]),
        (["--protocol", "paper"], ["'paper'", "paper-image"]),
        (["--protocol", "native", "--metrics", "fid"], ["'fid'", "rfid"]),
        (["--protocol", "native", *METRICS, "--against", "h.264"], ["h.264", "videos"]),
        (["--protocol", "native", *METRICS, "--against", "gif"], ["--against", "'gif'", "webp"]),
        (["--protocol", "native", *METRICS, "--against", "jpeg", "--rates", "0"], ["--rates", "'0'"]),
        (["--protocol", "native", *METRICS, "--against", "jpeg", "--rates", "1,nan"], ["--rates", "'1,nan'"]),
        (["--protocol", "native", *METRICS, "--against", "jpeg", "--rates", "inf"], ["--rates", "'inf'"]),
        (["--protocol", "native", *METRICS, "--rates", "2"], ["--rates"]),
        (["--protocol", "native", *METRICS, "--inception", "file"], ["--inception", "rfid", "--metrics"]),
        (
            ["--protocol", "native", "--metrics", "lpips", "--vgg16", "a", "--alexnet", "b"],
            ["--vgg16", "--alexnet", "lpips"],
        ),
        (["--protocol", "native", *METRICS, "--linear", "nowhere"], ["nowhere"]),
        (["--protocol", "native", *METRICS, "--layout", "videos"], ["'videos'", "folder, classes, imagenet, coco"]),
    ):
        result = atoken(*base, *arguments)
        assert result.exit_code == 2
        check_names(result.stderr, *words)
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_another_run_in_the_folder(atoken, tiny, other, data, tmp_path):
    arguments = ["--protocol", "native", "--data", data, "--metrics", "psnr", "--out", tmp_path / "out"]
    assert atoken("eval", tiny, *arguments).exit_code == 0
    result = atoken("eval", other, *arguments)
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "out", "--overwrite")
    assert atoken("eval", other, *arguments, "--overwrite").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("finished", [False, True])
def test_overwriting_goes_on_where_it_was_interrupted(atoken, tiny, other, data, tmp_path, monkeypatch, finished):
    """What ``make eval`` calls: other and finished runs are replaced, and the interrupted one goes on."""
    arguments = ["--protocol", "native", "--data", data, "--metrics", "psnr", "--out", tmp_path / "out", "--overwrite"]
    if finished:
        assert atoken("eval", other, *arguments).exit_code == 0
    measure, seen = running._measure, []

    def noted(plan, progress, batch):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.extend(item.name for item, _ in batch)
        measure(plan, progress, batch)

    with monkeypatch.context() as patch:
        patch.setattr(running, "_measure", noted)
        assert atoken("eval", tiny, *arguments, "--batch", 1).exit_code == 130
    assert not (tmp_path / "out/results.json").exists(), "those of another run, which this one replaces"
    assert not (tmp_path / "out/report.html").exists()
    monkeypatch.setattr(running, "_measure", lambda *a: seen.extend(item.name for item, _ in a[2]) or measure(*a))
    assert atoken("eval", tiny, *arguments, "--batch", 1).exit_code == 0
    assert seen == ["a.png", "bx.png", "cxx.png"]
    assert atoken("eval", tiny, *arguments).exit_code == 0
    assert seen == ["a.png", "bx.png", "cxx.png"] * 2, "a finished one begins anew"
    (tmp_path / "out/results.json").unlink()
    (tmp_path / "out/report.html").unlink()
    (tmp_path / "out/items.jsonl").write_bytes(b"")
    assert atoken("eval", tiny, *arguments).exit_code == 0, "and a damaged one too"


def test_a_distance_of_sets_needs_two_pictures_and_says_so_first(atoken, tiny, data, tmp_path):
    arguments = ["--protocol", "native", "--data", data, *METRICS, "--out", tmp_path / "out"]
    result = atoken("eval", tiny, *arguments, "--limit", 1)
    assert result.exit_code == 2
    check_names(result.stderr, "lite0-frechet", "--metrics")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_damaged_picture_is_said(atoken, tiny, data, tmp_path):
    (data / "b.png").write_bytes(b"")
    result = atoken(
        "eval", tiny, "--protocol", "native", "--data", data, "--metrics", "psnr", "--out", tmp_path / "out"
    )
    assert result.exit_code == 2
    assert "b.png: " in result.stderr
    assert "1 could not be measured" in result.stdout


@pytest.mark.slow
def test_a_model_twice_is_numbered_and_its_codecs_are_not(atoken, tiny, data, tmp_path):
    arguments = ["--protocol", "native", "--data", data, "--metrics", "psnr", "--out", tmp_path / "out"]
    codecs = ["--against", "jpeg,jpeg", "--rates", "1,2,2.0"]
    result = atoken("eval", tiny, tiny, *arguments, "--kind", "discrete", *codecs)
    assert result.exit_code == 0, result.stderr
    methods = json.loads((tmp_path / "out/results.json").read_text())["methods"]
    assert [(method["name"], method["family"]) for method in methods] == [
        ("tiny, discrete (1)", "tiny, discrete (1)"),
        ("tiny, discrete (2)", "tiny, discrete (2)"),
        ("JPEG", "JPEG"),
        ("JPEG × 2", "JPEG"),
    ]


@pytest.mark.slow
def test_the_current_folder_as_a_model_has_a_name(atoken, tiny, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny)
    result = atoken("eval", ".", "--protocol", "native", "--data", data, "--metrics", "psnr", "--out", tmp_path / "out")
    assert "\ntiny, continuous" in result.stdout
