"""Ways to talk to someone.  The host runs servers that answer "secret"."""
# ruff: noqa: F821  the preamble defines the names, and a program that ends closes its files

from attacks import attack


@attack()
def connects_by_tcp():
    with socket.create_connection(("127.0.0.1", HOST["tcp_port"]), timeout=3) as connection:
        leak(connection.recv(100))


@attack()
def sends_a_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(3)
        udp.sendto(b"hello", ("127.0.0.1", HOST["udp_port"]))
        leak(udp.recv(100))


@attack()
def asks_a_name_server():
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(3)
        udp.connect(("127.0.0.1", HOST["udp_port"]))
        udp.send(query)
        leak(udp.recv(100))


@attack()
def resolves_a_name_of_the_host():
    leak(socket.getaddrinfo("localhost", 80)[0])


@attack()
def connects_to_a_socket_file():
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(HOST["socket_file"])
        leak(unix.recv(100))


@attack()
def connects_to_an_abstract_socket():
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect("\0" + HOST["abstract_socket"])
        leak(unix.recv(100))


@attack()
def sends_from_a_datagram_pair():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    leak(pair[0].sendto(b"hello", "\0" + HOST["abstract_datagrams"]))


@attack()
def connects_by_raw_system_calls():
    descriptor = syscall("socket", 2, 1, 0)
    port = HOST["tcp_port"]
    address = b"\x02\x00" + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    syscall("connect", descriptor, address, 16)
    leak(os.read(descriptor, 100))


@attack()
def listens_for_connections():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        leak(server.getsockname())


@attack()
def opens_a_netlink_socket():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        leak(netlink.fileno())


@attack(without_sandbox="raw sockets need CAP_NET_RAW")
def opens_a_raw_socket():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) as raw:
        leak(raw.fileno())


@attack()
def filters_a_socket_pair():
    pair = socket.socketpair()
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    leak("a socket option was set")
