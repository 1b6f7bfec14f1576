"""The evaluation worker: `python -m tuneyard.eval run runs/ID`, started by its supervisor; see tuneyard.core.worker."""

from tuneyard.core.worker import Worker, main
from tuneyard.eval import verbs

WORKER = Worker(
    "eval",
    run=verbs.run,
    arguments=verbs.arguments,
    schema=verbs.schema,
    fingerprint=verbs.fingerprint,
    check=verbs.check,
    distributions=verbs.DISTRIBUTIONS,
)

if __name__ == "__main__":
    main(WORKER)
