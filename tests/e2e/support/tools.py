"""Where the programs under test and the helpers are, and what is asked for through the environment.

DOCKLINE_E2E_FRONT      what is under test: nginx (with the module), the default, or gateway
DOCKLINE_BINARY         the gateway, target/release/dockline by default
TEST_NGINX_BINARY       the nginx binary, /usr/sbin/nginx by default
DOCKLINE_NGINX_MODULE   the module to load, target/nginx/ngx_http_dockline_module.so by default
TEST_NGINX_STATIC=1     the module is part of the binary: load nothing
DOCKLINE_E2E_STOCK=1    leave the module out and use the usual websocket lines; most tests have to fail then
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DEBIAN_DOCKER = "/usr/bin/docker"


def stock():
    return os.environ.get("DOCKLINE_E2E_STOCK") == "1"


def front():
    """What the suite goes through: `nginx` or `gateway`."""
    chosen = os.environ.get("DOCKLINE_E2E_FRONT", "nginx")
    if chosen not in ("nginx", "gateway"):
        raise RuntimeError(f"DOCKLINE_E2E_FRONT={chosen}: say nginx or gateway")
    return chosen


def gateway_binary():
    path = Path(os.environ.get("DOCKLINE_BINARY") or ROOT / "target/release/dockline").resolve()
    if not path.exists():
        raise RuntimeError(f"{path} is missing: run `cargo build --release -p dockline-gateway`, or set DOCKLINE_BINARY")
    return path


def program(name, hint="run scripts/install-deps"):
    """The path of a program; the sbin folders are searched as well."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
    if not path:
        raise RuntimeError(f"{name} is missing: {hint}")
    return path


def nginx_binary():
    return program(os.environ.get("TEST_NGINX_BINARY", "/usr/sbin/nginx"))


def nginx_version():
    done = subprocess.run([nginx_binary(), "-v"], capture_output=True, text=True)
    return tuple(int(n) for n in re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", done.stderr).groups())


def load_module_line():
    """The first line of nginx.conf, empty for a static build or a stock run."""
    if stock() or os.environ.get("TEST_NGINX_STATIC") == "1":
        return ""
    path = os.environ.get("DOCKLINE_NGINX_MODULE") or ROOT / "target/nginx/ngx_http_dockline_module.so"
    path = Path(path).resolve()
    if not path.exists():
        raise RuntimeError(f"{path} is missing: run `make nginx-module`, or set DOCKLINE_NGINX_MODULE")
    return f"load_module {path};"


def docker_clis():
    """Debian's docker (a must) and the one found first in PATH when it is another version: {id: path}."""
    found = {}
    for path in (DEBIAN_DOCKER, shutil.which("docker")):
        if path and Path(path).exists():
            done = subprocess.run([path, "--version"], capture_output=True, text=True)
            match = re.search(r"version (\d+\.\d+)", done.stdout)
            if match:
                found.setdefault(f"cli{match[1]}", path)
    if not Path(DEBIAN_DOCKER).exists():
        raise RuntimeError(f"{DEBIAN_DOCKER} is missing: run scripts/install-deps")
    return found
