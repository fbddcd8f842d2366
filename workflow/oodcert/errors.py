"""The one error a user is meant to read."""


class InputError(ValueError):
    """Input that cannot be used: says which file or key, which value, and what to do about it."""
