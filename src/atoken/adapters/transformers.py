"""AToken's encoder as a vision tower of transformers: ``atoken_vision`` for its Auto classes and LLaVA-type models.

Importing this module registers the classes, so that no remote code needs to be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

try:
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        BatchFeature,
        LlavaProcessor,
        PreTrainedConfig,
        PreTrainedModel,
    )
    from transformers.image_processing_backends import PilBackend
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor
    from transformers.processing_utils import ImagesKwargs, VideosKwargs
    from transformers.video_processing_utils import BaseVideoProcessor
except ImportError:
    raise ImportError("atoken.adapters.transformers needs: pip install 'atoken[hub]'") from None

from ..codec.images import shrink
from ..media.pixels import from_uint8
from ..nn.packed import Packed
from ..nn.pooling import AttentionPooling
from ..tokenizer.config import PRESETS, ModelConfig
from ..tokenizer.encoder import Encoder
from ..tokenizer.net import TokenizerNet
from ..tokens.patch import PATCH
from . import dense

SIDE = PATCH[1]
"""Pixels along a side of a patch."""


class ATokenVisionConfig(PreTrainedConfig):
    """Architecture of the tower; what transformers' models read of it (``hidden_size`` ...) follows from that."""

    model_type = "atoken_vision"
    base_config_key = "vision_config"

    architecture: dict | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    projection_dim: int | None = None
    num_channels: int = 3
    patch_size: int = SIDE
    temporal_patch_size: int = PATCH[0]
    image_size: int = 256

    def __post_init__(self, **kwargs: Any) -> None:
        """Raises ``ValueError`` where a number contradicts the architecture."""
        architecture = ModelConfig.from_dict(self.architecture or PRESETS["base"].to_dict())
        self.architecture = architecture.to_dict()
        known = {
            "hidden_size": architecture.width,
            "intermediate_size": architecture.mlp_width,
            "num_hidden_layers": architecture.encoder_depth,
            "num_attention_heads": architecture.heads,
            "projection_dim": architecture.embed_dim or architecture.width,
        }
        for name, value in known.items():
            if getattr(self, name) not in (None, value):
                raise ValueError(f"{name} is {getattr(self, name)}, and the architecture of the tower has {value}")
            setattr(self, name, value)
        super().__post_init__(**kwargs)


