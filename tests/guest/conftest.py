"""What every guest test may ask for: the lab, the cloud in it, its clients."""

import pytest

from lab import Lab


@pytest.fixture(scope="session")
def lab():
    """A started lab of the tests' own, stopped at the end."""
    lab = Lab("guest-tests")
    lab.start()
    yield lab
    lab.stop()
