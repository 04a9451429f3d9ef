"""Large and streamed bodies: cp, build, save and load, export and import."""

import hashlib
import io
import itertools
import re
import tarfile

import pytest

_tags = itertools.count(1)


@pytest.fixture
def tag(daemon):
    """A fresh image name; the image is removed afterwards."""
    fresh = f"img{next(_tags)}"
    yield fresh
    for image in daemon.api.images(fresh):
        daemon.api.remove_image(image["Id"], force=True)


@pytest.fixture(scope="module")
def big_image(daemon, bulk):
    """An image with a 20 MB file in it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("bulk")
        entry.size = len(bulk)
        tar.addfile(entry, io.BytesIO(bulk))
    daemon.api.import_image_from_data(archive.getvalue(), repository="big", tag="latest")
    yield "big"
    daemon.api.remove_image("big", force=True)


@pytest.fixture
def context(private_dir, bulk):
    """A build context of 5 MB."""
    directory = private_dir / "context"
    directory.mkdir()
    (directory / "data").write_bytes(bulk[: 5 * 1024 * 1024])
    (directory / "Dockerfile").write_text(
        "FROM bb\nCOPY data /data\nRUN md5sum /data > /sum && echo built\nCMD cat /sum\n"
    )
    return directory


def test_cp_in_and_out(proxied, sleeper, private_dir, bulk, bulk_md5):
    source, back = private_dir / "source", private_dir / "back"
    source.write_bytes(bulk)
    assert proxied("cp", source, f"{sleeper}:/tmp/copy").code == 0
    assert proxied("exec", sleeper, "md5sum", "/tmp/copy").out.split()[0] == bulk_md5
    assert proxied("cp", f"{sleeper}:/tmp/copy", back).code == 0
    assert hashlib.md5(back.read_bytes()).hexdigest().encode() == bulk_md5
    assert proxied("exec", sleeper, "rm", "/tmp/copy").code == 0


def test_cp_as_a_stream(same, sleeper):
    result = same("cp", f"{sleeper}:/bin/busybox", "-")
    assert result.code == 0
    with tarfile.open(fileobj=io.BytesIO(result.out)) as tar:
        assert tar.getnames() == ["busybox"]


def test_cp_from_a_stream(proxied, sleeper):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("streamed")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    assert proxied("cp", "-", f"{sleeper}:/tmp", stdin=archive.getvalue()).code == 0
    assert proxied("exec", sleeper, "cat", "/tmp/streamed").out == b"abc"


def test_cp_into_a_missing_directory_fails_at_once(direct, proxied, sleeper, private_dir, bulk):
    """The daemon responds with 404 while most of the body is still to come: no hang, no success.

    Whether docker then reports the response or its own broken write is a race, also without a proxy.
    """
    source = private_dir / "source"
    source.write_bytes(bulk)
    for docker in (direct, proxied):
        result = docker("cp", source, f"{sleeper}:/no/such/place/file")
        assert result.code == 1 and result.err, result


def test_legacy_build(direct, proxied, context, tag):
    def clean(result):
        out = re.sub(rb"[0-9a-f]{12}", b"ID", result.out)
        return (result.code, re.sub(rb"img\d+", b"TAG", out))

    words = ("build", "--no-cache", "--network", "none", "-t", tag, context)
    results = [clean(docker(*words, env={"DOCKER_BUILDKIT": "0"})) for docker in (direct, proxied)]
    assert results[0] == results[1]
    code, out = results[1]
    assert code == 0 and b"\nbuilt\n" in out
    expected = hashlib.md5((context / "data").read_bytes()).hexdigest().encode()
    assert proxied("run", "--rm", "--network", "none", tag).out.split()[0] == expected


def test_failing_legacy_build(same, private_dir):
    (private_dir / "Dockerfile").write_text("FROM bb\nRUN echo before; exit 5\n")

    def clean(result):
        return (result.code, re.sub(rb"[0-9a-f]{12}", b"ID", result.out), result.err)

    words = ("build", "--no-cache", "--network", "none", private_dir)
    code, out, err = same(*words, env={"DOCKER_BUILDKIT": "0"}, clean=clean)
    assert code == 5 and b"before" in out and b"non-zero code: 5" in err


@pytest.mark.debian_docker  # later ones need a plugin for it
def test_buildkit_build(direct, proxied, context, tag):
    """/session and /grpc: HTTP/2 inside a tunnel, requested with `Upgrade: h2c` and an empty Host."""
    words = ("build", "--no-cache", "--progress", "plain", "--network", "none", "-t", tag, context)
    results = [docker(*words, env={"DOCKER_BUILDKIT": "1"}) for docker in (direct, proxied)]
    assert results[0].code == 0, results[0]
    assert results[1].code == 0, results[1]
    expected = hashlib.md5((context / "data").read_bytes()).hexdigest().encode()
    assert proxied("run", "--rm", "--network", "none", tag).out.split()[0] == expected


def test_save_and_load(same, proxied, daemon, big_image, bulk):
    saved = same("save", big_image, clean=lambda result: (result.code, _files(result.out)))
    assert saved[0] == 0
    whole = proxied("save", big_image)
    daemon.api.remove_image(big_image, force=True)
    loaded = proxied("load", stdin=whole.out)
    assert (loaded.code, loaded.out) == (0, b"Loaded image: big:latest\n"), loaded


def _files(archive):
    """Names and digests of the files in a tar archive."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            found[entry.name] = hashlib.md5(tar.extractfile(entry).read()).hexdigest() if entry.isfile() else entry.type
    return found


def test_export_and_import(same, proxied, daemon, name, tag):
    script = "dd if=/dev/urandom of=/tmp/random bs=1048576 count=5 2>/dev/null; touch /tmp/mark"
    daemon.start_container(name, ["sh", "-c", script])
    daemon.api.wait(name)
    result = same("export", name, clean=lambda result: (result.code, hashlib.md5(result.out).hexdigest()))
    assert result[0] == 0
    exported = proxied("export", name).out
    assert "tmp/random" in _files(exported)
    imported = proxied("import", "-", tag, stdin=exported)
    assert imported.code == 0 and imported.out.startswith(b"sha256:")
    inside = proxied("run", "--rm", "--network", "none", tag, "/bin/busybox", "md5sum", "/tmp/random")
    assert inside.out.split()[0].decode() == _files(exported)["tmp/random"]
