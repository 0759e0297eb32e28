"""Training on TRL's SFTTrainer: stage after stage, answers alone are learnt, and a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig, SFTTrainer

from ..core.device import find_device
from ..tokens.shards import TokenShards
from ..weights.load import load
from .assemble import assemble
from .collate import NOT_LEARNT, Collator
from .load import Mllm, language_hash, save_small
from .recipe import MllmRecipe, StageConfig
from .rows import Row, read_rows
from .smollm import load_language_model

LEARNT = "learnt.safetensors"
"""What a checkpoint keeps of the weights: those that learn."""
LORA_MODULES = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


class Trainer(SFTTrainer):
    """SFTTrainer whose loss computes the vocabulary's logits of the answers alone, and whose checkpoints keep what
    learns alone.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross-entropy of the answers' tokens, of ``num_items_in_batch`` of them where it is given."""
        labels = F.pad(inputs.pop("labels"), (0, 1), value=NOT_LEARNT)[:, 1:]  # the next token of each position
        first = int((labels != NOT_LEARNT).any(0).nonzero()[0])
        labels = labels[:, first:]
        outputs = model(**inputs, logits_to_keep=labels.shape[1], use_cache=False)
        total = F.cross_entropy(outputs.logits.float().flatten(0, 1), labels.flatten(), reduction="sum")
        loss = total / ((labels != NOT_LEARNT).sum() if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(learnt(self.model), folder / LEARNT)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        restore(self.model if model is None else model, Path(resume_from_checkpoint) / LEARNT)


def learnt(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the parameters that learn."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def restore(model: Any, path: Path) -> None:
    """The inverse of saving ``learnt``. Raises ``ValueError`` where the file has other parameters than those."""
    state, own = load_file(path), {name for name, p in model.named_parameters() if p.requires_grad}
    if set(state) != own:
        raise ValueError(f"{path} holds other weights than the recipe lets learn: give another --out")
    model.load_state_dict(state, strict=False)


def run(recipe: MllmRecipe, out: Path, device: str | None = None) -> Path:
    """Train all stages in ``out``, going on where a run was stopped, and return the folder of the trained model.

    Raises ``ValueError`` or ``OSError`` with one sentence: data or weights that are missing, another recipe's folder.
    """
    torch.manual_seed(recipe.seed)
    tokenizer = load(recipe.tokenizer, device="cpu")
    language_model, text_tokenizer = load_language_model(recipe.language_model)
    digest = language_hash(language_model)
    model, processor = assemble(
        tokenizer,
        language_model,
        text_tokenizer,
        inputs=recipe.inputs,
        layer=recipe.layer,
        layout=recipe.layout,
    )
    for stage in recipe.stages:
        model = set_learning(model, stage)
        _train(recipe, stage, model, processor, out / stage.stage, device)
    if any(stage.learns == "all" for stage in recipe.stages):
        Mllm(model, processor).save_pretrained(out / "model")
    else:
        save_small(out / "model", model, recipe.language_model, digest)
    return out / "model"


def set_learning(model: Any, stage: StageConfig) -> Any:
    """The model, wrapped by PEFT from the first stage with LoRA on, whose parameters learn as the stage says."""
    if stage.learns == "lora" and not hasattr(model, "peft_config"):
        lora = LoraConfig(r=stage.rank, lora_alpha=2 * stage.rank, target_modules=LORA_MODULES)
        model = get_peft_model(model, lora)
    for name, parameter in model.named_parameters():
        language = "lora_" in name if hasattr(model, "peft_config") else "language_model" in name or "lm_head" in name
        parameter.requires_grad_("multi_modal_projector" in name or (stage.learns != "projector" and language))
    return model


def _train(recipe: MllmRecipe, stage: StageConfig, model: Any, processor: Any, out: Path, device: str | None) -> None:
    done = out / LEARNT
    if done.is_file():
        restore(model, done)
        return
    rows = [row for path in stage.data for row in read_rows(path)]
    collate = Collator(processor, TokenShards(list(stage.shards)) if stage.shards else None)
    trainer = Trainer(
        model,
        args=_arguments(recipe, stage, out, device),
        train_dataset=Dataset.from_dict({"row": [json.dumps(vars(row)) for row in rows]}),
        processing_class=processor,
        data_collator=lambda batch: collate([Row(**json.loads(each["row"])) for each in batch]),
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)) if out.is_dir() else None)
    save_file(learnt(model), done)


def _arguments(recipe: MllmRecipe, stage: StageConfig, out: Path, device: str | None) -> Any:
    cpu = find_device(device).type == "cpu"
    return SFTConfig(
        output_dir=str(out),
        max_steps=stage.steps,
        per_device_train_batch_size=stage.batch,
        gradient_accumulation_steps=stage.accumulate,
        learning_rate=stage.lr,
        lr_scheduler_type="cosine",
        warmup_steps=int(stage.warmup * stage.steps),
        weight_decay=stage.weight_decay,
        gradient_checkpointing=recipe.checkpointing,
        bf16=recipe.autocast,
        use_cpu=cpu,
        logging_steps=10,
        save_steps=recipe.save_every,
        save_total_limit=2,
        report_to=[],
        seed=recipe.seed,
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=not cpu,
    )
