"""Token shards, what is tokenized and exported, generators: small sound ones, how they are changed, what reads them."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zlib
from functools import cache
from pathlib import Path

import mutate
import numpy as np
import torch
from media_kinds import MARK, change_tokens, picture_seeds, token_seeds
from mutate import Files, Rng, of_bytes
from other_kinds import change_model, shard_seeds

from atoken import PRESETS, AToken, ShardWriter, Tokens, TokenSample, TokenShards, load_generator
from atoken.core.errors import ReadError
from atoken.data.items import plan
from atoken.data.tokenize import Settings, Work
from atoken.export.formats import FORMATS, export
from atoken.generation.config import DiTConfig, FlowConfig
from atoken.generation.flow.generator import FlowGenerator
from atoken.generation.flow.net import DiT
from atoken.generation.latents import Normaliser
from atoken.generation.masked.config import MaskedConfig, MaskedNetConfig
from atoken.generation.masked.generator import MaskedGenerator
from atoken.generation.masked.net import MaskedNet


@cache
def tiny() -> AToken:
    """A tokenizer with random weights, the same in every process."""
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


# Shards


def atoks_seeds(folder: Path) -> list[Files]:
    token_seeds(folder)
    tokens = [Tokens.load(path) for path in sorted(folder.glob("*.atok"))]
    embedding = {"embedding": torch.arange(3.0)}
    samples = [TokenSample(key=f"a/{n}", tokens=each, label=n, captions=("é",)) for n, each in enumerate(tokens)]
    square = tiny().encode(np.zeros((32, 32, 3), np.uint8), kind="discrete")
    squares = [TokenSample(key=f"b{n}{copy}", tokens=square, label=n) for n in range(2) for copy in ("", "@flip")]
    latents = tiny().encode(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)[0])
    pair = [TokenSample(key=f"c{copy}", tokens=latents, label=0, extras=embedding) for copy in ("", "@flip")]
    solid = [TokenSample(key="s", tokens=each) for each in tokens if each.modality == "3d"]
    for name, part in (("a.atoks", samples), ("b.atoks", squares), ("c.atoks", pair), ("d.atoks", solid)):
        with ShardWriter(folder / name) as writer:
            for sample in part:
                writer.write(sample)
    return [{path.name: path.read_bytes()} for path in sorted(folder.glob("*.atoks"))]


def change_atoks(files: Files, other: Files, rng: Rng) -> Files:
    ((name, data),) = files.items()
    way = int(rng.integers(4))
    if way == 0:
        return {name: of_bytes(data, next(iter(other.values())), rng)}
    length = int.from_bytes(data[:8], "little")
    header, samples = json.loads(data[8 : 8 + length]), data[8 + length :]
    if way == 1:
        header = mutate.of_json(header, rng)
    elif way == 2:
        header["__metadata__"]["tokens"] = json.dumps(mutate.of_json(json.loads(header["__metadata__"]["tokens"]), rng))
    else:  # a sample that is sealed again, under a header that fits
        keys = [key for key in header if key != "__metadata__"]
        start, end = header[keys[-1]]["data_offsets"]
        (sample,) = change_tokens({"x": samples[start:end]}, {"x": samples[: end - start]}, rng).values()
        header[keys[-1]] |= {"shape": [len(sample)], "data_offsets": [start, start + len(sample)]}
        samples = samples[:start] + sample
    text = mutate.to_json(header)
    return {name: _head_sealed(len(text).to_bytes(8, "little") + text) + samples}


def _head_sealed(head: bytes) -> bytes:
    """A header with its checksum, where there is a place for one."""
    at = head.find(MARK) + len(MARK)
    if at < len(MARK) or len(head) < at + 64:
        return head
    text = head[8:at] + b"0" * 64 + head[at + 64 :]
    return head[:at] + hashlib.sha256(text).hexdigest().encode() + head[at + 64 :]


def read_atoks(path: Path) -> object:
    shards = TokenShards(path)
    return [shards[number].tokens.latents for number in range(len(shards))]


def read_export(path: Path) -> object:
    """One of the formats, by the file's bytes, or one that holds everything where that does not hold the samples."""
    name = list(FORMATS)[zlib.crc32(path.read_bytes()) % len(FORMATS)]
    with tempfile.TemporaryDirectory(prefix="fuzz-out-") as out:
        try:
            return export(TokenShards(path), name, Path(out) / "new")
        except ReadError:
            raise
        except ValueError:
            return export(TokenShards(path), "webdataset", Path(out) / "other")
        finally:
            left = {each.name for each in Path(out).iterdir()} - {"new", "other"}
            assert not left, left


# What is tokenized


def source_seeds(folder: Path) -> list[Files]:
    found = shard_seeds(folder)
    pictures = [next(iter(files.values())) for files in picture_seeds(folder)[:6]]
    found.append({"list.jpg": pictures[0], "list.txt": b"words", "list.json": b'{"label": 3, "text": ["a"]}'})
    found.append({"list.jpg": pictures[0], "list.cls": b"3"})
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return found
    for name, compression in (("a.parquet", "none"), ("b.parquet", "snappy"), ("c.parquet", "zstd")):
        images = [{"bytes": picture, "path": f"{n}.png"} for n, picture in enumerate(pictures)]
        table = pyarrow.table({"image": images, "label": [1, 2, 3, 4, 5, 6], "caption": ["a"] * 6})
        stream = io.BytesIO()
        pyarrow.parquet.write_table(table, stream, compression=compression)
        found.append({name: stream.getvalue()})
    return found


def read_source(path: Path) -> object:
    chunks, _ = plan([(path, Path(path.name))], 100, False)
    with tempfile.TemporaryDirectory(prefix="fuzz-out-") as out:
        work = Work(tiny(), Settings("tiny", out, size=16), Path(out))
        made = [sample.to_bytes() for chunk in chunks for sample in work.samples(chunk)]
    reasons = [line["error"] for line in work.lines if "error" in line]
    for reason in reasons:
        if reason.startswith("internal error") or "\n" in reason or len(reason) > 600:
            raise AssertionError(reason)
    if reasons and not made:
        raise ReadError(f"{path}: {reasons[0]}")
    return made


# Generators


def generator_seeds(folder: Path) -> list[Files]:
    model = tiny()
    names = {"tokenizer": model.config.name, "tokenizer_weights": model.weights_hash, "size": (32, 48)}
    dit = DiT(DiTConfig(2, 32, 2, 48, latent_channels=48))
    stats = Normaliser.of([torch.randn(200, 48)])
    flow = FlowGenerator(FlowConfig("small", dit.config, **names), dit, stats, model)
    net = MaskedNet(MaskedNetConfig(2, 1, 32, 2, 48, 2, 16, 2, 24, 3, model.config.fsq_levels))
    masked = MaskedGenerator(MaskedConfig("small", net.config, **names), net, model)
    found = []
    for name, each, storage in (("a", flow, None), ("b", masked, None), ("c", flow, "int8")):
        each.save_pretrained(folder / name, storage=storage)
        found.append({part: (folder / name / part).read_bytes() for part in ("config.json", "model.safetensors")})
    return found


change_generator = change_model


def read_generator(path: Path) -> object:
    generator = load_generator(path.parent, tokenizer=tiny(), device="cpu")
    return generator.config
