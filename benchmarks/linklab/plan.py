"""The commands that build a network of hosts, as lists of words; nothing is run here.

Each host is a network namespace of its own. Host `i` has the address 10.77.0.(i+1). With `bridge`, one more namespace
holds a switch, and each host has a link to it. With `ring`, each host has a link to the next and to the one before, and
passes on what is for others, the short way around. The namespaces of the machine itself are not touched.
"""

import dataclasses

from benchmarks.linklab.rates import shaping

Command = list[str]
# How each host sends.
KERNEL = (
    # Without the messages by which IPv6 looks for neighbors, only what the hosts send is counted.
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
    # Nothing is lost on these links, so TCP need not look for their rate, and its oldest way of sending fills them.
    "net.ipv4.tcp_congestion_control=reno",
    "net.ipv4.tcp_slow_start_after_idle=0",
    # With more in front of a link, acknowledgements wait there so long that TCP sends everything again.
    "net.ipv4.tcp_limit_output_bytes=65536",
)


def address(host: int) -> str:
    """Return the address of a host.

    >>> address(0)
    '10.77.0.1'
    """
    return f"10.77.0.{host + 1}"


@dataclasses.dataclass(frozen=True)
class Network:
    """Hosts and the links between them.

    Attributes:
      name: prefix of the namespaces.
      hosts: number of hosts.
      topology: `bridge` or `ring`.
    """

    name: str
    hosts: int
    topology: str

    def host(self, number: int) -> str:
        """Return the namespace of a host."""
        return f"{self.name}-h{number}"

    @property
    def hub(self) -> str:
        """The namespace of the switch."""
        return f"{self.name}-hub"

    @property
    def namespaces(self) -> list[str]:
        """All namespaces."""
        return [self.host(i) for i in range(self.hosts)] + ([self.hub] if self.topology == "bridge" else [])

    def links(self) -> list[tuple[str, str, str, str]]:
        """Return namespace and device at one end of each link, and at the other.

        >>> Network("lab", 2, "bridge").links()
        [('lab-h0', 'eth0', 'lab-hub', 'port0'), ('lab-h1', 'eth0', 'lab-hub', 'port1')]
        >>> Network("lab", 3, "ring").links()[-1]
        ('lab-h2', 'right', 'lab-h0', 'left')
        """
        if self.topology == "bridge":
            return [(self.host(i), "eth0", self.hub, f"port{i}") for i in range(self.hosts)]
        last = self.hosts if self.hosts > 2 else self.hosts - 1  # two hosts have one link
        return [(self.host(i), "right", self.host((i + 1) % self.hosts), "left") for i in range(last)]

    def devices(self) -> list[tuple[str, str]]:
        """Return namespace and device of each end of each link."""
        return [end for a, b, c, d in self.links() for end in ((a, b), (c, d))]


def build(network: Network, rate: str) -> list[Command]:
    """Return the commands that create a network whose links have this rate in each direction."""
    commands = [["ip", "netns", "add", name] for name in network.namespaces]
    commands += [["ip", "netns", "exec", name, "sysctl", "-qw", *KERNEL] for name in network.namespaces]
    commands += [["ip", "-n", name, "link", "set", "lo", "up"] for name in network.namespaces]
    for near, device, far, other in network.links():
        ends = ["name", device, "type", "veth", "peer", "name", other, "netns", far]
        commands.append(["ip", "-n", near, "link", "add", *ends])
    commands += _switch(network) if network.topology == "bridge" else _neighbors(network)
    return commands + limit(network, rate)


def limit(network: Network, rate: str) -> list[Command]:
    """Return the commands that give all links a rate, in each direction."""
    return [shaping(name, device, rate) for name, device in network.devices()]


def remove(namespaces: list[str]) -> list[Command]:
    """Return the commands that remove namespaces, and all links that end in them."""
    return [["ip", "netns", "delete", name] for name in namespaces]


def inside(network: Network, host: int) -> Command:
    """Return the words in front of a command that run it on a host, under the name of the host.

    Gloo listens where the name of the host leads: /etc/netns/NAMESPACE/hosts says where.
    """
    name = network.host(host)
    return ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]


def hosts_file(network: Network) -> str:
    """Return what /etc/hosts says on each host.

    >>> print(hosts_file(Network("lab", 2, "bridge")), end="")
    127.0.0.1 localhost
    10.77.0.1 lab-h0
    10.77.0.2 lab-h1
    """
    lines = ["127.0.0.1 localhost", *(f"{address(i)} {network.host(i)}" for i in range(network.hosts))]
    return "\n".join(lines) + "\n"


def _switch(network: Network) -> list[Command]:
    hub = ["ip", "-n", network.hub, "link"]
    commands = [[*hub, "add", "switch", "type", "bridge"], [*hub, "set", "switch", "up"]]
    for i in range(network.hosts):
        host = ["ip", "-n", network.host(i)]
        commands += [[*hub, "set", f"port{i}", "master", "switch"], [*hub, "set", f"port{i}", "up"]]
        commands += [[*host, "address", "add", f"{address(i)}/24", "dev", "eth0"]]
        commands += [[*host, "link", "set", "eth0", "up"]]
    return commands


def _neighbors(network: Network) -> list[Command]:
    commands = [["ip", "-n", name, "link", "set", device, "up"] for name, device in network.devices()]
    for i in range(network.hosts):
        host = network.host(i)
        commands.append(["ip", "-n", host, "address", "add", f"{address(i)}/32", "dev", "lo"])
        commands.append(["ip", "netns", "exec", host, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
        commands += [_route(network, i, other) for other in range(network.hosts) if other != i]
    return commands


def _route(network: Network, host: int, other: int) -> Command:
    """The way from one host to another: by the neighbor that is on the short way; to the right if both are."""
    ahead = (other - host) % network.hosts
    right = ahead <= network.hosts // 2 and not (network.hosts == 2 and host == 1)
    neighbor = (host + 1 if right else host - 1) % network.hosts
    way = ["dev", "right" if right else "left", "src", address(host)]
    via = [] if neighbor == other else ["via", address(neighbor), "onlink"]
    return ["ip", "-n", network.host(host), "route", "add", f"{address(other)}/32", *via, *way]
