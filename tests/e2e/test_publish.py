"""`dockline publish` in network namespaces, without Docker: host, client and containers joined by veth pairs."""

import errno
import os
import signal

import pytest

from support import tools
from support.lab import BRIDGE, CLIENT, GATEWAY, GATEWAY6, OUTSIDE, OUTSIDE6, TCP, UDP, Lab, Publications, ask, serve
from support.ports import PATIENCE, make_socket
from support.proc import poll

WEB, OTHER, WEB6 = "172.31.250.2", "172.31.250.3", "fd55::2"
KINDS = {"tcp": TCP, "udp": UDP}
#: The options for each path that packets from outside can take.
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
    """Checks that the rules after a test are those from before."""
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
def test_a_published_port_is_reached_from_everywhere(lab, dockline, way, proto):
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
    # The replies have to come back through the host.
    assert set(seen.values()) == {GATEWAY}
    [port] = dockline.ports()
    # Packets that the kernel forwards do not reach the process.
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
    assert refused.returncode == 1 and "does not translate between IPv4 and IPv6" in refused.stderr


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
    assert f"`dockline` (pid {service.pid}) uses it" in refused.stderr


def test_a_range(lab, dockline):
    for number in (8101, 8102):
        serve(lab.web, TCP, number)
    dockline.start("--to", f"{WEB}:8101", *WAYS["nft"], "0.0.0.0:2101-2102")
    for number in (2101, 2102):
        assert ask(lab.client, TCP, (OUTSIDE, number)) == GATEWAY


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_a_signal_removes_the_rules(lab, dockline, number):
    service = dockline.start("--to", f"{WEB}:8000", *WAYS["nft"], "0.0.0.0:2345")
    service.send_signal(number)
    assert service.process.wait(10) == 0


def test_open_connections_have_time_to_end(lab, dockline):
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


def test_a_publication_may_end_after_a_time(lab, dockline):
    service = dockline.start("--to", f"{WEB}:8000", "--for", "2s", "2345")
    assert dockline.ports()[0]["ends_in"] in (0, 1, 2)
    assert service.process.wait(10) == 0


@pytest.mark.parametrize("way", ["nft", "iptables"])
def test_rules_are_restored_after_another_program_has_flushed_them(lab, dockline, way):
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
def test_rules_of_a_killed_process_are_removed(lab, dockline, way):
    before = lab.rules()
    service = dockline.start("--to", f"{WEB}:8000", *WAYS[way], "0.0.0.0:2345")
    other = dockline.start("--to", f"{WEB}:8000", *WAYS[way], "0.0.0.0:2346")
    service.send_signal(signal.SIGKILL)
    service.process.wait(10)
    assert "2345" in lab.rules()
    dockline.start("--to", f"{WEB}:8000", "2347")
    assert "2345" not in lab.rules()
    # Those of running processes stay.
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


class DockerUser:
    """The chains of dockerd in `filter`, with the rules of a test in the operator's chain."""

    CHAINS = ("DOCKER-USER", "DOCKER-FORWARD")

    def __init__(self, lab, tool):
        self.lab, self.tool = lab, tool
        for chain in self.CHAINS:
            self(f"-N {chain}")
        self.fill()

    def __call__(self, words):
        return self.lab.run(self.tool, *words.split()).stdout

    def fill(self):
        self(f"-A DOCKER-FORWARD -o {BRIDGE} -m conntrack --ctstate NEW -j DROP")
        # An operator may have written rules between Docker's.
        for rule in ("-j DOCKER-FORWARD", "-p tcp --dport 7 -j ACCEPT", "-j DOCKER-USER"):
            self(f"-I FORWARD {rule}")

    def empty(self):
        for rule in ("-j DOCKER-FORWARD", "-p tcp --dport 7 -j ACCEPT", "-j DOCKER-USER"):
            self(f"-D FORWARD {rule}")
        for chain in self.CHAINS:
            self(f"-F {chain}")

    def remove(self):
        self.empty()
        for chain in self.CHAINS:
            self(f"-X {chain}")

    def order(self):
        """Returns the jumps of FORWARD: U to the operator's chain, F to that of Docker, K to that of a publication."""
        targets = (line.split()[-1] for line in self("-S FORWARD").splitlines())
        return "".join(target[3 if target.startswith("DOCKLINE") else 7] for target in targets if target.startswith("DOCK"))

    def counters(self):
        return [f"{self.tool}-save", "-c", "-t", "filter"]


