"""The launchers' places, for tests with the real Ray."""

from ...launch.conftest import bank, port_blocks, ports, slime, suite, warm_python, work  # noqa: F401
