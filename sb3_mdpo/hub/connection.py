"""The Hub's errors as Python's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of the HTTP library it uses, httpx or another


@contextmanager
def connection_errors() -> Iterator[None]:
    """
    Have every error of the network be an ``OSError``: what the Hub answers is one already, what comes
    instead of an answer is an error of the HTTP library.

    :raises ConnectionError: where the Hub cannot be reached
    """
    try:
        yield
    except HTTPError as error:
        if isinstance(error, OSError):
            raise
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached: {error}") from error
