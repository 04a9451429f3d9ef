"""The files in examples/ that describe services: what is in them fits together."""

import subprocess
import tomllib

import pytest
import yaml

from support import tools

EXAMPLES = tools.ROOT / "examples"
VERSION = tomllib.loads((tools.ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


@pytest.fixture(params=["compose.yaml", "stack.yaml"])
def described(request):
    return yaml.safe_load((EXAMPLES / request.param).read_text())


def mounts(service):
    """Returns {target: (source, whether it is read only)}, of the short and the long form."""
    found = {}
    for mount in service.get("volumes", []):
        if isinstance(mount, str):
            source, target, *options = mount.split(":")
            found[target] = source, options == ["ro"]
        else:
            found[mount["target"]] = mount["source"], mount.get("read_only", False)
    return found


@pytest.mark.parametrize("name", ["dockline.toml", "dockline-swarm.toml"])
def test_the_configuration_is_one(name):
    argv = [tools.gateway_binary(), "check", "--config", EXAMPLES / name]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_router_has_its_image_its_configuration_and_the_daemon(described):
    router = described["services"]["router"]
    assert router["image"] == f"dockline:{VERSION}"
    assert mounts(router)["/var/run/docker.sock"] == ("/var/run/docker.sock", True)
    files = {target: source for target, (source, _) in mounts(router).items()}
    for config in router.get("configs", []):
        files[config["target"]] = described["configs"][config["source"]]["file"]
    assert (EXAMPLES / files["/etc/dockline/dockline.toml"]).exists()


def test_each_application_has_a_name_and_shares_a_network_with_the_router(described):
    services = described["services"]
    names = set()
    for title, service in services.items():
        assert set(service["networks"]) <= set(described["networks"])
        if title != "router":
            assert set(service["networks"]) & set(services["router"]["networks"])
            labels = {**service.get("labels", {}), **service.get("deploy", {}).get("labels", {})}
            names.add(service.get("environment", {}).get("DPROXY_FORWARD_NAME") or labels["dockline.name"])
    assert names == {"shop", "docs"}


def test_the_router_of_a_swarm_is_on_a_manager_and_the_services_say_their_ports():
    services = yaml.safe_load((EXAMPLES / "stack.yaml").read_text())["services"]
    router = services.pop("router")
    assert router["deploy"]["placement"]["constraints"] == ["node.role == manager"]
    assert all(service["deploy"]["labels"]["dockline.port"] for service in services.values())
