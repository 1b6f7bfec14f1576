"""The contracts every part of tuneyard shares: specs, events, results, the run folder and the worker harness.

Import the module you need (`from tuneyard.core.specs import TrainSpec`); this file imports nothing, so that a
command which only reads files never pays for pydantic.
"""
