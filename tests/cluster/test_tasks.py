"""Data sets on a Ray cluster: the same bytes as without, also where a machine is lost in the middle."""

import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from atoken import PRESETS, AToken, TokenShards
from atoken.cli.tokenize import find_files, tokenize
from atoken.cluster.tasks import on_ray
from atoken.data.items import plan
from atoken.data.tokenize import Settings, tokenize_chunk
from refusals import refused

COUNT = 12


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    torch.manual_seed(0)
    AToken(PRESETS["tiny"]).eval().save_pretrained(tmp_path / "tiny")
    return folder


def contents(out):
    return {path.name: path.read_bytes() for path in out.glob("tokens-*") if path.suffix == ".atoks"}


def alone(pictures, tmp_path):
    """The shards that one process writes."""
    settings = Settings(str(tmp_path / "tiny"), str(tmp_path / "alone"))
    (tmp_path / "alone").mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    files, _ = find_files([str(pictures)], tmp_path / "alone")
    chunks, _ = plan(files, 1, False)
    for number, chunk in enumerate(chunks):
        tokenize_chunk(settings, number, chunk)
    torch.set_num_threads(threads)
    return contents(tmp_path / "alone")


@pytest.mark.slow
def test_a_machine_that_is_lost_loses_no_sample(pictures, tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    expected = alone(pictures, tmp_path)
    small = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    lost = []
    try:
        second = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        cluster.wait_for_nodes()
        out = tmp_path / "out"

        def kill():
            end = time.monotonic() + 300
            while time.monotonic() < end and len(list(out.glob("*.atoks"))) < 2:
                time.sleep(0.02)
            lost.append(len(list(out.glob("*.atoks"))))
            cluster.remove_node(second, allow_graceful=False)

        thread = threading.Thread(target=kill)
        thread.start()
        settings = Settings(str(tmp_path / "tiny"), str(out))
        tokenize([str(pictures)], settings, 1, False, None, cluster=cluster.address)
        thread.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert 2 <= lost[0] < COUNT
    assert contents(out) == expected
    assert sorted(TokenShards(out).numbers) == sorted(f"{number:02d}" for number in range(COUNT))


@pytest.mark.slow
def test_a_cluster_that_is_not_there():
    pytest.importorskip("ray")
    with refused("--ray", "127.0.0.1:1"):
        list(on_ray("127.0.0.1:1", Settings("nano", "out"), [], [0]))
