"""What a refusal looks like: an InputError of one paragraph that names what is wrong."""

from collections.abc import Callable

import pytest

from oodcert.errors import InputError


def assert_refused(call: Callable[[], object], *words: str) -> str:
    """call() raises an InputError of one paragraph that contains the words; returns its text."""
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
    return text
