"""A run of kind generate by vLLM in this process: one engine, kept full, that answers for every adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields
from typing import Any

from tuneyard.core import generation
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.generation import Answer, Completion, Input, Work, token_ids
from tuneyard.core.specs import GenerateSpec
from tuneyard.core.worker import Job
from tuneyard.data.image_files import fault
from tuneyard.serve import tokens
from tuneyard.serve.arguments import computes_on_cpu, refuse_towers_left_out, refuse_without_gpu
from tuneyard.serve.variables import defaults, sockets

QUEUED = 2
"""Inputs in the engine's queue for each that it can compute at once: it never waits for the next."""

DEFAULT_BATCH = GenerateSpec.model_fields["batch_size"].default


def run(job: Job) -> None:
    """Answer the inputs of a run; leave responses.jsonl and the numbers.

    Raises:
        RequestError: the tokens differ, or vLLM refuses a setting, the form of answers or images.
        SetupError: vLLM for CUDA is installed and there is no GPU.
        RunError: every input failed.
    """
    with sockets(os.environ) as folder, ExitStack() as engines:
        os.environ.update(folder)
        generation.generate(job, lambda: engines.enter_context(closing(backend(job))))


def settings(spec: GenerateSpec, on_cpu: bool, tokenizer: str | None = None) -> dict[str, Any]:
    """The arguments of `vllm.LLM`.

    Raises:
        RequestError: a key of `engine` that only a server has.
    """
    from vllm import EngineArgs

    assert spec.model is not None
    known = {entry.name for entry in fields(EngineArgs)}
    for key in spec.engine:
        if key not in known:
            raise unknown("key of vLLM's engine", key, known, where="engine")
    hub = {"revision": spec.model.revision} if spec.model.revision and spec.model.path is None else {}
    return {
        "model": spec.model.name_or_path,
        **hub,
        "seed": spec.seed,
        **({"tokenizer": tokenizer} if tokenizer else {}),
        **({"enforce_eager": True} if on_cpu else {}),  # compiling takes minutes there and gains little
        **({"max_num_seqs": spec.batch_size} if spec.batch_size != DEFAULT_BATCH else {}),
        **spec.engine,
    }


def sampling(spec: GenerateSpec) -> dict[str, Any]:
    """The arguments of `vllm.SamplingParams`, as JSON holds them."""
    return {
        "n": spec.n,
        "max_tokens": spec.max_tokens,
        "temperature": spec.temperature,
        "top_p": spec.top_p,
        **({"seed": spec.seed} if spec.temperature > 0 else {}),
        **({"stop": spec.stop} if spec.stop else {}),
        **({"structured_outputs": form} if (form := structured(spec)) else {}),
    }


def structured(spec: GenerateSpec) -> dict[str, Any] | None:
    """The form of answers under vLLM's names."""
    if spec.structured is None:
        return None
    given = {"json": spec.structured.json_schema, "choice": spec.structured.choice, "regex": spec.structured.regex}
    return {name: value for name, value in given.items() if value is not None} or None


def describe(spec: GenerateSpec) -> dict[str, Any]:
    """What the verb `arguments` answers; nothing is loaded.

    Raises:
        RequestError: a key of `engine` that is none, or a form of answers that cannot be compiled.
    """
    check_form(spec)
    return {"arguments": {"LLM": settings(spec, computes_on_cpu()), "SamplingParams": sampling(spec)}}


