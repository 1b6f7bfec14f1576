"""Tells how transformers, in the environment whose interpreter executes this, encodes a text and a conversation.

    python tokens.py DESCRIPTOR QUESTION

QUESTION is JSON: model (a folder or hub id), revision, text, conversation. Writes one line of JSON to the descriptor.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys


def main(arguments):
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    asked = json.loads(arguments[1])
    try:
        told = _fingerprint(asked)
    except Exception as error:  # whatever the library raises is the answer
        told = {"error": f"{type(error).__name__}: {str(error)[:1500]}"}
    with open(int(arguments[0]), "w") as file:
        file.write(json.dumps(told) + "\n")


def _fingerprint(asked):
    library = importlib.import_module("transformers")
    revision = {"revision": asked["revision"]} if asked["revision"] else {}
    tokenizer = library.AutoTokenizer.from_pretrained(asked["model"], **revision)
    ids = [int(i) for i in tokenizer.encode(asked["text"], add_special_tokens=False)]
    return {
        "tokenizer_class": type(tokenizer).__name__,
        "vocabulary_size": len(tokenizer),
        "text_ids": ids,
        "text_tokens": [str(token) for token in tokenizer.convert_ids_to_tokens(ids)],
        "conversation_ids": _conversation(tokenizer, asked["conversation"]),
        "versions": {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers")},
    }


def _conversation(tokenizer, conversation):
    """The ids of the conversation in the tokenizer's chat template; null where it has none."""
    if not tokenizer.chat_template:
        return None
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    return [int(i) for i in tokenizer.encode(str(text), add_special_tokens=False)]


if __name__ == "__main__":
    main(sys.argv[1:])