@pytest.fixture(params=["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"])
def docker_user(request, lab):
    docker_user = DockerUser(lab, request.param)
    before = lab.rules(docker_user.tool)
    try:
        yield docker_user
        assert lab.rules(docker_user.tool) == before
    finally:
        docker_user.remove()


@pytest.fixture
def through(docker_user, dockline, tmp_path):
    """Publishes by that backend of iptables. Returns the address for a client and for a container, and the one that is seen."""
    family, backend = docker_user.tool.split("-")
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("iptables", "ip6tables"):
        (path / tool).symlink_to(tools.program(f"{tool}-{backend}"))
    dockline.env["PATH"] = f"{path}:{dockline.env['PATH']}"

    def publish(*words):
        if family == "iptables":
            dockline.start("--to", f"{WEB}:8000", "--dnat", *words, "0.0.0.0:2345")
            return OUTSIDE, GATEWAY, CLIENT
        dockline.start("--to", f"[{WEB6}]:8000", "--dnat", *words, "[::]:2345")
        return OUTSIDE6, GATEWAY6, "fd77::2"

    yield publish
    docker_user.empty()
    docker_user.fill()


@pytest.mark.parametrize("proto", KINDS)
@pytest.mark.parametrize("way", ["nft", "iptables"])
def test_a_drop_rule_of_the_operator_is_effective(lab, docker_user, through, way, proto):
    if way == "nft":
        # Rules of nftables cannot accept what Docker drops; only the drop of the operator matters here.
        docker_user("-F DOCKER-FORWARD")
    outside, gateway, _ = through("--proto", proto, "--firewall", way)
    assert ask(lab.client, KINDS[proto], (outside, 2345)) == gateway
    docker_user("-A DOCKER-USER -j DROP")
    assert lab.is_dropped(lab.client, KINDS[proto], (outside, 2345), docker_user.counters())


def test_the_operator_drops_some_and_leaves_others_to_docker(lab, docker_user, through):
    docker_user("-A DOCKER-USER -p udp -j DROP")
    docker_user("-A DOCKER-USER -j RETURN")
    # iptables is chosen automatically, because Docker's chain is there.
    outside, gateway, client = through("--proto", "tcp,udp")
    docker_user(f"-I DOCKER-USER -s {client} -j DROP")
    assert lab.is_dropped(lab.client, TCP, (outside, 2345), docker_user.counters())
    assert ask(lab.other, TCP, (outside, 2345)) == gateway
    docker_user(f"-R DOCKER-USER 1 -s {client} -j RETURN")
    assert ask(lab.client, TCP, (outside, 2345)) == gateway


@pytest.mark.parametrize("docker_user", ["iptables-nft", "ip6tables-nft"], indirect=True)
def test_rules_apply_to_a_flow_that_is_older_than_they_are(lab, docker_user, through):
    outside, client = (OUTSIDE, CLIENT) if docker_user.tool == "iptables-nft" else (OUTSIDE6, "fd77::2")
    with make_socket(lab.client, UDP, (outside, 2345), connect=True) as early:
        # Now the kernel tracks the flow and its destination.
        early.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            early.recv(100)
        docker_user(f"-A DOCKER-USER -s {client} -j DROP")
        through("--proto", "udp")
        early.send(b"now?")
        lab.wait_counted(docker_user.counters())
        early.setblocking(False)
        with pytest.raises(BlockingIOError):
            early.recv(100)


