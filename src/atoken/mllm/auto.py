"""Importing this module makes transformers' Auto classes know the model: config, model, processor."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from .config import MODEL_TYPE, AtokenMllmConfig
from .model import AtokenMllmForConditionalGeneration, AtokenMllmModel
from .processor import AtokenMllmProcessor

AutoConfig.register(MODEL_TYPE, AtokenMllmConfig, exist_ok=True)
AutoModel.register(AtokenMllmConfig, AtokenMllmModel, exist_ok=True)
AutoModelForImageTextToText.register(AtokenMllmConfig, AtokenMllmForConditionalGeneration, exist_ok=True)
AutoProcessor.register(AtokenMllmConfig, AtokenMllmProcessor, exist_ok=True)
