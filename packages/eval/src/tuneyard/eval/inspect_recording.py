"""A model of Inspect that keeps every greedy response, so that a killed run goes on.

Inspect's own cache does not serve here: a solver that samples the same prompt several times would be given one answer.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from tuneyard.eval.responses import Responses

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput
    from inspect_ai.tool import ToolChoice, ToolInfo

NO_MATTER = {"max_connections", "max_retries", "timeout", "attempt_timeout", "adaptive_connections"}
"""Settings of generation that no response depends on."""


class Recording:
    """Stands before the provider of a model: answers from earlier attempts, asks for the rest and keeps it."""

    def __init__(self, model: Model, responses: Responses) -> None:
        """From here on `model` is answered so."""
        self.reused = 0
        """Responses taken from earlier attempts."""
        self._responses = responses
        self._earlier = dict(responses.known)
        self._provider: Any = model.api
        self._ask = self._provider.generate
        self._provider.generate = self._generate

    async def _generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> Any:
        from inspect_ai.model import ModelOutput

        if not self._is_greedy(config):
            return await self._ask(input=input, tools=tools, tool_choice=tool_choice, config=config)
        key = _key(input, tools, tool_choice, config)
        if key in self._earlier:
            self.reused += 1
            return ModelOutput.model_validate(self._earlier[key])
        answer = await self._ask(input=input, tools=tools, tool_choice=tool_choice, config=config)
        output = answer[0] if isinstance(answer, tuple) else answer
        if isinstance(output, ModelOutput) and _can_be_kept(output):
            self._responses.add(key, output.model_dump(mode="json", exclude_none=True))
            self._responses.write()
        return answer

    def _is_greedy(self, config: GenerateConfig) -> bool:
        """The provider of models that are loaded decides once for all; a server is told each time."""
        sampled: bool | None = getattr(self._provider, "do_sample", None)
        return config.temperature == 0 if sampled is None else not sampled


def _can_be_kept(output: ModelOutput) -> bool:
    """Not what was refused, nor hidden states, which stand in the metadata and are no JSON."""
    return bool(output.choices) and not output.error and output.metadata is None


def _key(input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig) -> str:
    asked = {
        "input": [message.model_dump(mode="json", exclude={"id"}) for message in input],
        "tools": [tool.model_dump(mode="json") for tool in tools],
        "tool_choice": tool_choice if isinstance(tool_choice, str) else tool_choice.name,
        "config": config.model_dump(mode="json", exclude_none=True, exclude=NO_MATTER),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
