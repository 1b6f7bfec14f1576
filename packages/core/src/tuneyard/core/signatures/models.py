"""Models, adapters and tokenizers that do not fit together."""

from __future__ import annotations

from tuneyard.core.signatures.signature import signature

SIGNATURES = (
    signature(
        "broken-checkpoint",
        (
            r"Error while deserializing header|MetadataIncompleteBuffer|InvalidHeaderDeserialization|"
            r"PytorchStreamReader failed|pickle data was truncated"
        ),
        cause="a model file is cut off, or is no model file (a Git LFS pointer)",
        way_out="write or download the model again; `ls -lL` shows files of a few bytes",
        thread="huggingface/diffusers/issues/5520",
    ),
    signature(
        "newer-adapter",
        r"(?:Lora|IA3|AdaLora|Peft|Loha|Lokr|Vera|\w+Tuning)Config\.__init__\(\) got an unexpected keyword",
        cause="the adapter was saved by a newer peft than the one that reads it",
        way_out=(
            "upgrade peft here, or take the keys it does not know out of adapter_config.json; merging the adapter "
            "avoids it"
        ),
        thread="huggingface/peft/issues/2275",
    ),
    signature(
        "adapter-vocabulary",
        r"size mismatch for \S*(?:lm_head|embed_tokens)",
        cause="the adapter was trained with a larger vocabulary than the base model's",
        way_out=(
            "merge it where it was trained (`export` with the same `add_special_tokens` and `resize_vocab`) and use "
            "the merged model"
        ),
        thread="yxli2123/LoftQ/issues/27",
    ),
    signature(
        "target-modules",
        r"Target modules? .{0,300}not found in the base model",
        cause="the adapter's target modules do not exist in this model",
        way_out="`engine.lora_target: all`, or the names that `print(model)` shows",
        thread="huggingface/peft/issues/1206",
    ),
    signature(
        "unknown-architecture",
        r"does not recognize this architecture",
        cause="the model is newer than the installed transformers",
        way_out="a newer transformers, as far as the engine allows it (`yard doctor train`), or an older model",
        thread="vllm-project/vllm/issues/36217",
    ),
    signature(
        "tokenizer-class",
        r"Tokenizer class \w+ does not exist or is not currently imported",
        cause="the tokenizer was saved by another transformers than the one that reads it",
        way_out=(
            "read it with the version that wrote it (`TokenizersBackend` means transformers 5), or install "
            "sentencepiece"
        ),
        thread="jingyaogong/minimind/issues/578",
    ),
    signature(
        "chat-template-missing",
        r"chat_template is not set|does not (?:have|define) a chat template|default chat template is no longer allowed",
        cause="the tokenizer has no chat template: most base models have none",
        way_out=(
            "evaluate the instruct model, or save the template that training used beside the tokenizer "
            "(chat_template.jinja)"
        ),
        thread="huggingface/transformers/issues/33246",
    ),
)
