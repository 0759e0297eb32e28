"""Tasks: each turns a batch into its terms, a dict of unweighted scalars. The recipe's ``loss`` weighs them."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ..backbones.clip import clip
from ..core.hooks import is_hook, load_hook
from ..data.batch import Batch, Sample
from ..language.towers import TextTower
from ..losses.distillation import distillation, similarity
from ..losses.l1 import l1
from ..losses.log_mse import log_mse
from ..losses.perceptual import TERMS as PERCEPTUAL
from ..losses.perceptual import PerceptualTerms, to_squares
from ..losses.sigmoid import SigmoidLoss
from ..losses.total import Weights
from ..nn.packed import Packed
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from ..tokenizer.net import Encoded
from .networks import MINILM, Networks, TextConfig, perceptual_terms
from .renders import RenderTerms
from .teachers import Teacher, TowerTeacher

if TYPE_CHECKING:
    from .config import TaskConfig, TrainConfig

Bottleneck = Callable[[AToken, Encoded, Tensor | None], tuple[Tensor, Tensor | None]]
"""From the encoder's posterior, and noise for it, to what the decoder reads, fp32 [N, C], and the KL [N], if any."""
LossTerm = Callable[[Tensor, Tensor, Batch], Tensor]
"""A scalar of decoded patches and of those that went in, fp32 [N, C] in [-1, 1]."""

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


@dataclass(frozen=True)
class Context:
    """What tasks are built from."""

    config: TrainConfig
    model: ModelConfig
    """As the run begins."""
    networks: Networks
    bottleneck: Bottleneck = bottleneck
    terms: Mapping[str, tuple[LossTerm, float]] = field(default_factory=dict)
    """Terms of the recipe's own, each with its weight."""


class Task(ABC):
    """What one batch teaches: a class of ``TASKS``, or one that a recipe names as ``module:Class``."""

    modality: ClassVar[str] = "image"
    """"image", "video" or "3d"."""
    about_text: ClassVar[bool] = False
    """Whether samples need captions or a teacher's scores, and the run a text tower."""
    distils: ClassVar[bool] = False
    """Whether the teacher's logit scale is the model's."""
    decodes: ClassVar[bool] = False
    """Whether a step computes the decoder."""
    keeps_decoded: ClassVar[bool] = False
    """Whether frozen weights decode each sample once, so that a step computes neither encoder nor decoder."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Data sources that only some tasks take: "clips", "assets"."""
    extra: nn.Module | None = None
    """Parameters of its own."""
    weights: Mapping[str, float] = {}
    """Weights of terms that are not of ``losses.total.TERMS``."""

    @classmethod
    def build(cls, context: Context, task: TaskConfig) -> Task:
        """The task of a recipe. Raises ``ValueError`` where a network is missing."""
        return cls(**task.options)

    @abstractmethod
    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """Unweighted terms of a batch, each a scalar."""


class Reconstruction(Task):
    """Encode, round or draw, decode, compare: L1 on the patches of any modality (paper Eq. 6), means over numbers.

    ``perceptual`` adds lpips, gram and clip for batches of images, whose first ``limit`` it looks at; ``renders`` adds
    those of a model's Gaussian head for batches of assets with pictures; ``own`` adds terms of the recipe's own.
    """

    decodes = True

    def __init__(
        self,
        loss: Weights,
        perceptual: PerceptualTerms | None = None,
        limit: int | None = None,
        renders: RenderTerms | None = None,
        bottleneck: Bottleneck = bottleneck,
        own: Mapping[str, tuple[LossTerm, float]] | None = None,
    ) -> None:
        self.loss, self.perceptual, self.limit, self.renders = loss, perceptual, limit, renders
        self.bottleneck, self.own = bottleneck, own or {}
        self.weights = {name: weight for name, (_, weight) in self.own.items()}

    @classmethod
    def build(cls, context: Context, task: TaskConfig) -> Reconstruction:
        """With the perceptual terms that weigh something for images, and those on renderings for 3D."""
        config, networks = context.config, context.networks
        wanted = [name for name in PERCEPTUAL if getattr(config.loss, name)]
        perceptual, limit, renders = None, None, None
        if cls.modality == "image" and config.perceptual is not None and wanted:
            perceptual = perceptual_terms(config.perceptual, networks.device, wanted)
            limit = config.perceptual.pictures
        if cls.modality == "3d":
            renders = RenderTerms(networks.distance)
        return cls(config.loss, perceptual, limit, renders, context.bottleneck, context.terms)

    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """Terms l1, log_mse, kl and those of ``perceptual`` and ``renders``, as far as they weigh anything."""
        return self.terms(model, batch, batch.packed.to(model.device), noise_of(model, batch))

    def terms(self, model: AToken, batch: Batch, packed: Packed, noise: Tensor | None) -> dict[str, Tensor]:
        """The same of patches ``packed`` that lie where those of ``batch`` do. Where all samples are pictures or clips
        of one size it waits for no device, once the layouts of ``packed`` are known."""
        latents, kl = self.bottleneck(model, model.encode_packed(packed, pool=False), noise)
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
        return terms | {name: term(patches, packed.feats, batch) for name, (term, _) in self.own.items()}


