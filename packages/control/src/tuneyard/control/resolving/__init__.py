"""What is asked for, resolved: from a spec as it was written to one with nothing left to decide."""