@pytest.mark.parametrize("docker_user", ["iptables-nft", "ip6tables-legacy"], indirect=True)
def test_rules_of_the_operator_stay_in_front(lab, docker_user, through):
    outside, gateway, client = through("--firewall", "iptables")
    assert docker_user.order() == "UKF"
    # dockerd puts its rules first when it starts, and an operator may insert rules anywhere at any time.
    for words in ("-D FORWARD -j DOCKER-FORWARD", "-I FORWARD 2 -j DOCKER-FORWARD"):
        docker_user(words)
    assert docker_user.order() == "UFK"
    poll(lambda: docker_user.order() == "UKF", docker_user.order)
    assert ask(lab.client, TCP, (outside, 2345)) == gateway
    for words in ("-D FORWARD -j DOCKER-USER", "-I FORWARD 2 -j DOCKER-USER"):
        docker_user(words)
    assert docker_user.order() == "KUF"
    poll(lambda: docker_user.order() == "UKF", docker_user.order)
    docker_user(f"-A DOCKER-USER -s {client} -j DROP")
    assert lab.is_dropped(lab.client, TCP, (outside, 2345), docker_user.counters())


@pytest.mark.parametrize("way", ["nft", "iptables"])
def test_rules_of_the_operator_are_effective_without_docker(lab, dockline, way):
    service = dockline.start("--to", f"{WEB}:8000", *WAYS[way], "0.0.0.0:2345")
    lab.run("iptables", "-A", "FORWARD", "-s", CLIENT, "-j", "DROP")
    try:
        if way == "iptables":
            last = f"-A FORWARD -m comment --comment dockline-{dockline.ports()[0]['id']}"
            poll(lambda: last in lab.run("iptables", "-S", "FORWARD").stdout.splitlines()[-1].replace('"', ""), "it is behind that rule")
        assert lab.is_dropped(lab.client, TCP, (OUTSIDE, 2345), ["iptables-save", "-c", "-t", "filter"])
    finally:
        service.stop()
        lab.run("iptables", "-D", "FORWARD", "-s", CLIENT, "-j", "DROP")


@pytest.mark.parametrize("priority", ["filter - 5", "filter + 5"])
@pytest.mark.parametrize("way", ["nft", "iptables"])
def test_a_drop_rule_of_nftables_is_effective_at_any_priority(lab, dockline, way, priority):
    chain = f"chain guard {{ type filter hook forward priority {priority}; ip saddr {CLIENT} counter drop; }}"
    lab.run("nft", f"table ip operator {{\n{chain}\n}}")
    try:
        service = dockline.start("--to", f"{WEB}:8000", *WAYS[way], "0.0.0.0:2345")
        assert ask(lab.other, TCP, (OUTSIDE, 2345)) == GATEWAY
        assert lab.is_dropped(lab.client, TCP, (OUTSIDE, 2345), ["nft", "list", "table", "ip", "operator"])
        service.stop()
    finally:
        lab.run("nft", "delete", "table", "ip", "operator")


def test_a_rule_that_blocks_the_publication_is_reported(lab, dockline):
    lab.run("iptables", "-A", "FORWARD", "-j", "DROP")
    try:
        service = dockline.start("--to", f"{WEB}:8000", *WAYS["iptables"], "0.0.0.0:2345")
        assert "`-A FORWARD -j DROP` precedes the rules of this publication" in service.log_path.read_text()
        service.stop()
    finally:
        lab.run("iptables", "-D", "FORWARD", "-j", "DROP")


def test_without_forwarding_the_error_says_what_to_do(lab, dockline):
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
    assert gone.returncode == 1 and "there is no publication `2345`" in gone.stderr


def test_detach_reports_errors(lab, dockline):
    with make_socket(lab.host, TCP, ("127.0.0.1", 2345)):
        refused = dockline.command("publish", "--detach", "--to", WEB, "127.0.0.1:2345:80", check=False)
    assert refused.returncode == 1
    assert f"(pid {os.getpid()}) uses it" in refused.stderr and not refused.stdout


def test_proxy_protocol(lab, dockline):
    with make_socket(lab.web, TCP, ("0.0.0.0", 8201)) as server:
        dockline.start("--to", f"{WEB}:8201", "--proxy-protocol=v1", "0.0.0.0:2345")
        with make_socket(lab.client, TCP, (OUTSIDE, 2345), connect=True) as client:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(PATIENCE)
                line = connection.makefile("rb").readline()
            assert line == f"PROXY TCP4 {CLIENT} {OUTSIDE} {client.getsockname()[1]} 2345\r\n".encode()
