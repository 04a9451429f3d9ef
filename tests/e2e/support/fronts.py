"""The proxy under test, as the environment says: see support.tools."""

from . import tools

if tools.front() == "gateway":
    from .gateway import docker_front, fake_front
else:
    from .nginx import docker_front, fake_front

__all__ = ["docker_front", "fake_front"]
