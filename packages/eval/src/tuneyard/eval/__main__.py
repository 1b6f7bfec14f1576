"""The evaluation worker: `python -m tuneyard.eval run runs/ID`, started by its supervisor; see tuneyard.core.worker."""

from tuneyard.core.worker import Worker, main
from tuneyard.eval import verbs

if __name__ == "__main__":
    main(
        Worker(
            "eval",
            run=verbs.run,
            arguments=verbs.arguments,
            schema=verbs.schema,
            fingerprint=verbs.fingerprint,
            check=verbs.check,
            distributions=(
                "lm-eval",
                "inspect-ai",
                "inspect-evals",
                "torch",
                "transformers",
                "tokenizers",
                "peft",
                "datasets",
            ),
        )
    )
