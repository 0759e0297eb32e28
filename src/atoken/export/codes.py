"""Codes: of pictures of one size for LlamaGen, UniTok and RAR, and of anything for InternLumina-U2."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..tokens.shards import TokenShards
from .samples import check, facts_of, label_of, mirrored, originals, picture_values


def llamagen(shards: TokenShards, out: Path) -> int:
    """``imagenetS_codes/i.npy`` and ``imagenetS_labels/i.npy`` for pictures of S pixels a side; returns their number.

    Codes are int64 [1, A, K, H * W] for K codes a token, as UniTok reads them, or [1, A, H * W] for one, as LlamaGen
    does; A is 2 where pictures are mirrored, too, the mirrored one second. Labels are int64 [1]. Raises ``ValueError``
    for samples without label, of several sizes, and that are no discrete pictures.
    """
    numbers, shape = originals(shards), None
    side = max(check(shards[numbers[0]], "llamagen", kind="discrete", modality="image").tokens.size)
    folders = [out / f"imagenet{side}_{name}" for name in ("codes", "labels")]
    for folder in folders:
        folder.mkdir()
    copies = [mirrored(shards, number) for number in numbers]
    for place, (number, copy) in enumerate(zip(numbers, copies, strict=True)):
        if (copy is None) != (copies[0] is None):
            raise ValueError(
                f"llamagen holds mirrored copies of all or of none, and {shards.key(number)[:200]} differs"
            )
        views = []
        for each in (number, copy):
            if each is not None:
                sample = check(shards[each], "llamagen", kind="discrete", modality="image")
                values = picture_values(sample, "llamagen", shape)
                shape = list(values.shape)
                views.append(values.flatten(1))
        codes = torch.stack(views)[None].numpy()
        np.save(folders[0] / f"{place}.npy", codes[:, :, 0] if codes.shape[2] == 1 else codes)
        np.save(folders[1] / f"{place}.npy", np.array([label_of(shards[number], "llamagen")]))
    return len(numbers)


def rar(shards: TokenShards, out: Path) -> int:
    """``tokens.jsonl``: a line {"class_id", "tokens"} for each picture, mirrored ones, too; returns their number.

    Raises ``ValueError`` for more than one code a token, and as ``llamagen`` does.
    """
    shape = None
    with (out / "tokens.jsonl").open("w") as file:
        for number in range(len(shards)):
            sample = check(shards[number], "rar", kind="discrete", modality="image")
            values = picture_values(sample, "rar", shape)
            shape = list(values.shape)
            if shape[0] != 1:
                raise ValueError(
                    f"rar reads one code a token, and sample {sample.key[:200]} has {shape[0]}: llamagen holds them"
                )
            file.write(json.dumps({"class_id": label_of(sample, "rar"), "tokens": values.flatten().tolist()}) + "\n")
    return len(shards)


def internlumina(shards: TokenShards, out: Path) -> int:
    """``NNNNNNNN.pt`` for each sample and ``samples.jsonl``, which says what it is; returns their number.

    Each is a table of plain tensors, ``indices`` int32 [N, 8] and ``coords`` int32 [N, 5], as InternLumina-U2's
    validator wants them: (0, t, x, y, z) in our order; it sorts videos and 3D itself. 3D has time 1 and a grid of 48
    voxels a side. Pictures have ``image_width`` and ``image_height``, too. Raises ``ValueError`` for continuous
    samples, other codes than eight of 4096 values, and other grids of 3D.
    """
    with (out / "samples.jsonl").open("w") as file:
        for number in range(len(shards)):
            sample = check(shards[number], "internlumina", kind="discrete")
            tokens = sample.tokens
            if len(tokens.fsq) != 8 or any(math.prod(group) != 4096 for group in tokens.fsq):
                raise ValueError(
                    f"internlumina reads eight codes of 4096 values, and sample {sample.key[:200]} has others"
                )
            solid = tokens.modality == "3d"
            if solid and tokens.grid != (1, 48, 48, 48):
                raise ValueError(
                    f"internlumina reads 48 voxels a side, and sample {sample.key[:200]} has the grid {tokens.grid}"
                )
            coords = torch.cat([torch.zeros(len(tokens), 1, dtype=torch.int32), tokens.coords], 1)
            coords[:, 1] += int(solid)
            facts: dict[str, Any] = {
                "indices": torch.from_numpy(tokens.codes.numpy().astype(np.int32)),
                "coords": coords,
            }
            if tokens.modality == "image":
                facts |= {"image_width": tokens.size[1], "image_height": tokens.size[0]}
            name = f"{number:08d}.pt"
            torch.save(facts, out / name)
            line = {"file": name, "modality": tokens.modality, **facts_of(sample)}
            file.write(json.dumps(line) + "\n")
    return len(shards)
