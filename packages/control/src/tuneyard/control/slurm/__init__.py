"""SLURM as the second runner."""
