"""Generation by transformers in this process, a batch at a time: slower than vLLM, and without structured output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import jinja2
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.generation import Answer, Completion, Work, token_ids
from tuneyard.core.specs import GenerateSpec
from tuneyard.core.worker import Job
from tuneyard.eval import model as models
from tuneyard.eval import tokens
from tuneyard.eval.load_errors import explained
from tuneyard.eval.model import Source
from tuneyard.eval.tokens import Encoding

LOADING = (
    "attn_implementation",
    "device_map",
    "dtype",
    "max_memory",
    "trust_remote_code",
    "use_safetensors",
    "variant",
)
"""Keys of `engine` that go to `from_pretrained`; all others go to `generate`."""


def settings(spec: GenerateSpec) -> dict[str, Any]:
    """The arguments of `generate`, as JSON holds them.

    Raises:
        RequestError: a key of `engine` that transformers does not have.
    """
    known = (*LOADING, *GenerationConfig().to_dict())
    for key in spec.engine:
        if key not in known:
            raise unknown("key of transformers' generation", key, known, where="engine")
    sampled = {"do_sample": True, "temperature": spec.temperature, "top_p": spec.top_p}
    return {
        "max_new_tokens": spec.max_tokens,
        "num_return_sequences": spec.n,
        **(sampled if spec.temperature > 0 else {"do_sample": False}),
        **({"stop_strings": spec.stop} if spec.stop else {}),
        **{key: value for key, value in spec.engine.items() if key not in LOADING},
    }


def backend(job: Job) -> Loaded:
    """The model of a run with its adapters, and the tokenizer that was compared with training's.

    Raises:
        RequestError: a setting is wrong, tokens differ, an adapter does not fit, or several greedy samples are asked.
        SetupError: the hub is needed and cannot be reached.
    """
    spec: GenerateSpec = job.spec
    settings(spec)
    refuse_same(spec)
    source = models.source_of(spec.model)
    trained = models.trained_by(source, job.folder.path.parent)
    models.refuse_unusable(source, trained)
    encoding = tokens.choose(
        source,
        models.fingerprint_of_training(trained),
        apply_chat_template=spec.apply_chat_template,
        allow_mismatch=spec.allow_token_mismatch,
        untrained="if there is one",
    )
    for note in encoding.notes:
        print(note, flush=True)
    for warning in encoding.warnings:
        job.warn(warning)
    return Loaded(spec, encoding, _load(spec, source))


def refuse_same(spec: GenerateSpec) -> None:
    """transformers gives no two answers by taking the likeliest token each time."""
    if spec.n > 1 and spec.temperature == 0 and "num_beams" not in spec.engine:
        raise RequestError(
            f"{spec.n} answers at temperature 0 would all be the same, and transformers refuses them",
            where="n",
            way_out="temperature=0.7, or n=1",
        )


def _load(spec: GenerateSpec, source: Source) -> Any:
    given = {key: value for key, value in spec.engine.items() if key in LOADING}
    device = "cuda" if spec.gpus != 0 and torch.cuda.is_available() else "cpu"
    revision = {"revision": source.revision} if source.revision else {}
    adapters = {name: str(adapter.path) for name, adapter in spec.adapters.items()}
    with explained(source.weights, next(iter(adapters.values()), source.adapter)):
        model: Any = AutoModelForCausalLM.from_pretrained(source.weights, **revision, **given)
        if "device_map" not in given:
            model.to(device)
        return _with_adapters(model, adapters or ({"adapter": source.adapter} if source.adapter else {})).eval()


def _with_adapters(model: Any, adapters: dict[str, str]) -> Any:
    from peft import PeftModel

    for number, (name, folder) in enumerate(adapters.items()):
        if number == 0:
            model = PeftModel.from_pretrained(model, folder, adapter_name=name)
        else:
            model.load_adapter(folder, adapter_name=name)
    return model


@dataclass
class Loaded:
    """A model in this process as what computes."""

    spec: GenerateSpec
    encoding: Encoding
    model: Any
    tokenizer: Any = field(init=False)

    def __post_init__(self) -> None:
        self.tokenizer = self.encoding.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def answer(self, work: Iterator[Work], told: Callable[[Answer], None]) -> None:
        for adapter, pieces in groupby(work, key=lambda piece: piece.adapter):
            if adapter is not None:
                self.model.set_adapter(adapter)
            while batch := list(islice(pieces, self.spec.batch_size)):
                for answer in self._batch(batch):
                    told(answer)

    def _batch(self, batch: list[Work]) -> Iterator[Answer]:
        encoded: list[tuple[Work, list[int]]] = []
        for work in batch:
            try:
                encoded.append((work, self._ids(work)))
            except (ValueError, TypeError, jinja2.TemplateError) as error:
                yield Answer(work, error=f"{type(error).__name__}: {error}")
        if encoded:
            yield from self._generate(encoded)

    def _ids(self, work: Work) -> list[int]:
        if work.input.images:
            raise ValueError("the backend transformers takes no images: use vllm, or an endpoint")
        ids = token_ids(self.tokenizer, work.input, self.encoding.chat, self.encoding.add_bos_token)
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if longest is not None and len(ids) >= longest:
            raise ValueError(f"the prompt has {len(ids)} tokens, and the model's context is {longest}")
        return ids

    def _generate(self, encoded: list[tuple[Work, list[int]]]) -> Iterator[Answer]:
        """The answers to inputs of different lengths, padded on the left so that all end where answers begin."""
        padded = self.tokenizer.pad({"input_ids": [ids for _, ids in encoded]}, return_tensors="pt").to(
            self.model.device
        )
        torch.manual_seed(self.spec.seed + encoded[0][0].input.number)  # the same for a run that was resumed
        with torch.inference_mode():
            out = self.model.generate(
                **padded, generation_config=self._configuration(padded.input_ids.shape[1]), tokenizer=self.tokenizer
            )
        answers = out[:, padded.input_ids.shape[1] :].tolist()
        for number, (work, ids) in enumerate(encoded):
            mine = answers[number * self.spec.n : (number + 1) * self.spec.n]
            yield Answer(work, [self._completion(new) for new in mine], prompt_tokens=len(ids))

    def _configuration(self, longest: int) -> GenerationConfig:
        """The settings of a batch: answers end where the model's context does."""
        context = getattr(self.model.config, "max_position_embeddings", None)
        room = self.spec.max_tokens if context is None else min(self.spec.max_tokens, context - longest)
        given = {**settings(self.spec), "max_new_tokens": room, "pad_token_id": self.tokenizer.pad_token_id}
        own: Any = getattr(self.model, "generation_config", None)
        ends = own.eos_token_id if own is not None and own.eos_token_id is not None else self.tokenizer.eos_token_id
        return GenerationConfig(**{"eos_token_id": ends, **given})

    def _completion(self, ids: list[int]) -> Completion:
        """An answer up to its end, without the padding behind it and the text at which it was to stop."""
        ends = {self.tokenizer.eos_token_id, *_listed(getattr(self.model.generation_config, "eos_token_id", None))}
        place = next((n for n, token in enumerate(ids) if token in ends), None)
        kept = ids if place is None else ids[:place]
        text = self.tokenizer.decode(kept, skip_special_tokens=True)
        cut = min((found for stop in self.spec.stop if (found := text.find(stop)) >= 0), default=None)
        ended = place is not None or cut is not None
        count = len(kept) if place is None else place + 1
        return Completion(text if cut is None else text[:cut], count, "stop" if ended else "length")


def _listed(value: Any) -> list[int]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
