"""lmms-eval itself runs the model on a local task, without a network."""

import numpy as np
import pytest
import torch
from PIL import Image

from atoken import PRESETS, AToken

pytest.importorskip("lmms_eval", reason="lmms-eval is not part of any extra: it pins other versions of av and wandb")
pytest.importorskip("peft")

from atoken.mllm.assemble import assemble
from atoken.mllm.load import Mllm
from small_language import language_model, seeded, text_tokenizer

TASK = """
dataset_path: {folder}/set
dataset_kwargs: {{load_from_disk: true}}
task: local_colours
test_split: test
output_type: generate_until
doc_to_visual: !function functions.visual
doc_to_text: !function functions.text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 6, temperature: 0, do_sample: false}}
process_results: !function functions.results
metric_list:
  - {{metric: right, aggregation: mean, higher_is_better: true}}
"""
FUNCTIONS = """
def visual(doc):
    return [doc["image"].convert("RGB")]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def results(doc, results):
    return {"right": float(results[0].strip() == doc["answer"])}
"""


@pytest.mark.slow
def test_the_harness_answers_as_python_does(tmp_path, monkeypatch):
    from datasets import Dataset, DatasetDict
    from lmms_eval import evaluator, models
    from lmms_eval.tasks import TaskManager

    from atoken.mllm.harness import NAME, manifest

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(evaluator, "_enable_reentrant_filelocks", lambda: None)  # 0.7.3 looks inside filelock 3
    models.MODEL_REGISTRY_V2.register_manifest(manifest(), overwrite=True)
    tokenizer = seeded(AToken, PRESETS["tiny"]).eval()
    language = seeded(language_model, initializer_range=0.5)
    Mllm(*seeded(assemble, tokenizer, language, text_tokenizer())).save_pretrained(tmp_path / "model")
    from atoken.mllm.load import load_mllm

    mllm = load_mllm(tmp_path / "model", device="cpu", dtype=torch.float32)
    pictures = [np.full((32, 48, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    told = [mllm.ask(picture, "colour?", max_new_tokens=6) for picture in pictures]
    rows = [
        {"image": Image.fromarray(picture), "question": "colour?", "answer": answer if number else "no"}
        for number, (picture, answer) in enumerate(zip(pictures, told, strict=True))
    ]
    DatasetDict({"test": Dataset.from_list(rows)}).save_to_disk(str(tmp_path / "set"))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "local_colours.yaml").write_text(TASK.format(folder=tmp_path))
    (tasks / "functions.py").write_text(FUNCTIONS)
    monkeypatch.setattr("atoken.mllm.load.fast_dtype", lambda: torch.float32)
    found = evaluator.simple_evaluate(
        NAME,
        model_args=f"pretrained={tmp_path / 'model'}",
        device="cpu",
        tasks=["local_colours"],
        batch_size=1,
        task_manager=TaskManager("ERROR", include_path=str(tasks), model_name=NAME),
        bootstrap_iters=0,
    )
    assert found["results"]["local_colours"]["right,none"] == pytest.approx(2 / 3)