class VideoReconstruction(Reconstruction):
    """Clips."""

    modality, sources = "video", ("clips",)


class AssetReconstruction(Reconstruction):
    """Voxels with patches."""

    modality, sources = "3d", ("assets",)


class GaussiansAlone(Task):
    """The Gaussian head on what frozen weights decode: the patches of each asset are computed once, from the means of
    its latents, and kept in fp16 (1.5 kB a voxel)."""

    modality, keeps_decoded, sources = "3d", True, ("assets",)

    def __init__(self, renders: RenderTerms) -> None:
        self.renders = renders
        self.kept: dict[str, Tensor] = {}

    @classmethod
    def build(cls, context: Context, task: TaskConfig) -> GaussiansAlone:
        """With the log error of renderings, where it weighs anything."""
        return cls(RenderTerms(context.networks.distance, context.config.loss.log_mse))

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

    about_text = distils = True

    def __init__(self, config: TextConfig, teacher: Callable[[Batch], Teacher], size: int) -> None:
        self.config, self.teacher, self.size = config, teacher, size

    @classmethod
    def build(cls, context: Context, task: TaskConfig) -> Distillation:
        """From the SigLIP2 that the tower belongs to, or beside all-minilm from EfficientNet-Lite0."""
        text, networks = context.config.text, context.networks
        if text.tower == MINILM:
            teacher = networks.class_teacher
            return cls(text, lambda batch: teacher, teacher.network.size)
        vision, scale = clip(text.tower, device=networks.device), context.config.model_config.logit_scale
        return cls(text, lambda batch: TowerTeacher(vision, networks.tower(batch.captions), scale), vision.size)

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

    about_text = True

    def __init__(self, tower: TextTower, start: ModelConfig) -> None:
        self.tower, self.loss = tower, SigmoidLoss(start.logit_scale, start.logit_bias)
        self.extra = self.loss
        self.known: dict[str, Tensor] = {}

    @classmethod
    def build(cls, context: Context, task: TaskConfig) -> TextPairs:
        """With the recipe's text tower."""
        return cls(context.networks.tower, context.model)

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


class VideoTextPairs(TextPairs):
    """Clips and their captions."""

    modality = "video"


class AssetTextPairs(TextPairs):
    """Assets and their captions."""

    modality, sources = "3d", ("assets",)


TASKS: dict[str, type[Task]] = {
    "image-reconstruction": Reconstruction,
    "image-text": Distillation,
    "image-captions": TextPairs,
    "video-reconstruction": VideoReconstruction,
    "video-text": VideoTextPairs,
    "3d-reconstruction": AssetReconstruction,
    "3d-gaussians": GaussiansAlone,
    "3d-text": AssetTextPairs,
}
"""What a recipe calls each of the tasks that come with the package."""


def task_class(name: str) -> type[Task]:
    """The class of a task's name, imported where it is ``module:Class``. Raises ``ValueError`` where there is none."""
    if name in TASKS:
        return TASKS[name]
    if not is_hook(name):
        raise ValueError(f"train config: no task {name!r}; there are {', '.join(TASKS)}, and module:Class")
    found = load_hook(name)
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ValueError(f"{name!r} is no class that inherits from atoken.train.tasks.Task")
    return found


def build_tasks(config: TrainConfig, device: str, model: ModelConfig, own: Bottleneck | None = None) -> dict[str, Task]:
    """The recipe's tasks by name, with their frozen networks, for a model that begins as ``model`` says, and with the
    recipe's ``own`` bottleneck, if it has one. Raises ``ValueError`` where a network is missing."""
    terms = {term.name.rpartition(":")[2]: (term.build(), term.weight) for term in config.terms}
    networks = Networks(config.perceptual, config.text, device)
    context = Context(config, model, networks, own or bottleneck, terms)
    return {task.task: task.kind.build(context, task) for task in config.tasks}
