"""Small and whole folders of one model give the same answers; what does not fit is refused."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import atoken
from atoken import PRESETS, AToken, Clip
from refusals import refused

pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from atoken.cli import app  # noqa: E402
from atoken.core.errors import ReadError  # noqa: E402
from atoken.core.text import clean  # noqa: E402
from atoken.mllm.assemble import assemble  # noqa: E402
from atoken.mllm.load import PARTS_FILE, language_hash, load_mllm, save_small  # noqa: E402
from small_language import language_model, seeded, text_tokenizer  # noqa: E402

pytestmark = pytest.mark.slow
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tokenizer, a language model, and a small and a whole folder of what was trained with them."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = seeded(AToken, PRESETS["tiny"]).eval()
    tokenizer.save_pretrained(folder / "tokenizer")
    language = seeded(language_model, initializer_range=0.5)  # so that answers are of various letters
    language.save_pretrained(folder / "language")
    text_tokenizer().save_pretrained(folder / "language")
    digest = language_hash(language)
    model, processor = seeded(assemble, tokenizer, language, text_tokenizer())
    lora = peft.LoraConfig(r=2, target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    trained = seeded(peft.get_peft_model, model, lora)
    save_small(folder / "small", trained, "small", digest)
    inputs = processor(text="<image>what?", images=PICTURE)
    torch.save(trained.eval()(**inputs).logits.detach(), folder / "logits.pt")
    load_mllm(folder / "small", dtype=torch.float32, **options(folder)).save_pretrained(folder / "whole")
    return folder


def options(folders) -> dict:
    return {"tokenizer": folders / "tokenizer", "language_model": folders / "language", "device": "cpu"}


@pytest.fixture(scope="module")
def mllm(folders):
    return load_mllm(folders / "small", dtype=torch.float32, **options(folders))


def test_small_and_whole_folders_answer_alike(folders, mllm):
    whole = load_mllm(folders / "whole", device="cpu", dtype=torch.float32)
    assert sum(path.stat().st_size for path in (folders / "small").rglob("*")) < 100_000
    logits = whole.model(**whole.processor(text="<image>what?", images=PICTURE)).logits
    trained = torch.load(folders / "logits.pt")
    # the projector and the adapter are rounded to 11 bits (5e-4), which layers of large random weights amplify
    assert (logits - trained).abs().max() < 0.01 * trained.abs().max()
    answer = mllm.ask([PICTURE, Clip(PICTURE[None].repeat(5, 0), fps=2.0)], "what?", max_new_tokens=8)
    assert whole.ask([PICTURE, Clip(PICTURE[None].repeat(5, 0), fps=2.0)], "what?", max_new_tokens=8) == answer


def test_answers_stream_and_dialogues_remember(mllm):
    parts: list[str] = []
    chat = mllm.chat()
    first = chat.say("what?", PICTURE, max_new_tokens=6, on_text=parts.append)
    assert "".join(parts).strip() == first
    second = chat.say("and what?", max_new_tokens=6)
    assert [message["role"] for message in chat.messages] == ["user", "assistant"] * 2
    again = mllm.chat()
    again.messages = chat.messages[:2]
    assert again.say("and what?", max_new_tokens=6) == second


def test_a_question_that_cannot_be_leaves_the_dialogue_as_it_was(mllm):
    chat = mllm.chat()
    for text, named in ((" ", "question"), ("an <image>?", "<image>"), ("x" * 3000, "2048")):
        with refused(named):
            chat.say(text, PICTURE)
    assert chat.messages == []


def test_other_weights_are_refused(folders, tmp_path):
    other = seeded(lambda: (torch.rand(1), AToken(PRESETS["tiny"]))[1]).eval()
    with refused("tiny", other.weights_hash[:12]):
        load_mllm(folders / "small", **{**options(folders), "tokenizer": other})
    seeded(lambda: (torch.rand(1), language_model())[1]).save_pretrained(tmp_path)
    text_tokenizer().save_pretrained(tmp_path)
    with refused("language model", "small"):
        load_mllm(folders / "small", **{**options(folders), "language_model": tmp_path})
    with refused("tiny", "tokenizer"):
        load_mllm(folders / "small", language_model=folders / "language")


def test_folders_of_other_things_are_refused(folders, tmp_path):
    with refused("tokenizer", "atoken_mllm", error=ReadError):
        load_mllm(folders / "tokenizer")
    with refused("nothing", error=FileNotFoundError):
        load_mllm(tmp_path / "nothing")
    (tmp_path / PARTS_FILE).write_text(json.dumps({"config": {}}))
    with refused(PARTS_FILE, error=ReadError):
        load_mllm(tmp_path)


def test_the_command_answers_as_python_does(folders, tmp_path):
    atoken.write_image(tmp_path / "a.png", PICTURE)
    whole = load_mllm(folders / "whole", device="cpu")
    expected = whole.ask(tmp_path / "a.png", "what?", max_new_tokens=8)
    call = ["ask", str(tmp_path / "a.png"), "--model", str(folders / "whole"), "--device", "cpu", "--tokens", "8"]
    told = CliRunner().invoke(app, [*call[:2], "what?", *call[2:]])
    assert told.exit_code == 0, told.stderr
    assert expected
    assert told.stdout.strip() == "\n".join(map(clean, expected.split("\n")))
    chat = CliRunner().invoke(app, [*call, "--chat"], input="what?\nan <image>?\nwhat?\n\nnever\n")
    assert chat.exit_code == 0, chat.stderr
    assert told.stdout in chat.stdout
    assert "<image>" in chat.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a.png", "what?"], "--model"),
        (["what?", "--model", "m"], "photo.jpg"),
        (["missing.png", "what?", "--model", "m"], "missing.png"),
        (["a.png", "what?", "--model", "missing"], "missing"),
        (["a.png", "what?", "--model", "m", "--tokens", "0"], "--tokens"),
        (["a.txt", "what?", "--model", "WHOLE"], "a.txt"),
    ],
)
def test_bad_input_is_one_sentence(folders, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    atoken.write_image(tmp_path / "a.png", PICTURE)
    (tmp_path / "a.txt").write_text("words")
    arguments = [str(folders / "whole") if word == "WHOLE" else word for word in arguments]
    told = CliRunner().invoke(app, ["ask", *arguments])
    assert told.exit_code == 2
    assert told.stderr.count("\n") == 1
    assert named in told.stderr
