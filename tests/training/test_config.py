"""What a recipe may say: numbers that make no sense are one sentence."""

from dataclasses import replace

import pytest

from atoken.training.config import (
    LogConfig,
    OptimizerConfig,
    PerceptualConfig,
    ShardsConfig,
    TextConfig,
    read_config,
)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: OptimizerConfig(lr=-1.0), "lr of the optimizer must be 0 or more, not -1.0"),
        (lambda: OptimizerConfig(lr=float("nan")), "lr of the optimizer"),
        (lambda: OptimizerConfig(muon_lr=float("inf")), "muon_lr of the optimizer"),
        (lambda: OptimizerConfig(most_skipped=-1), "most_skipped of the optimizer"),
        (lambda: OptimizerConfig(clip=0.0), "clip must be positive, not 0.0"),
        (lambda: OptimizerConfig(ema=1.0), "betas and ema must lie between 0 and 1"),
        (lambda: LogConfig(every=0), "every, checkpoint_every and keep of the log must be positive"),
        (lambda: LogConfig(keep=0), "every, checkpoint_every and keep of the log must be positive"),
        (lambda: PerceptualConfig(pictures=0), "pictures that are positive"),
        (lambda: TextConfig(axis="rows"), "axis texts or both"),
        (lambda: TextConfig(temperature=0.0), "positive temperature"),
        (lambda: ShardsConfig(("a",), voxels=0), "voxels and view_size of shards must be positive"),
    ],
)
def test_numbers_without_sense_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize("change", [{"steps": 0}, {"ranks": 0}, {"seed": -1}])
def test_a_run_needs_steps_ranks_and_a_seed(config, change):
    with pytest.raises(ValueError, match="steps and ranks must be positive, and seed not negative"):
        replace(config, **change)


@pytest.mark.parametrize("change", [{"samples": 0}, {"ratio": float("nan")}, {"accumulate": 0}])
def test_a_task_needs_positive_counts(config, change):
    with pytest.raises(ValueError, match="samples, accumulate and ratio of image-reconstruction must be positive"):
        replace(config.tasks[0], **change)


def test_graphs_are_not_for_shards_of_pictures(config):
    graphs = replace(config.parallel, graphs=True)
    assert replace(config, parallel=graphs).parallel.graphs
    shards = replace(config.tasks[0], crops=None, shards=ShardsConfig(("a",)))
    with pytest.raises(ValueError, match="leave graphs out, or take crops or clips"):
        replace(config, parallel=graphs, tasks=(shards,))
    replace(config, parallel=graphs, tasks=(replace(shards, task="3d-reconstruction"),))


RECIPE = """
model: tiny
steps: 9
tasks: [{task: image-reconstruction, ratio: 1, tokens: 9, crops: {path: data}}]
optimizer: {lr: 3e-4, warmup: 0}
"""


def test_numbers_are_read_as_they_are_meant(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "a.yaml").write_text(RECIPE)
    assert read_config(tmp_path / "a.yaml").optimizer.lr == 3e-4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (RECIPE + "steps: 8\n", "is not YAML: key 'steps' is given twice"),
        (RECIPE + "1: 2\nfoo: 3\n", "unknown key 1; the keys are model, steps"),
        (RECIPE + "foo: [\n", "is not YAML: "),
        (RECIPE.replace("3e-4", "fast"), "key 'lr': expected float, found 'fast'"),
        ("", "expected a table of keys, found NoneType"),
        (b"\xff\xfe", "is not YAML: "),
    ],
)
def test_a_malformed_recipe_is_one_sentence(atoken, tmp_path, content, words):
    pytest.importorskip("yaml")
    path = tmp_path / "a.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    result = atoken("train", path, "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"error: {path}")
    assert words in result.stderr
    assert not (tmp_path / "out").exists()
