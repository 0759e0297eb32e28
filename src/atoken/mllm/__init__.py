"""A multimodal language model on frozen tokens: layouts, tower, projector, training, answers (docs/mllm.md)."""
