"""What a recipe may say: numbers that make no sense are one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from atoken.core.errors import ReadError
from atoken.data.config import ShardsConfig
from atoken.engine.config import LogConfig, OptimizerConfig
from atoken.train.config import read_config
from atoken.train.networks import PerceptualConfig, TextConfig
from refusals import refused

BROKEN = Path(__file__).parents[1] / "data/inputs/broken"


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: OptimizerConfig(lr=-1.0), ("lr", "-1.0")),
        (lambda: OptimizerConfig(lr=float("nan")), ("lr",)),
        (lambda: OptimizerConfig(muon_lr=float("inf")), ("muon_lr",)),
        (lambda: OptimizerConfig(most_skipped=-1), ("most_skipped",)),
        (lambda: OptimizerConfig(clip=0.0), ("clip", "0.0")),
        (lambda: OptimizerConfig(ema=1.0), ("ema",)),
        (lambda: LogConfig(every=0), ("every",)),
        (lambda: LogConfig(keep=1), ("keep", "1", "2")),
        (lambda: PerceptualConfig(pictures=0), ("pictures",)),
        (lambda: TextConfig(axis="rows"), ("axis", "texts", "both")),
        (lambda: TextConfig(temperature=0.0), ("temperature",)),
        (lambda: ShardsConfig(("a",), voxels=0), ("voxels",)),
    ],
)
def test_numbers_without_sense_are_refused(build, named):
    with refused(*named):
        build()


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"steps": -1}, {"minutes": 5.0}, {"steps": 0, "minutes": -1.0}, {"ranks": 0}, {"seed": -1}]
)
def test_a_run_needs_steps_ranks_and_a_seed(config, change):
    with refused(*change):
        replace(config, **change)


@pytest.mark.parametrize("change", [{"samples": 0}, {"ratio": float("nan")}, {"accumulate": 0}])
def test_a_task_needs_positive_counts(config, change):
    with refused(*change, "image-reconstruction"):
        replace(config.tasks[0], **change)


def test_graphs_are_not_for_shards_of_pictures(config):
    graphs = replace(config.parallel, graphs=True)
    assert replace(config, parallel=graphs).parallel.graphs
    shards = replace(config.tasks[0], crops=None, shards=ShardsConfig(("a",)))
    with refused("graphs", "shards"):
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (RECIPE + "steps: 8\n", ["steps"]),
        (RECIPE + "1: 2\nfoo: 3\n", ["1", "model", "steps"]),
        (RECIPE + "foo: [\n", ["YAML"]),
        (RECIPE.replace("3e-4", "fast"), ["lr", "fast"]),
        (RECIPE.replace("3e-4", "1" + "0" * 400), ["lr"]),
        (RECIPE.replace("3e-4", "1" + "0" * 5000), []),
        (RECIPE.replace("3e-4", "0x" + "f" * 5000), []),
        (RECIPE.replace("3e-4", "[" * 200 + "]" * 200), ["lr"]),
        (RECIPE.replace("steps: 9", "steps: 0"), ["steps"]),
        (RECIPE.replace("steps: 9", "steps: !!bool x"), []),
        (RECIPE.replace("steps: 9", "steps: !!timestamp 2020-13-45"), []),
        (RECIPE.replace("steps: 9", "steps: !!map [a]"), []),
        (RECIPE.replace("steps: 9", "steps: !!map a"), []),
        (RECIPE.replace("steps: 9", "? [steps, 3]\n: 9"), []),
        (RECIPE.replace("steps: 9", "steps: !!python/object/apply:os.getcwd []"), []),
        ("a: &a [x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(30)), ["a"]),
        ("a: &a {x: 1}\nb: &b {<<: [*a, *a]}\n", ["<<"]),
        ("[" * 3000, []),
        ("- a\n" * 400_000, ["MB"]),
        ("", ["NoneType"]),
        (b"\xff\xfe", ["YAML"]),
        *((path.read_bytes(), []) for path in sorted(BROKEN.glob("*.yaml"))),
    ],
)
def test_a_malformed_recipe_is_one_sentence(atoken, tmp_path, content, named):
    pytest.importorskip("yaml")
    path = tmp_path / "a.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with refused(path, *named, error=ReadError):
        read_config(path)
    result = atoken("train", path, "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_quoted_values_are_short_whatever_they_are(tmp_path):
    """Thirty lines of aliases are a value of a thousand million parts."""
    keys = "".join(f"  b{n}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(30))
    text = "steps: 9\nmodel:\n  a: &a0 [x]\n" + keys
    (tmp_path / "a.yaml").write_text(text + "tasks: []\n")
    with refused("a.yaml", "model", error=ReadError):
        read_config(tmp_path / "a.yaml")
