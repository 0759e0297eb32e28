"""Tasks: each turns a batch into its terms, a dict of unweighted scalars. The recipe's ``loss`` weighs them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..backbones.clip import clip
from ..backbones.lite0 import lite0
from ..backbones.lpips import PerceptualDistance, lpips
from ..backbones.vgg import vgg16
from ..core.regular import read_regular
from ..data.batch import Batch, Sample
from ..language.towers import TextTower, text
from ..language.zero_shot import label_embeddings
from ..losses.distillation import distillation, similarity
from ..losses.l1 import l1
from ..losses.log_mse import log_mse
from ..losses.perceptual import LITE_LAYERS, PerceptualTerms, lite_terms, to_squares
from ..losses.perceptual import TERMS as PERCEPTUAL
from ..losses.sigmoid import SigmoidLoss
from ..losses.total import Weights
from ..nn.packed import Packed
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from ..tokenizer.net import Encoded
from .config import HEAD_ALONE, MINILM, PerceptualConfig, TextConfig, TrainConfig
from .renders import RenderTerms
from .teachers import ClassTeacher, Teacher, TowerTeacher

REMEMBERED = 10_000
"""Captions whose embeddings are kept: small collections show theirs again and again."""


def bottleneck(model: AToken, encoded: Encoded, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """What the decoder reads, fp32 [N, C], and the KL divergence [N] of a continuous model.

    Codes with straight-through gradients for a discrete model; the draw from the posterior that ``noise`` [N, C] makes,
    or its mean without any, for a continuous one.
    """
    posterior = encoded.posterior
    if model.config.kinds[0] == "discrete":
        return model.fsq(posterior.mode()), None
    return posterior.mode() if noise is None else posterior.at(noise), posterior.kl()


def noise_of(model: AToken, batch: Batch) -> Tensor | None:
    """The noise of a batch's posteriors, fp32 [N, C] on the model's device; a discrete model has none."""
    if model.config.kinds[0] == "discrete":
        return None
    generator = torch.Generator(model.device).manual_seed(batch.seed)
    shape = len(batch.packed.coords), model.config.latent_channels
    return torch.randn(shape, generator=generator, device=model.device)


class Task:
    """What one batch teaches. ``extra`` holds parameters of its own, if it has any."""

    extra: nn.Module | None = None

    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """Unweighted terms of a batch, each a scalar."""
        raise NotImplementedError


class Reconstruction(Task):
    """Encode, round or draw, decode, compare: L1 on the patches of any modality (paper Eq. 6), means over numbers.

    ``perceptual`` adds lpips, gram and clip for batches of images, whose first ``limit`` it looks at; ``renders`` adds
    those of a model's Gaussian head for batches of assets with pictures.
    """

    def __init__(
        self,
        loss: Weights,
        perceptual: PerceptualTerms | None = None,
        limit: int | None = None,
        renders: RenderTerms | None = None,
    ) -> None:
        self.loss, self.perceptual, self.limit, self.renders = loss, perceptual, limit, renders

    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """Terms l1, log_mse, kl and those of ``perceptual`` and ``renders``, as far as they weigh anything."""
        return self.terms(model, batch, batch.packed.to(model.device), noise_of(model, batch))

    def terms(self, model: AToken, batch: Batch, packed: Packed, noise: Tensor | None) -> dict[str, Tensor]:
        """The same of patches ``packed`` that lie where those of ``batch`` do. Where all samples are pictures or clips
        of one size it waits for no device, once the layouts of ``packed`` are known."""
        latents, kl = bottleneck(model, model.encode_packed(packed, pool=False), noise)
        patches = model.decode_packed(packed.with_feats(latents), features=packed.feats.shape[1]).float()
        valid = batch.valid(patches)
        real = (patches, packed.feats) if valid is None else (patches[valid], packed.feats[valid])
        terms = {"l1": l1(*real)}
        if self.loss.log_mse:
            terms["log_mse"] = log_mse(patches, packed.feats, packed.lengths, valid)
        if kl is not None:
            terms["kl"] = kl.mean()
        if self.perceptual is not None and all(sample.modality == "image" for sample in batch.samples):
            squares = (to_squares(part, packed, self.perceptual.size, self.limit) for part in (patches, packed.feats))
            terms |= self.perceptual(*squares)
        if self.renders is not None and model.gaussians is not None:
            terms |= self.renders(model.gaussians, patches, packed, batch.samples)
        return terms


class GaussiansAlone(Task):
    """The Gaussian head on what frozen weights decode: the patches of each asset are computed once, from the means of
    its latents, and kept in fp16 (1.5 kB a voxel)."""

    def __init__(self, renders: RenderTerms) -> None:
        self.renders = renders
        self.kept: dict[str, Tensor] = {}

    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """The terms of ``renders``."""
        assert model.gaussians is not None
        packed = batch.packed.to(model.device)
        parts = [tensor.split(packed.lengths) for tensor in (packed.feats, packed.coords[:, 1:])]
        patches = [self._decoded(model, *part).float() for part in zip(batch.samples, *parts, strict=True)]
        return self.renders(model.gaussians, torch.cat(patches), packed, batch.samples)

    @torch.no_grad()
    def _decoded(self, model: AToken, sample: Sample, feats: Tensor, coords: Tensor) -> Tensor:
        assert sample.name is not None
        if sample.name not in self.kept:
            alone = Packed.cat([(feats, coords)])
            latents, _ = bottleneck(model, model.encode_packed(alone, pool=False), None)
            patches = model.decode_packed(alone.with_feats(latents), features=feats.shape[1])
            self.kept[sample.name] = patches.half()
        return self.kept[sample.name]


class Distillation(Task):
    """The teacher's softened scores of pictures over texts, learnt by the pooled embeddings (paper Eq. 7)."""

    def __init__(self, config: TextConfig, teacher: Callable[[Batch], Teacher], size: int) -> None:
        self.config, self.teacher, self.size = config, teacher, size

    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """The term semantic of a batch of images, some of which bring the teacher's scores with them."""
        packed = batch.packed.to(model.device)
        teacher = self.teacher(batch)
        wanted = batch.scores
        if wanted is None:
            wanted = teacher.scores(to_squares(packed.feats, packed, self.size))
        pooled = model.encode_packed(packed).pooled
        assert pooled is not None
        scores = similarity(pooled, teacher.texts.to(pooled.device), model.config.logit_scale)
        loss = distillation(
            wanted.to(scores.device), scores, temperature=self.config.temperature, axis=self.config.axis
        )
        return {"semantic": loss}


