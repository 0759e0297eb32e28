"""Any tokens in formats of no trainer: numpy arrays, WebDataset shards, and TRELLIS's voxels."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..tokens.shards import TokenShards
from .samples import check, facts_of


def array_of(values: Tensor) -> np.ndarray:
    """As numpy has it: bfloat16 as float32, all else as it is."""
    return values.float().numpy() if values.dtype == torch.bfloat16 else values.numpy()


def numpy(shards: TokenShards, out: Path) -> int:
    """All samples one after the other, in arrays that can be mapped; returns their number.

    ``values.npy`` [N, C] or [N, G], ``coords.npy`` int32 [N, 4], ``starts.npy`` int64 [B + 1] (sample b is
    ``values[starts[b]:starts[b + 1]]``), ``labels.npy`` int64 [B], -1 for none, and ``samples.jsonl``: their facts.
    Raises ``ValueError`` for samples of several kinds or widths.
    """
    starts = np.concatenate([[0], np.cumsum(shards.lengths)]).astype(np.int64)
    first = array_of(shards[0].tokens.values)
    shape = (int(starts[-1]), first.shape[1])
    values = np.lib.format.open_memmap(out / "values.npy", "w+", first.dtype, shape)
    coords = np.lib.format.open_memmap(out / "coords.npy", "w+", np.dtype(np.int32), (shape[0], 4))
    labels = np.full(len(shards), -1, np.int64)
    with (out / "samples.jsonl").open("w") as file:
        for number in range(len(shards)):
            sample = shards[number]
            part = array_of(sample.tokens.values)
            if (part.dtype, part.shape[1]) != (first.dtype, first.shape[1]):
                raise ValueError(
                    f"numpy holds values of one kind, and sample {sample.key[:200]} has {part.dtype} of width "
                    f"{part.shape[1]} after {first.dtype} of width {first.shape[1]}"
                )
            place = slice(starts[number], starts[number + 1])
            values[place], coords[place] = part, sample.tokens.coords.numpy()
            labels[number] = -1 if sample.label is None else sample.label
            file.write(json.dumps(facts_of(sample)) + "\n")
    values.flush()
    coords.flush()
    np.save(out / "starts.npy", starts)
    np.save(out / "labels.npy", labels)
    return len(shards)


def webdataset(shards: TokenShards, out: Path) -> int:
    """A tar for each shard, ``shard-NNNNNN.tar``; returns the number of samples.

    Of each sample ``npy`` (values), ``coords.npy`` (int32 [N, 4]), ``json`` (``facts_of`` it), and ``cls`` and
    ``txt`` where there are a label and captions. WebDataset ends a key at the first dot, so dots become underscores.
    Raises ``ValueError`` where two keys would be one then.
    """
    known: dict[str, str] = {}
    for place, shard in enumerate(shards.shards):
        with shard, tarfile.open(out / f"shard-{place:06d}.tar", "w") as tar:
            for sample in shard:
                key = sample.key.replace(".", "_")
                if key in known:
                    raise ValueError(f"{known[key][:200]} and {sample.key[:200]} would be one key of WebDataset")
                known[key] = sample.key
                files = {"npy": _npy(array_of(sample.tokens.values)), "coords.npy": _npy(sample.tokens.coords.numpy())}
                files["json"] = json.dumps(facts_of(sample)).encode()
                files |= {} if sample.label is None else {"cls": str(sample.label).encode()}
                files |= {"txt": sample.captions[0].encode()} if sample.captions else {}
                for suffix, data in files.items():
                    entry = tarfile.TarInfo(f"{key}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    return len(shards)


def trellis(shards: TokenShards, out: Path) -> int:
    """``latents/atoken/SHA256.npz`` for each asset and ``metadata.csv``; returns the number of assets.

    Each has ``coords``, uint8 [N, 3], and ``feats``, fp32 [N, C] (TRELLIS, structured latents); the name is the SHA-256
    of the key, which the table gives. Raises ``ValueError`` for samples that are no continuous 3D, and for grids of
    more than 256 voxels a side.
    """
    folder = out / "latents" / "atoken"
    folder.mkdir(parents=True)
    with (out / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sha256", "file_identifier", "num_voxels", "latent_atoken"])
        for number in range(len(shards)):
            sample = check(shards[number], "trellis", kind="continuous", modality="3d")
            coords = sample.tokens.coords[:, 1:].numpy()
            if max(sample.tokens.grid) > 256:
                raise ValueError(f"trellis holds at most 256 voxels a side, and sample {sample.key[:200]} has more")
            name = hashlib.sha256(sample.key.encode()).hexdigest()
            feats = array_of(sample.tokens.values.float())
            np.savez_compressed(folder / f"{name}.npz", coords=coords.astype(np.uint8), feats=feats)
            table.writerow([name, sample.key, len(coords), True])
    return len(shards)


def _npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()
