"""The serving worker: `python -m tuneyard.serve run runs/ID`, started by its supervisor; see tuneyard.core.worker."""

from tuneyard.core.worker import Worker, main
from tuneyard.serve import verbs

WORKER = Worker(
    "serve",
    run=verbs.run,
    arguments=verbs.arguments,
    schema=verbs.schema,
    fingerprint=verbs.fingerprint,
    check=verbs.check,
    distributions=verbs.DISTRIBUTIONS,
)

if __name__ == "__main__":
    main(WORKER)
