"""`dockline publish` in network namespaces, without Docker: host, client and containers joined by veth pairs."""

import errno
import os
import signal

import pytest

from support.lab import CLIENT, GATEWAY, GATEWAY6, OUTSIDE, OUTSIDE6, TCP, UDP, Lab, Publications, ask, serve
from support.ports import PATIENCE, make_socket
from support.proc import poll

WEB, OTHER, WEB6 = "172.31.250.2", "172.31.250.3", "fd55::2"
KINDS = {"tcp": TCP, "udp": UDP}
#: The options for each way that packets from outside can take.
WAYS = {"relay": [], "nft": ["--dnat", "--firewall", "nft"], "iptables": ["--dnat", "--firewall", "iptables"]}


@pytest.fixture(scope="module")
def lab():
    lab = Lab(f"dl{os.getpid()}")
    try:
        lab.web, lab.other = lab.add_container("web", WEB, WEB6), lab.add_container("other", OTHER, "fd55::3")
        for kind in KINDS.values():
            serve(lab.web, kind, 8000)
            serve(lab.web, kind, 8000, WEB6)
        add_rules_of_others(lab)
        yield lab
    finally:
        lab.close()


def add_rules_of_others(lab):
    lab.run("nft", "add", "table", "ip", "theirs")
    for tool in ("iptables", "ip6tables"):
        for table, chain in (("nat", "PREROUTING"), ("nat", "POSTROUTING"), ("filter", "FORWARD")):
            lab.run(tool, "-t", table, "-A", chain, "-p", "tcp", "--dport", "9", "-j", "ACCEPT")


@pytest.fixture
def dockline(lab, tmp_path):
    """Whatever a test publishes, the rules are as before afterwards."""
    before = lab.rules()
    publications = Publications(lab, tmp_path)
    try:
        yield publications
    finally:
        publications.stop()
    assert lab.rules() == before
    assert not list((tmp_path / "state").glob("*"))


