"""A small OpenAI-style server, as a program: what tests ask in place of vLLM, over real connections.

    python small_server.py --port 8123 [--model FOLDER] [--delay 0.01] [--log FILE] [--die-after 20] [--key SECRET]

Without a model it answers every prompt with its own text, turned around.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options: argparse.Namespace
    answerer: Any = None
    lock = threading.Lock()
    served = 0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self._authorised():
            return
        cards = [{"id": n, "object": "model", "created": 0, "owned_by": "test"} for n in self.options.names.split(",")]
        if self.options.context:
            cards = [{**card, "max_model_len": self.options.context} for card in cards]
        self._send(200, {"object": "list", "data": cards})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._authorised():
            return
        if self.path == "/tokenize":
            self._tokenize(body)
            return
        with self.lock:
            Handler.served += 1
            if self.options.die_after and Handler.served > self.options.die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.options.log:
                with open(self.options.log, "a") as file:
                    file.write(json.dumps(body) + "\n")
        time.sleep(self.options.delay)
        self._answer(body)

    def _authorised(self) -> bool:
        if self.options.key and self.headers.get("Authorization") != f"Bearer {self.options.key}":
            self._send(401, {"error": {"message": "wrong key", "type": "auth", "code": 401}})
            return False
        return True

    def _tokenize(self, body: dict[str, Any]) -> None:
        if self.answerer is None:
            self._send(404, {"error": {"message": "not here"}})
            return
        self._send(200, {"tokens": self.answerer.tokens(body)})

    def _answer(self, body: dict[str, Any]) -> None:
        chat = self.path.endswith("/chat/completions")
        prompts: list[Any] = [body["messages"]] if chat else body["prompt"]
        if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
            prompts = [prompts]
        if "refuse me" in (prompts[0][-1]["content"] if chat else prompts[0]):
            self._send(400, {"error": {"message": "this prompt is refused", "type": "BadRequestError", "code": 400}})
            return
        answerer = self.answerer or Echo()
        with self.lock if self.answerer else nullcontext():  # torch on two cores: one at a time
            answers = [answerer.answer(prompt, body) for prompt in prompts]
        used = {name: sum(a[name] for a in answers) for name in ("prompt_tokens", "completion_tokens")}
        choices = [{"index": n, **_choice(answer, chat)} for n, answer in enumerate(answers)]
        kind = "chat.completion" if chat else "text_completion"
        usage = {**used, "total_tokens": sum(used.values())}
        self._send(
            200, {"id": "x", "object": kind, "created": 0, "model": body["model"], "choices": choices, "usage": usage}
        )

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _choice(answer: dict[str, Any], chat: bool) -> dict[str, Any]:
    text = {"message": {"role": "assistant", "content": answer["text"]}} if chat else {"text": answer["text"]}
    return {"finish_reason": answer["finish_reason"], "logprobs": answer.get("logprobs"), **text}


class Echo:
    """Answers with the prompt turned around; of ids, with their number."""

    def answer(self, prompt: Any, body: dict[str, Any]) -> dict[str, Any]:
        asked = prompt if isinstance(prompt, str) else prompt[-1]["content"] if "messages" in body else str(len(prompt))
        text = str(asked)[::-1]
        return {"text": text, "finish_reason": "stop", "prompt_tokens": len(asked), "completion_tokens": len(text)}


class Model:
    """A causal language model behind the server: greedy completions, log-probabilities of prompts, tokens."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model: Any = AutoModelForCausalLM.from_pretrained(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def tokens(self, body: dict[str, Any]) -> list[int]:
        if "messages" in body:
            return self._chat(body["messages"])
        return self.tokenizer.encode(body["prompt"], add_special_tokens=body.get("add_special_tokens", True))

    def _chat(self, messages: list[dict[str, Any]]) -> list[int]:
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def answer(self, prompt: Any, body: dict[str, Any]) -> dict[str, Any]:
        import torch

        ids = self._chat(prompt) if "messages" in body else prompt
        if isinstance(ids, str):
            ids = self.tokenizer.encode(ids)
        given = torch.tensor([ids])
        with torch.inference_mode():
            new = self.model.generate(
                given,
                do_sample=False,
                max_new_tokens=body.get("max_tokens", 16),
                attention_mask=torch.ones_like(given),
                pad_token_id=self.tokenizer.eos_token_id,
            )
        made = new[0, len(ids) :].tolist()
        text = self.tokenizer.decode(made, skip_special_tokens=True)
        for stop in body.get("stop") or []:
            text = text.partition(stop)[0]
        return {
            "text": text,
            "finish_reason": "stop" if self.tokenizer.eos_token_id in made else "length",
            "logprobs": self._log_probabilities(new) if body.get("echo") else None,
            "prompt_tokens": len(ids),
            "completion_tokens": len(made),
        }

    def _log_probabilities(self, ids: Any) -> dict[str, Any]:
        import torch

        with torch.inference_mode():
            table = self.model(ids).logits[0, :-1].log_softmax(-1)
        taken = [table[n, token].item() for n, token in enumerate(ids[0, 1:])]
        best = [{str(row.argmax().item()): row.max().item()} for row in table]
        return {"token_logprobs": [None, *taken], "top_logprobs": [None, *best], "tokens": [], "text_offset": []}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--names", default="small")
    parser.add_argument("--context", type=int)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--log")
    parser.add_argument("--die-after", type=int)
    parser.add_argument("--key")
    Handler.options = parser.parse_args()
    if Handler.options.model:
        Handler.answerer = Model(Handler.options.model)
    ThreadingHTTPServer.request_queue_size = 256
    ThreadingHTTPServer(("127.0.0.1", Handler.options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
