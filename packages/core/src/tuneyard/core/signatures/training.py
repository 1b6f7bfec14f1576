"""Training: LLaMA-Factory, the Trainer, trl."""

from __future__ import annotations

from tuneyard.core.signatures.signature import signature

SIGNATURES = (
    signature(
        "unknown-argument",
        r"Some (?:keys|specified arguments) are not used by the HfArgumentParser",
        cause="LLaMA-Factory does not know a key of `engine`",
        way_out="`yard run SPEC --dry-run` checks the keys against the installed version",
        thread="hiyouga/LlamaFactory/issues/6456",
    ),
    signature(
        "undefined-dataset",
        r"Undefined dataset .{0,300} in dataset_info\.json",
        cause="the dataset is not listed in dataset_info.json of the dataset folder",
        way_out="give its name as it stands there (no .json), or the file itself as `dataset:` of the spec",
        thread="hiyouga/LlamaFactory/issues/7703",
    ),
    signature(
        "no-valid-samples",
        r"Cannot find (?:valid|sufficient) samples",
        cause="after preprocessing no example was left: wrong columns, wrong roles, or too few rows",
        way_out=(
            "compare the file with its entry in dataset_info.json (columns, tags, ranking); `yard run` names the first "
            "bad row"
        ),
        thread="hiyouga/LlamaFactory/issues/2577",
    ),
    signature(
        "no-gradient",
        r"element 0 of tensors does not require grad",
        cause="nothing in the model is trainable; with gradient checkpointing the inputs must ask for gradients",
        way_out=(
            "`model.enable_input_require_grads()`, or `use_reentrant: false`; check that the adapter was not loaded "
            "frozen"
        ),
        thread="huggingface/peft/issues/137",
    ),
    signature(
        "fp16-gradients",
        r"Attempting to unscale FP16 gradients",
        cause="the trained weights are themselves in fp16, which mixed precision cannot scale",
        way_out="`engine.bf16: true` where the GPU can; else load the model in fp32 and train LoRA",
        thread="hiyouga/LlamaFactory/issues/1764",
    ),
    signature(
        "not-a-number",
        r"loss['\"]?: ['\"]?nan\b|['\"]loss['\"]: ['\"]?0(?:\.0+)?['\"]?, ['\"]grad_norm['\"]: ['\"]?nan",
        cause="the loss became NaN",
        way_out="lower the learning rate, add warm-up, or use bf16 in place of fp16",
        thread="hiyouga/LlamaFactory/issues/5627",
        effect="spoils",
    ),
)