def check_form(spec: GenerateSpec) -> None:
    """See that the form of answers can be compiled, before a model is loaded for it.

    Raises:
        RequestError: it cannot, with the compiler's own words.
    """
    form = structured(spec)
    if form is None:
        return
    import xgrammar

    try:
        if "json" in form:
            xgrammar.Grammar.from_json_schema(json.dumps(form["json"]))
        elif "regex" in form:
            xgrammar.Grammar.from_regex(form["regex"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RequestError(f"vLLM cannot compile this form of answers: {reason}", where="structured") from error


def backend(job: Job) -> Engine:
    """The engine of a run, with the tokenizer whose ids are those of training.

    Raises:
        RequestError, SetupError: as `run`.
    """
    spec: GenerateSpec = job.spec
    on_cpu = computes_on_cpu()
    refuse_without_gpu(spec, on_cpu, "backend=transformers computes on a CPU")
    check_form(spec)
    for name, value in defaults(spec, on_cpu).items():
        os.environ.setdefault(name, value)
    refuse_towers_left_out(spec)
    choice = tokens.choose(spec, job.folder)
    chat = _chat(spec, job, choice.chat_template)
    for note in choice.notes:
        print(f"note: {note}", flush=True)
    for warning in choice.warnings if chat else ():
        job.warn(warning)
    llm = _load(settings(spec, on_cpu, choice.tokenizer))
    job.describe_environment()
    return Engine(spec, llm, _tokenizer(llm), chat)


def _tokenizer(llm: Any) -> Any:
    """vLLM's own. It is many copies in one, none of which can be given a chat template that it lacks."""
    own, config = llm.get_tokenizer(), llm.model_config
    if getattr(own, "chat_template", "") is not None:
        return own
    return tokens.load(config.tokenizer, config.tokenizer_revision, config.trust_remote_code)


def _chat(spec: GenerateSpec, job: Job, has_template: bool) -> bool:
    """Whether inputs go through the chat template: exactly when training did, else where there is one."""
    trained = next((t.fingerprint.chat for t in tokens.trainings(spec, job.folder.path.parent)), None)
    asked = spec.apply_chat_template
    chat = asked if asked is not None else trained if trained is not None else has_template
    if chat and not has_template:
        raise RequestError(
            "the tokenizer has no chat template",
            where="apply_chat_template",
            way_out="apply_chat_template=false puts inputs to the model as they are",
        )
    why = "as the spec says" if asked is not None else "as training did" if trained is not None else "the default"
    print(f"note: chat template {'applied' if chat else 'not applied'}, {why}", flush=True)
    return chat


def _load(given: dict[str, Any]) -> Any:
    from pydantic import ValidationError
    from vllm import LLM

    try:
        return LLM(**given)
    except ValidationError as error:
        reason = "; ".join(str(entry["msg"]) for entry in error.errors())
        raise RequestError(f"vLLM refuses its settings: {reason}", where="engine") from error


@dataclass
class Engine:
    """vLLM as what computes: inputs are queued as others are finished."""

    spec: GenerateSpec
    llm: Any
    tokenizer: Any
    chat: bool
    _under_way: dict[str, Work] = field(default_factory=dict)

    def answer(self, work: Iterator[Work], told: Callable[[Answer], None]) -> None:
        engine = self.llm.llm_engine
        most = QUEUED * engine.vllm_config.scheduler_config.max_num_seqs
        more = True
        while more or self._under_way:
            while more and len(self._under_way) < most:
                piece = next(work, None)
                more = piece is not None
                if piece is not None and (error := self._queue(piece)) is not None:
                    told(Answer(piece, error=error))
            for output in engine.step() if self._under_way else ():
                if output.finished:
                    told(self._answered(output))

    def close(self) -> None:
        """End vLLM's processes, for which Python would wait at its exit; all is answered, so at once."""
        self.llm.llm_engine.engine_core.shutdown(timeout=1.0)

    def _queue(self, work: Work) -> str | None:
        """Give an input to the engine; what is wrong with it, or None."""
        from jinja2 import TemplateError
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import StructuredOutputsParams

        given = sampling(self.spec)
        if form := given.pop("structured_outputs", None):
            given["structured_outputs"] = StructuredOutputsParams(**form)
        try:
            name = self._enqueue(work, SamplingParams(**given))
        except (VLLMClientError, ValueError, TypeError, OSError, TemplateError) as error:
            return f"{type(error).__name__}: {error}"
        self._under_way[name.rpartition("-")[0]] = work  # vLLM adds letters of its own, which its answers are without
        return None

    def _enqueue(self, work: Work, how: Any) -> str:
        """Name of the request. With images, vLLM itself applies the template, as its server does for a chat."""
        asked: dict[str, Any] = {"lora_request": self._adapter(work.adapter), "use_tqdm": False}
        if work.input.images:
            tools = work.input.tools or None
            (name,) = self.llm.enqueue_chat(self._chat_with_images(work.input), how, tools=tools, **asked)
        else:
            (name,) = self.llm.enqueue({"prompt_token_ids": self._ids(work.input)}, how, **asked)
        return str(name)

    def _ids(self, asked: Input) -> list[int]:
        ids = token_ids(self.tokenizer, asked, self.chat, add_bos_token=False if self.chat else None)
        longest = self.llm.model_config.max_model_len
        if len(ids) >= longest:
            raise ValueError(f"the prompt has {len(ids)} tokens, and the model's context is {longest}")
        return ids

    def _chat_with_images(self, asked: Input) -> list[dict[str, Any]]:
        if not self.llm.model_config.is_multimodal_model:
            raise ValueError("the model takes no images")
        if not self.chat:
            raise ValueError("images need a chat template, which says where they stand in the text")
        return [{**turn, "content": _content(turn["content"])} for turn in asked.turns_with_images()]

    def _adapter(self, name: str | None) -> Any:
        from vllm.lora.request import LoRARequest

        if name is None:
            return None
        number = [*self.spec.adapters].index(name) + 1
        return LoRARequest(name, number, str(self.spec.adapters[name].path))

    def _answered(self, output: Any) -> Answer:
        work = self._under_way.pop(str(output.request_id))
        completions = [
            Completion(one.text, len(one.token_ids), one.finish_reason)
            for one in sorted(output.outputs, key=lambda one: one.index)
        ]
        return Answer(work, completions, prompt_tokens=len(output.prompt_token_ids or ()))


def _content(content: str | list[dict[str, str]]) -> str | list[dict[str, Any]]:
    """What a turn says, as vLLM takes it, with images in place of their paths."""
    if isinstance(content, str):
        return content
    return [{"type": "image_pil", "image_pil": read_image(p["image"])} if p["type"] == "image" else p for p in content]


def read_image(path: str) -> Any:
    """The pixels of an image as vLLM's server takes them: turned as the camera was, on white where it is transparent.

    Raises:
        ValueError: it is not there, no image, not whole or too large.
    """
    from PIL import Image
    from vllm.multimodal.image import convert_image_mode, normalize_image, open_image

    if problem := fault(path):
        raise ValueError(problem)
    try:
        with open_image(path) as image:
            image.load()  # the whole of it: vLLM makes do with what it can read of a damaged PNG
            return convert_image_mode(normalize_image(image), "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {path} cannot be used: {error}") from error
