"""Evaluation: lm-eval and Inspect."""

from __future__ import annotations

from tuneyard.core.signatures.signature import signature

SIGNATURES = (
    signature(
        "lm-eval-vllm-import",
        r"name 'LLM' is not defined",
        cause="vLLM could not be imported, and lm-eval hides why",
        way_out="`python -c 'import vllm'` in the same environment shows the error",
        thread="arcee-ai/mergekit/issues/524",
    ),
    signature(
        "task-not-found",
        r"Tasks? .{0,300}(?:were )?not found\. Try `|Tasks not found: ",
        cause="lm-eval knows no task of this name",
        way_out=(
            "`lm-eval ls tasks` lists them; names are joined by commas without spaces; your own need `include_path`"
        ),
        thread="EleutherAI/lm-evaluation-harness/issues/2830",
    ),
    signature(
        "unsafe-code",
        r"metric executes untrusted model-generated code|confirm_run_unsafe_code",
        cause="the task runs code that the model wrote, and that was not allowed",
        way_out="in a container: HF_ALLOW_CODE_EVAL=1 and `engine.confirm_run_unsafe_code: true`",
        thread="huggingface/evaluate/issues/597",
    ),
    signature(
        "temperature-zero",
        r"`temperature` \(=[0-9.]+\) has to be a strictly positive float",
        cause="the hf provider samples, and cannot do so at temperature 0",
        way_out="`-M do_sample=false` in place of temperature 0",
        thread="niznik-dev/cruijff_kit/pull/496",
    ),
    signature(
        "context-too-short",
        r"maximum context length is \d+ tokens",
        cause="a prompt and its answer are longer than the served context; some harnesses score the error as an answer",
        way_out=(
            "a larger `max_model_len`, or fewer few-shot examples and a smaller max_tokens; look at the samples before "
            "the score"
        ),
        thread="UKGovernmentBEIS/inspect_ai/issues/2634",
        effect="warns",
    ),
    signature(
        "chat-template-unused",
        r"chat template is not applied",
        cause="an instruct model is evaluated without its chat template, which costs points",
        way_out="`apply_chat_template: true` (and `fewshot_as_multiturn`), as training did",
        thread="EleutherAI/lm-evaluation-harness/pull/3127",
        effect="warns",
    ),
)
