import pytest

from tests.support.hub_server import HubServer


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server