class ATokenVisionModel(PreTrainedModel):
    """The encoder of a tokenizer with its pooling head."""

    config: ATokenVisionConfig
    config_class = ATokenVisionConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    input_modalities = ("image", "video")
    _no_split_modules = ("Block",)
    _supports_sdpa = True

    def __init__(self, config: ATokenVisionConfig) -> None:
        super().__init__(config)
        self.architecture = ModelConfig.from_dict(config.architecture or {})
        self.patch_size = config.patch_size
        self.encoder = Encoder(self.architecture)
        self.post_init()

    @classmethod
    def from_model(cls, model: TokenizerNet) -> ATokenVisionModel:
        """The tower of a tokenizer, whose weights it shares."""
        with torch.device("meta"):
            tower = cls(ATokenVisionConfig(architecture=model.config.to_dict()))
        tower.encoder = model.encoder
        return tower.eval()

    def get_input_embeddings(self) -> nn.Module:
        """What patches go through first."""
        return self.encoder.input_layer

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AttentionPooling) and not getattr(module.probe, "_is_hf_initialized", False):
            module.probe.normal_(std=0.02)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | Sequence[Sequence[int]] | None = None,
        pixel_values_videos: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Hidden states of each patch, and a pooled vector of each sample.

        Args:
            pixel_values: Pictures [B, 3, H, W] in [-1, 1], H and W multiples of 16.
            image_sizes: int [B, 2], height and width of the picture in the upper left corner of each; then all tokens
                are one sequence [1, N, W], picture after picture.
            pixel_values_videos: Clips [B, T, 3, H, W] in place of pictures; four frames are one step of tokens.
            output_hidden_states: Whether ``hidden_states`` has the tokens before the first block, after each, and at
                last, in place of those after the last block, ``last_hidden_state``.
            return_dict: False for a tuple.
            **kwargs: Not used.

        Returns:
            ``BaseModelOutputWithPooling``: ``last_hidden_state`` [B, N, W], tokens after the final norm, row by row,
            and ``pooler_output`` fp32 [B, D] of unit length.

        Raises:
            ValueError: for sides that are no whole patches.
        """
        if (pixel_values is None) == (pixel_values_videos is None):
            raise ValueError("the tower takes pixel_values or pixel_values_videos, one of them")
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        pictures: list[Tensor]
        if pixel_values_videos is not None:
            pictures = list(pixel_values_videos.transpose(1, 2).split(1))
        elif image_sizes is not None:
            pictures = _cropped(pixel_values, torch.as_tensor(image_sizes).tolist())
        else:
            assert pixel_values is not None
            pictures = list(pixel_values.split(1))
        batch = _packed(pictures)
        layers = range(self.architecture.encoder_depth) if wanted else ()
        layout = batch.layout(self.architecture.encoder_tile, self.architecture.head_dim)
        _, hidden, states = self.encoder(batch.feats, layout, layers)
        pooled = self.encoder.head(hidden, batch.coords[:, 0].long())
        rows = 1 if image_sizes is not None else len(pictures)
        last, *states = (state.unflatten(0, (rows, -1)) for state in (hidden, *states))  # [N, W] -> [B, N / B, W]
        all_states = (*states, last) if wanted else None
        if self.config.return_dict is False if return_dict is None else not return_dict:
            return (last, pooled, all_states) if wanted else (last, pooled)
        return BaseModelOutputWithPooling(last_hidden_state=last, pooler_output=pooled, hidden_states=all_states)


def _cropped(pixels: Tensor | None, sizes: list[list[int]]) -> list[Tensor]:
    """Pictures [1, 3, h, w] of a padded batch. Raises ``ValueError`` for sizes that are not those of the batch."""
    assert pixels is not None
    most = pixels.shape[-2:]
    if len(sizes) != len(pixels) or any(not 0 < h <= most[0] or not 0 < w <= most[1] for h, w in sizes):
        raise ValueError(f"image_sizes {sizes} are not those of {len(pixels)} pictures within {most[0]} x {most[1]}")
    return [picture[None, :, :height, :width] for picture, (height, width) in zip(pixels, sizes, strict=True)]


def _packed(pictures: Sequence[Tensor]) -> Packed:
    parts = [dense.packed_of(dense.patches_of(picture).values) for picture in pictures]
    return Packed.cat([(part.feats, part.coords[:, 1:]) for part in parts])


def _prepared(frames: Tensor, max_num_patches: int | None) -> Tensor:
    """Frames uint8 [T, 3, H, W] as fp32 in [-1, 1]: scaled down, and padded to whole patches with their last pixels."""
    if max_num_patches is not None and max_num_patches < 1:
        raise ValueError(f"max_num_patches is {max_num_patches}: give 1 or more, or None for the pictures' own sizes")
    pixels = from_uint8(frames)
    if max_num_patches is not None:
        pixels = torch.stack([shrink(frame, max_num_patches) for frame in pixels])
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % SIDE, 0, -height % SIDE), mode="replicate")


class ATokenImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """What can be asked of the processor."""

    max_num_patches: int | None


class ATokenImageProcessor(PilBackend):
    """Pictures of any size as the tokenizer sees them: never cropped, scaled only where ``max_num_patches`` is given.

    Gives ``pixel_values`` fp32 [B, 3, H, W] in [-1, 1], each picture padded to whole patches with its last row and
    column and then with zeros to the largest, and ``image_sizes`` int64 [B, 2], the height and width of each without
    those zeros. ``max_num_patches`` scales down those with more; embeddings of nano are meant for 64.
    """

    valid_kwargs = ATokenImageProcessorKwargs
    model_input_names = ("pixel_values", "image_sizes")
    do_convert_rgb = True
    max_num_patches: int | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def preprocess(self, images: Any, **kwargs: Any) -> BatchFeature:
        """Pictures (PIL, uint8 arrays or tensors) to pixels. Raises ``ValueError`` for floats."""
        return super().preprocess(images, **kwargs)

    def _preprocess(
        self, images: list[np.ndarray], max_num_patches: int | None, return_tensors: Any, **kwargs: Any
    ) -> BatchFeature:
        pictures = [_prepared(_bytes(image)[None], max_num_patches)[0] for image in images]
        sizes = [tuple(picture.shape[1:]) for picture in pictures]
        height, width = (max(sides) for sides in zip(*sizes, strict=True))
        padded = [F.pad(p, (0, width - p.shape[2], 0, height - p.shape[1])).numpy() for p in pictures]
        data = {"pixel_values": padded, "image_sizes": sizes}
        return BatchFeature(data=data, tensor_type=return_tensors)


def _bytes(array: Any) -> Tensor:
    tensor = torch.as_tensor(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array
    if tensor.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8, not {tensor.dtype}: their range is not known")
    return tensor


class ATokenVideoProcessorKwargs(VideosKwargs, total=False):  # type: ignore[call-arg]
    """What can be asked of the processor."""

    max_num_patches: int | None


class ATokenVideoProcessor(BaseVideoProcessor):
    """Clips of one size as the tokenizer sees them: ``pixel_values_videos`` fp32 [B, T, 3, H, W] in [-1, 1].

    ``max_num_patches`` of each frame scales down those with more. All frames are taken. torchvision is not needed.
    """

    valid_kwargs = ATokenVideoProcessorKwargs
    model_input_names = ("pixel_values_videos",)
    max_num_patches: int | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def preprocess(self, videos: Any, return_tensors: Any = None, **kwargs: Any) -> BatchFeature:
        """A clip or a list of clips, each uint8 [T, H, W, 3] or [T, 3, H, W] or a list of PIL images or of arrays.

        Raises ``ValueError`` for clips of several shapes, for floats and for what is no clip.
        """
        most = kwargs.get("max_num_patches", self.max_num_patches)
        one = isinstance(videos, np.ndarray | Tensor) and videos.ndim == 4
        one = one or (isinstance(videos, list | tuple) and np.asarray(videos[0]).ndim == 3)
        clips = [_prepared(_clip(video), most) for video in ([videos] if one else videos)]
        if len({clip.shape for clip in clips}) > 1:
            raise ValueError(
                f"clips of one batch need one shape: {list(clips[0].shape)} and others are among these {len(clips)}"
            )
        data = {"pixel_values_videos": [clip.numpy() for clip in clips]}
        return BatchFeature(data=data, tensor_type=return_tensors)


def _clip(video: Any) -> Tensor:
    """uint8 [T, 3, H, W]."""
    frames = video if isinstance(video, Tensor) else np.stack([np.asarray(frame) for frame in video])
    tensor = _bytes(frames)
    if tensor.ndim == 4 and tensor.shape[-1] == 3 and tensor.shape[1] != 3:
        tensor = tensor.permute(0, 3, 1, 2)
    if tensor.ndim != 4 or tensor.shape[1] != 3 or 0 in tensor.shape:
        raise ValueError(f"a clip is [T, H, W, 3] or [T, 3, H, W], not {list(tensor.shape)}")
    return tensor


class ATokenLlavaProcessor(LlavaProcessor):
    """``LlavaProcessor`` for pictures of several sizes in one batch: one placeholder for each patch of each."""

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """The placeholders of one picture."""
        height, width = map(int, image_inputs["image_sizes"][image_idx])
        return self.image_token * (height // SIDE * (width // SIDE))


AutoConfig.register(ATokenVisionConfig.model_type, ATokenVisionConfig)
AutoModel.register(ATokenVisionConfig, ATokenVisionModel)
AutoImageProcessor.register(ATokenVisionConfig, image_processor_classes={"pil": ATokenImageProcessor})
AutoVideoProcessor.register(
    ATokenVisionConfig,
    video_processor_classes={"pil": ATokenVideoProcessor, "torchvision": ATokenVideoProcessor},
)