class TextPairs(Task):
    """The sigmoid loss of pictures, clips or assets and their captions, over all ranks.

    Its scale and bias start as those of ``start``, which the stage before has learnt where there was one.
    """

    def __init__(self, tower: TextTower, start: ModelConfig) -> None:
        self.tower, self.loss = tower, SigmoidLoss(start.logit_scale, start.logit_bias)
        self.extra = self.loss
        self.known: dict[str, Tensor] = {}

    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """The term semantic; samples with one caption are each other's positives."""
        pooled = model.encode_packed(batch.packed.to(model.device)).pooled
        assert pooled is not None
        labels = torch.tensor([zlib.crc32(caption.encode()) for caption in batch.captions], device=pooled.device)
        return {"semantic": self.loss(pooled, self.embeddings(batch.captions).to(pooled.device), labels)}

    def embeddings(self, captions: Sequence[str]) -> Tensor:
        """The tower's vectors of B captions, [B, D]; those of the last ``REMEMBERED`` or so are not computed again."""
        if len(self.known) > REMEMBERED:
            self.known.clear()
        if new := sorted(set(captions) - self.known.keys()):
            self.known.update(zip(new, self.tower(new), strict=True))
        return torch.stack([self.known[caption] for caption in captions])


def build_tasks(config: TrainConfig, device: str, start: ModelConfig) -> dict[str, Task]:
    """The recipe's tasks by name, with their frozen networks, for a model that begins as ``start`` says.

    Raises ``ValueError`` where a network is missing.
    """
    tasks: dict[str, Task] = {}
    tower: TextTower | None = None
    for task in config.tasks:
        if task.about_text and tower is None:
            tower = text(config.text.tower, device=device)
        perceptual = [name for name in PERCEPTUAL if getattr(config.loss, name)]
        if task.task == "image-reconstruction" and config.perceptual is not None and perceptual:
            networks = perceptual_terms(config.perceptual, device, perceptual)
            tasks[task.task] = Reconstruction(config.loss, networks, config.perceptual.pictures)
        elif task.task == "3d-reconstruction":
            renders = RenderTerms(perceptual_distance(config.perceptual, device))
            tasks[task.task] = Reconstruction(config.loss, renders=renders)
        elif task.task == HEAD_ALONE:
            renders = RenderTerms(perceptual_distance(config.perceptual, device), config.loss.log_mse)
            tasks[task.task] = GaussiansAlone(renders)
        elif task.task.endswith("reconstruction"):
            tasks[task.task] = Reconstruction(config.loss)
        else:
            assert tower is not None
            pairs = task.task != "image-text"
            tasks[task.task] = TextPairs(tower, start) if pairs else image_text(config, tower, device)
    return tasks


def perceptual_terms(config: PerceptualConfig, device: str, wanted: Sequence[str] = PERCEPTUAL) -> PerceptualTerms:
    """The networks that the recipe names, for the terms ``wanted``."""
    if config.network == "lite0":
        return lite_terms(lite0(LITE_LAYERS, device=device), config.size, wanted)
    assert config.vgg16 is not None
    tower = clip(config.clip, device=device) if config.clip else None
    network = vgg16(config.vgg16, device=device)
    return PerceptualTerms(lpips(network), tower=tower, size=config.size, wanted=wanted).to(device)


def perceptual_distance(config: PerceptualConfig | None, device: str) -> PerceptualDistance | None:
    """The distance of pictures that the recipe's networks give, for renderings."""
    if config is None:
        return None
    if config.network == "lite0":
        return PerceptualDistance(lite0(LITE_LAYERS, device=device))
    assert config.vgg16 is not None
    return lpips(vgg16(config.vgg16, device=device)).to(device)


def image_text(config: TrainConfig, tower: TextTower, device: str) -> Distillation:
    """Distillation from the SigLIP2 that the tower belongs to, or beside all-minilm from EfficientNet-Lite0."""
    if config.text.tower != MINILM:
        vision = clip(config.text.tower, device=device)
        scale = config.model_config.logit_scale
        return Distillation(config.text, lambda batch: TowerTeacher(vision, tower(batch.captions), scale), vision.size)
    if config.text.classes is None:
        raise ValueError("train config: image-text beside all-minilm needs text.classes, a file of ImageNet's labels")
    labels = read_regular(config.text.classes).decode().splitlines()
    teacher = ClassTeacher(lite0(device=device), label_embeddings(tower, labels))
    return Distillation(config.text, lambda batch: teacher, teacher.network.size)
