"""The process that serves: vLLM's own `serve`, after its settings and the tokens have been looked at.

    python -m tuneyard.serve.server runs/ID DESCRIPTOR     started by tuneyard.serve.run

Its first word, one line of JSON, goes to the descriptor: `error` where it refuses, else what it serves with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tuneyard.core.errors import TuneyardError
from tuneyard.core.importing import uncollected
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import ServeSpec, parse_spec


def main(argv: list[str]) -> int:
    folder = RunFolder(Path(argv[0]))
    spec = parse_spec(folder.read_spec(), str(folder.spec))
    assert isinstance(spec, ServeSpec)
    with open(int(argv[1]), "w", encoding="utf-8") as line:
        try:
            arguments, word = prepare(spec, folder)
        except TuneyardError as error:
            print(json.dumps({"error": error.as_dict()}), file=line)
            return error.exit_code
        print(json.dumps(word), file=line)
    serve(arguments)
    return 0


def prepare(spec: ServeSpec, folder: RunFolder) -> tuple[Any, dict[str, Any]]:
    """vLLM's parsed arguments, and what the worker is to know of them.

    Raises:
        RequestError: vLLM refuses a setting, or tokenizes the model differently from its training.
    """
    with uncollected():
        from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args

        from tuneyard.serve import arguments, tokens

    arguments.refuse_towers_left_out(spec)
    choice = tokens.choose(spec, folder)
    wanted = arguments.settings(spec, arguments.computes_on_cpu(), choice.tokenizer)
    parser = arguments.build_parser()
    words = arguments.flags(parser, wanted)
    parsed = parser.parse_args(words)
    validate_parsed_serve_args(parsed)
    return parsed, {"arguments": words, **choice.word()}


def serve(arguments: Any) -> None:
    """Serve until TERM, as the command `vllm serve` does."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.logger import configure_logging_from_args

    configure_logging_from_args(arguments)
    ServeSubcommand.cmd(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
