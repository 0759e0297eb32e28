"""The language model with AToken's encoder as its frozen vision tower, as a transformers model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep

from ..core.text import shortened
from ..tokenizer.net import TokenEncoder
from . import tower
from .config import AtokenMllmConfig
from .layout import MODALITIES, Geometry, lay_out
from .projector import Projector


def geometries_of(grids: Tensor, coords: Tensor) -> list[Geometry]:
    """Sources from int ``grids`` [V, 5] = (modality, t, x, y, z) and ``coords`` [N, 5] = (source, t, x, y, z)."""
    lengths = torch.bincount(coords[:, 0].long(), minlength=len(grids)).tolist()
    parts = coords[:, 1:].cpu().split(lengths)
    return [
        Geometry(MODALITIES[modality], tuple(grid), part)
        for (modality, *grid), part in zip(grids.tolist(), parts, strict=True)
    ]


class AtokenMllmPreTrainedModel(PreTrainedModel):
    """What both models below share."""

    config_class = AtokenMllmConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ("TokenEncoder", "Projector")
    _keep_in_fp32_modules_strict = ("vision_tower",)
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Projector):
            init.normal_(module.vectors, std=self.config.get_text_config().initializer_range)
            init.zeros_(module.position.weight)


class AtokenMllmModel(AtokenMllmPreTrainedModel):
    """Tower, projector and language model, without the head over the vocabulary."""

    def __init__(self, config: AtokenMllmConfig) -> None:
        super().__init__(config)
        self.vision_tower = TokenEncoder(config.tower_config).requires_grad_(False)
        self.multi_modal_projector = Projector(config.tower_config, config.inputs, config.text_config.hidden_size)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Of the language model."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Of the language model."""
        self.language_model.set_input_embeddings(value)

    def get_image_features(
        self,
        pixel_values: Tensor | None = None,
        visual_states: Tensor | None = None,
        visual_grids: Tensor | None = None,
        visual_coords: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """``pooler_output``: the vectors [P, W] at the placeholders of each source, in their order.

        ``pixel_values`` uint8 [M, 768] are the patches of all sources, which go through the tower; ``visual_states``
        [N, C] what it made of them before. Raises ``ValueError`` unless just one of them is given.
        """
        if (pixel_values is None) == (visual_states is None) or visual_grids is None or visual_coords is None:
            raise ValueError("give pixel_values or visual_states, and not both, with visual_grids and visual_coords")
        geometries = geometries_of(visual_grids, visual_coords)
        layout = self.config.layout_config
        layouts = [lay_out(geometry, layout) for geometry in geometries]
        if visual_states is not None:
            states = list(visual_states.split([len(geometry) for geometry in geometries]))
        else:
            assert pixel_values is not None
            states = tower.encode(
                self.vision_tower,
                pixel_values,
                geometries,
                self.config.inputs,
                layer=self.config.layer,
                frames_per_token=layout.frames_per_token,
            )
        return BaseModelOutputWithPooling(pooler_output=self.multi_modal_projector(states, layouts, geometries))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        visual_states: Tensor | None = None,
        visual_grids: Tensor | None = None,
        visual_coords: Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of ``input_ids`` int64 [B, S], whose placeholders the sources fill in their order.

        The sources are given as for ``get_image_features``, or as what it returned: ``mm_encoder_outputs={"image":
        ...}``. Raises ``ValueError`` where there are other numbers of placeholders and of vectors.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        outputs = (mm_encoder_outputs or {}).get("image")
        if pixel_values is not None or visual_states is not None:
            if outputs is not None:
                raise ValueError("give the sources or mm_encoder_outputs, and not both")
            outputs = self.get_image_features(pixel_values, visual_states, visual_grids, visual_coords)
        if outputs is not None:
            inputs_embeds = self._filled(input_ids, inputs_embeds, torch.cat(list(outputs.pooler_output)))
        return self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )

    def _filled(self, input_ids: Tensor | None, inputs_embeds: Tensor, features: Tensor) -> Tensor:
        if input_ids is None:
            raise ValueError("sources need input_ids, which say where their placeholders are")
        mask = input_ids == self.config.image_token_id
        if int(mask.sum()) != len(features):
            raise ValueError(
                f"Image features and image tokens do not match: the prompt has {int(mask.sum())} placeholders, and the "
                f"sources fill {len(features)}"
            )
        mask = mask[..., None].to(inputs_embeds.device)
        return inputs_embeds.masked_scatter(mask, features.to(inputs_embeds.device, inputs_embeds.dtype))


class AtokenMllmForConditionalGeneration(AtokenMllmPreTrainedModel, GenerationMixin):
    """The language model that answers: ``forward`` gives logits and loss, ``generate`` text."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: AtokenMllmConfig) -> None:
        super().__init__(config)
        self.model = AtokenMllmModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers. Raises ``ValueError`` where the tower is not the one that the projector learnt with."""
        found = super().from_pretrained(*args, **kwargs)
        (found[0] if isinstance(found, tuple) else found).check_tower()
        return found

    def check_tower(self) -> None:
        """Raise ``ValueError`` unless the tower's weights have the hash that the config names."""
        facts, ours = self.config.tower_facts, self.model.vision_tower.weights_hash
        if facts["encoder"] != ours:
            raise ValueError(
                f"the projector learnt with the tower {shortened(facts['name'])!r} of hash "
                f"{shortened(facts['encoder'][:12])}, and this one has {ours[:12]}: give the weights of training"
            )

    def get_output_embeddings(self) -> nn.Module:
        """The head over the vocabulary."""
        return self.lm_head

    def get_image_features(self, *args: Any, **kwargs: Any) -> BaseModelOutputWithPooling:
        """As of ``AtokenMllmModel``."""
        return self.model.get_image_features(*args, **kwargs)

    def generate(self, *args: Any, visual_states: Tensor | None = None, **kwargs: Any) -> Any:
        """As in transformers; ``visual_states`` are projected once, before the first token."""
        if visual_states is not None:
            places = {name: kwargs.pop(name) for name in ("visual_grids", "visual_coords")}
            with torch.no_grad():
                features = self.get_image_features(visual_states=visual_states, **places)
            kwargs["mm_encoder_outputs"] = {"image": features}
        return super().generate(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        visual_states: Tensor | None = None,
        visual_grids: Tensor | None = None,
        visual_coords: Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, S, V] of the next tokens, and with ``labels`` int64 [B, S] (-100: not learnt) the mean loss."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            visual_states=visual_states,
            visual_grids=visual_grids,
            visual_coords=visual_coords,
            mm_encoder_outputs=mm_encoder_outputs,
            **{name: value for name, value in kwargs.items() if name != "num_items_in_batch"},
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, **{k: v for k, v in outputs.items() if k != "last_hidden_state"}
        )
