"""Studies: an experiment is designed once in `experiment.yaml`, expanded into runs, evaluated and reported."""
