"""A real dockerd of the suite's own, with an image made from busybox."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import docker

from . import tools
from .proc import Service, free_port, poll, tail

IMAGE = "bb"
BUSYBOX = "/bin/busybox"


class Daemon:
    """dockerd on a unix socket, and on a loopback TCP port with client certificates."""

    def __init__(self, directory, identity):
        self.directory = Path(directory)
        self.socket = self.directory / "docker.sock"
        self.log = self.directory / "dockerd.log"
        for attempt in range(3):
            self.tls_port = free_port()
            self.service = Service(self._argv(identity), self.log)
            try:
                self.service.wait_ready(self._answers, seconds=60)
                break
            except AssertionError:
                self.service.stop()
                if attempt == 2 or "address already in use" not in tail(self.log):
                    raise
        self.api = docker.APIClient(base_url=self.url, timeout=60)

    def _argv(self, identity):
        return [
            tools.program("dockerd"),
            "--data-root", self.directory / "data",
            "--exec-root", self.directory / "exec",
            "--pidfile", self.directory / "pid",
            "--config-file", self._empty_config(),
            "--bridge=none", "--iptables=false", "--ip-masq=false",
            "-H", self.url,
            "-H", f"tcp://127.0.0.1:{self.tls_port}",
            "--tlsverify",
            "--tlscacert", identity.ca, "--tlscert", identity.cert, "--tlskey", identity.key,
        ]  # fmt: skip

    def _empty_config(self):
        """Writes a configuration to use in place of the machine's /etc/docker/daemon.json."""
        path = self.directory / "daemon.json"
        path.write_text("{}\n")
        return path

    @property
    def url(self):
        return f"unix://{self.socket}"

    def _answers(self):
        if not self.socket.exists():
            return False
        client = docker.APIClient(base_url=self.url, timeout=10, version="1.41")
        try:
            return client.ping()
        except Exception:  # whatever it is, it is not ready
            return False
        finally:
            client.close()

    def import_image(self):
        """Make the image: busybox, its applets as links, and nothing else."""
        applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name in ("bin", "tmp", "etc"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            tar.add(BUSYBOX, "bin/busybox")
            for applet in applets:
                if applet != "busybox":
                    entry = tarfile.TarInfo(f"bin/{applet}")
                    entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                    tar.addfile(entry)
        self.api.import_image_from_data(
            archive.getvalue(), repository=IMAGE, tag="latest", changes=["ENV PATH=/bin", 'CMD ["sh"]']
        )
        poll(lambda: self.api.images(IMAGE), f"image {IMAGE} is there")

    def start_container(self, name, command, **options):
        """A running container without a network; `options` go to create_container."""
        host = self.api.create_host_config(network_mode="none")
        # detach: otherwise docker-py asks for a stdin that ends with the first client (StdinOnce)
        created = self.api.create_container(
            IMAGE, command, name=name, host_config=host, **{"detach": True, **options}
        )
        self.api.start(created["Id"])
        return created["Id"]

    def create_exec(self, container, command, stdin=True, tty=False):
        """An exec that is ready to be started."""
        return self.api.exec_create(container, command, stdin=stdin, tty=tty)["Id"]

    def remove(self, container):
        try:
            self.api.remove_container(container, force=True)
        except docker.errors.NotFound:
            pass

    def running(self, container):
        return self.api.inspect_container(container)["State"]["Running"]

    def stop(self):
        """Removes the containers, ends the daemon, and deletes its data; the log is kept."""
        try:
            for container in self.api.containers(all=True):
                self.remove(container["Id"])
        finally:
            self.api.close()
            self.service.stop(seconds=30)
            self._unmount()
            for name in ("data", "exec"):
                shutil.rmtree(self.directory / name, ignore_errors=True)

    def _unmount(self):
        """A daemon that had to be killed leaves mounts behind."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            if mount.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "-l", mount], capture_output=True)
