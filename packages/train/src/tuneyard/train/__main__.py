"""The training worker: `python -m tuneyard.train run FOLDER`, and the other verbs of `tuneyard.core.worker`."""

from tuneyard.core.worker import Worker, main
from tuneyard.train.arguments import arguments
from tuneyard.train.check import check
from tuneyard.train.fingerprint import fingerprint
from tuneyard.train.run import run
from tuneyard.train.schema import DISTRIBUTIONS, schema

if __name__ == "__main__":
    main(
        Worker(
            name="train",
            run=run,
            arguments=arguments,
            schema=schema,
            fingerprint=fingerprint,
            check=check,
            distributions=DISTRIBUTIONS,
        )
    )