@pytest.mark.parametrize("proto", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_everybody_reaches_it(lab, dockline, way, proto):
    dockline.start("--to", f"{WEB}:8000", "--proto", proto, *WAYS[way], "0.0.0.0:2345")
    kind = KINDS[proto]
    seen = {
        "outside": ask(lab.client, kind, (OUTSIDE, 2345)),
        "loopback": ask(lab.host, kind, ("127.0.0.1", 2345)),
        "own address": ask(lab.host, kind, (OUTSIDE, 2345)),
        "the bridge's": ask(lab.host, kind, (GATEWAY, 2345)),
        "another container": ask(lab.other, kind, (GATEWAY, 2345)),
        "another container, far address": ask(lab.other, kind, (OUTSIDE, 2345)),
        "itself": ask(lab.web, kind, (GATEWAY, 2345)),
    }
    # The answers have to come back through the host.
    assert set(seen.values()) == {GATEWAY}
    [port] = dockline.ports()
    # What the kernel forwards does not come by.
    assert port["connections"] == (7 if way == "relay" else 4)
    assert port["dnat"] == (way != "relay")


@pytest.mark.parametrize("proto", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_ipv6(lab, dockline, way, proto):
    dockline.start("--to", f"[{WEB6}]:8000", "--proto", proto, *WAYS[way], "[::]:2345")
    for namespace, address in [
        (lab.client, OUTSIDE6),
        (lab.host, "::1"),
        (lab.host, OUTSIDE6),
        (lab.other, GATEWAY6),
        (lab.other, OUTSIDE6),
        (lab.web, GATEWAY6),
    ]:
        assert ask(namespace, KINDS[proto], (address, 2345)) == GATEWAY6


def test_from_one_family_to_the_other(lab, dockline):
    dockline.start("--to", f"[{WEB6}]:8000", "0.0.0.0:2345")
    assert ask(lab.client, TCP, (OUTSIDE, 2345)) == GATEWAY6
    refused = dockline.command("publish", "--dnat", "--to", f"[{WEB6}]:8000", "0.0.0.0:2346", check=False)
    assert refused.returncode == 1 and "of the other family" in refused.stderr


def test_loopback_only_unless_an_address_is_named(lab, dockline):
    dockline.start("--to", f"{WEB}:8000", "2345")
    assert ask(lab.host, TCP, ("127.0.0.1", 2345)) == GATEWAY
    for namespace in (lab.client, lab.host):
        with pytest.raises(ConnectionRefusedError):
            ask(namespace, TCP, (OUTSIDE, 2345))


@pytest.mark.parametrize("way", ["nft", "iptables"])
def test_one_address_only(lab, dockline, way):
    dockline.start("--to", f"{WEB}:8000", *WAYS[way], f"{OUTSIDE}:2345")
    assert ask(lab.client, TCP, (OUTSIDE, 2345)) == GATEWAY
    assert ask(lab.other, TCP, (OUTSIDE, 2345)) == GATEWAY
    with pytest.raises(ConnectionRefusedError):
        ask(lab.other, TCP, (GATEWAY, 2345))


@pytest.mark.parametrize("proto", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_the_port_is_reserved(lab, dockline, way, proto):
    service = dockline.start("--to", f"{WEB}:8000", "--proto", proto, *WAYS[way], "0.0.0.0:2345")
    with pytest.raises(OSError) as caught:
        make_socket(lab.host, KINDS[proto], ("0.0.0.0", 2345))
    assert caught.value.errno == errno.EADDRINUSE
    refused = dockline.command("publish", "--to", WEB, "--proto", proto, "127.0.0.1:2345:8000", check=False)
    assert refused.returncode == 1
    assert f"`dockline` (pid {service.pid}) has it" in refused.stderr


def test_a_range(lab, dockline):
    for number in (8101, 8102):
        serve(lab.web, TCP, number)
    dockline.start("--to", f"{WEB}:8101", *WAYS["nft"], "0.0.0.0:2101-2102")
    for number in (2101, 2102):
        assert ask(lab.client, TCP, (OUTSIDE, number)) == GATEWAY


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_signals_end_it_cleanly(lab, dockline, number):
    service = dockline.start("--to", f"{WEB}:8000", *WAYS["nft"], "0.0.0.0:2345")
    service.send_signal(number)
    assert service.process.wait(10) == 0


def test_open_connections_get_some_time(lab, dockline):
    service = dockline.start("--to", f"{WEB}:8000", "2345")
    with make_socket(lab.host, TCP, ("127.0.0.1", 2345), connect=True) as client:
        assert client.recv(100) == f"{GATEWAY} ".encode()
        service.send_signal(signal.SIGTERM)
        poll(lambda: refuses(lab, ("127.0.0.1", 2345)), "the port is closed")
        client.sendall(b"still here")
        assert client.recv(100) == b"still here"
    assert service.process.wait(10) == 0


def refuses(lab, address):
    try:
        make_socket(lab.host, TCP, address, connect=True).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("way", WAYS)
def test_datagrams_end_with_the_publication(lab, dockline, way):
    service = dockline.start("--to", f"{WEB}:8000", "--proto", "udp", *WAYS[way], "0.0.0.0:2345")
    with make_socket(lab.client, UDP, (OUTSIDE, 2345), connect=True) as client:
        client.send(b"hello")
        assert client.recv(100).endswith(b"hello")
        service.stop()
        client.send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        flows = lab.run("cat", "/proc/net/nf_conntrack").stdout.splitlines()
        assert not [flow for flow in flows if f"sport={client.getsockname()[1]} " in flow and WEB in flow]


def test_for_a_time(lab, dockline):
    service = dockline.start("--to", f"{WEB}:8000", "--for", "2s", "2345")
    assert dockline.ports()[0]["ends_in"] in (0, 1, 2)
    assert service.process.wait(10) == 0


@pytest.mark.parametrize("way", ["nft", "iptables"])
def test_rules_come_back_after_somebody_elses_reload(lab, dockline, way):
    dockline.start("--to", f"{WEB}:8000", *WAYS[way], "0.0.0.0:2345")
    lab.run("nft", "flush", "ruleset")
    try:
        poll(lambda: "2345" in lab.rules(), "the rules are back")
        poll(lambda: ask(lab.client, TCP, (OUTSIDE, 2345)) == GATEWAY, "the port is reached")
    finally:
        dockline.stop()
        lab.run("nft", "flush", "ruleset")
        add_rules_of_others(lab)


@pytest.mark.parametrize("way", ["nft", "iptables"])
def test_left_overs_of_a_killed_process(lab, dockline, way):
    before = lab.rules()
    service = dockline.start("--to", f"{WEB}:8000", *WAYS[way], "0.0.0.0:2345")
    other = dockline.start("--to", f"{WEB}:8000", *WAYS[way], "0.0.0.0:2346")
    service.send_signal(signal.SIGKILL)
    service.process.wait(10)
    assert "2345" in lab.rules()
    dockline.start("--to", f"{WEB}:8000", "2347")
    assert "2345" not in lab.rules()
    # Those of the living stay.
    assert ask(lab.client, TCP, (OUTSIDE, 2346)) == GATEWAY
    assert len(dockline.ports()) == 3  # 2346, and 2347 on both loopbacks
    other.stop()
    assert lab.rules() == before


@pytest.mark.parametrize("way", ["nft", "iptables"])
def test_dry_run_prints_what_would_be_done(lab, dockline, way):
    words = ["--to", f"{WEB}:8000", *WAYS[way], "0.0.0.0:2345"]
    before = lab.rules()
    script = dockline.command("publish", "--dry-run", *words).stdout
    assert lab.rules() == before
    publish, end = script.split("# to end\n")
    service = dockline.start(*words)
    [port] = dockline.ports()
    real = lab.rules().replace(port["id"], "00000000")
    service.stop()
    lab.run("sh", "-ec", publish)
    assert lab.rules() == real
    lab.run("sh", "-ec", end)
    assert lab.rules() == before


def test_without_forwarding_it_says_what_to_do(lab, dockline):
    lab.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    try:
        refused = dockline.command("publish", "--to", f"{WEB}:8000", "--dnat", "0.0.0.0:2345", check=False)
    finally:
        lab.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    assert refused.returncode == 1
    assert "sysctl -w net.ipv4.ip_forward=1" in refused.stderr


def test_detach_ports_unpublish(lab, dockline):
    first = dockline.command("publish", "--detach", "--for", "1h", "--to", f"{WEB}:8000", "2345").stdout.strip()
    second = dockline.command("publish", "-d", "--to", f"{WEB}:8000", "--proto", "udp", "127.0.0.1:2345").stdout.strip()
    try:
        with make_socket(lab.host, TCP, ("127.0.0.1", 2345), connect=True) as client:
            client.sendall(b"x" * 1000)
            length = len(GATEWAY) + 1 + 1000
            while length:
                length -= len(client.recv(length))
            ask(lab.host, UDP, ("127.0.0.1", 2345), b"y" * 100)
            listed = {(port["id"], port["proto"], port["listen"]): port for port in dockline.ports()}
            port = listed[first, "tcp", "127.0.0.1:2345"]
            [connected] = port["clients"]
            assert connected["peer"] == "%s:%d" % client.getsockname()
            assert (connected["bytes_up"], connected["bytes_down"]) == (1000, len(GATEWAY) + 1001)
            assert 3500 < port["ends_in"] <= 3600
            datagrams = listed[second, "udp", "127.0.0.1:2345"]
            assert (datagrams["bytes_up"], datagrams["bytes_down"]) == (100, len(GATEWAY) + 101)
            table = dockline.command("ports").stdout
            assert "%s:%d" % client.getsockname() in table and "in 59m" in table
    finally:
        dockline.command("unpublish", first[:6], second)
    assert dockline.ports() == []
    assert refuses(lab, ("127.0.0.1", 2345))
    gone = dockline.command("unpublish", "2345", check=False)
    assert gone.returncode == 1 and "nothing is published as `2345`" in gone.stderr


def test_detach_tells_why_not(lab, dockline):
    with make_socket(lab.host, TCP, ("127.0.0.1", 2345)):
        refused = dockline.command("publish", "--detach", "--to", WEB, "127.0.0.1:2345:80", check=False)
    assert refused.returncode == 1
    assert f"(pid {os.getpid()}) has it" in refused.stderr and not refused.stdout


def test_proxy_protocol(lab, dockline):
    with make_socket(lab.web, TCP, ("0.0.0.0", 8201)) as server:
        dockline.start("--to", f"{WEB}:8201", "--proxy-protocol=v1", "0.0.0.0:2345")
        with make_socket(lab.client, TCP, (OUTSIDE, 2345), connect=True) as client:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(PATIENCE)
                line = connection.makefile("rb").readline()
            assert line == f"PROXY TCP4 {CLIENT} {OUTSIDE} {client.getsockname()[1]} 2345\r\n".encode()
