"""The words of `yard study`, a module each."""
