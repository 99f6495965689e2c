"""How bad input is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from emjax import DataError


def refused(call: Callable[[], Any], *words: str) -> str:
    """A `DataError` of one sentence that says every word."""
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text
