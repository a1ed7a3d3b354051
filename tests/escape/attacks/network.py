"""Attacks on the network: reaching what is not granted."""

import ctypes
import socket
import threading
import time

from kernel import UNSPEC, address_call, libc, main, outcome, raw, sockaddr, tcp

MSG_FASTOPEN, MSG_OOB = 0x20000000, 1
AF_UNIX, AF_INET = 1, 2


def connect(*targets):
    """Connect to each [host, port]; where it succeeds, say hello."""
    found = []
    for host, port in targets:
        with tcp(host) as sock:
            result = outcome(sock.connect, (host, port))
            if result == "ok":
                sock.sendall(b"hello")
            found.append(result)
    return found


def connect_mapped(*targets):
    """The same by an IPv6 socket and `::ffff:` addresses."""
    found = []
    for host, port in targets:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.settimeout(15)
            found.append(outcome(sock.connect, ("::ffff:" + host, port)))
    return found


def connect_after(other, target):
    """A pair on one socket: first `other`, then `target`."""
    with tcp() as sock:
        first = outcome(sock.connect, tuple(other))
        return [first, outcome(sock.connect, tuple(target))]


def reuse(sock, denied):
    """Everything that could make a socket of the host's namespace into something else."""
    return {
        "unspec": address_call("connect", sock, UNSPEC),
        "connect": address_call("connect", sock, sockaddr("127.0.0.1", denied)),
        "bind": address_call("bind", sock, sockaddr("127.0.0.1", 0)),
        "listen": raw("listen", sock.fileno(), 8),
    }


def reuse_connected(granted, denied):
    """A socket connected by grant: as it is, and after a shutdown."""
    with tcp() as sock:
        sock.connect(("127.0.0.1", granted))
        found = {"connected": reuse(sock, denied)}
        sock.shutdown(socket.SHUT_RDWR)
        found["shut down"] = reuse(sock, denied)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        own.connect(own.getsockname())
        found["own"] = address_call("connect", own, UNSPEC)
    return found


def reuse_accepted(listen, denied):
    """A socket accepted from the granted listener."""
    with tcp() as server:
        server.bind(("127.0.0.1", listen))
        server.listen(8)
        print("listening", flush=True)
        sock, _ = server.accept()
        with sock:
            found = {"accepted": reuse(sock, denied), "options": {}, "ioctls": {}}
            options = {
                "TCP_FASTOPEN": (6, 23, 1),
                "TCP_FASTOPEN_CONNECT": (6, 30, 1),
                "TCP_ULP": (6, 31, b"tls"),
                "TCP_REPAIR": (6, 19, 1),
                "SO_BINDTODEVICE": (1, 25, b"lo"),
                "SO_REUSEPORT": (1, 15, 1),
                "SO_MARK": (1, 36, 1),
                "SO_ATTACH_FILTER": (1, 26, bytes(16)),
                "IP_FREEBIND": (0, 15, 1),
                "IP_TRANSPARENT": (0, 19, 1),
                "SO_KEEPALIVE": (1, 9, 1),
                "TCP_NODELAY": (6, 1, 1),
            }
            for name, (level, option, value) in options.items():
                found["options"][name] = outcome(sock.setsockopt, level, option, value)
            room = ctypes.create_string_buffer(4096)
            for name, request in {
                "SIOCGIFCONF": 0x8912,
                "SIOCGIFADDR": 0x8915,
                "SIOCGSKNS": 0x894C,
                "SIOCGIFCONF | 1<<32": 0x8912 | 1 << 32,
                "FIONREAD": 0x541B,
            }.items():
                found["ioctls"][name] = raw("ioctl", sock.fileno(), request, ctypes.addressof(room))
            sock.shutdown(socket.SHUT_RDWR)
            found["shut down"] = reuse(sock, denied)
            return found


def fast_open(port, granted):
    """MSG_FASTOPEN connects without connect(2)."""

    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    class Header(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_void_p),
            ("namelen", ctypes.c_uint32),
            ("vectors", ctypes.c_void_p),
            ("count", ctypes.c_size_t),
            ("control", ctypes.c_void_p),
            ("controllen", ctypes.c_size_t),
            ("flags", ctypes.c_int),
            ("sent", ctypes.c_uint32),
        ]

    target = ("127.0.0.1", port)
    name = ctypes.create_string_buffer(sockaddr(*target), 16)
    data = ctypes.create_string_buffer(b"x")
    vector = Vector(ctypes.addressof(data), 1)
    header = Header(ctypes.addressof(name), 16, ctypes.addressof(vector), 1, None, 0, 0, 0)
    found = {}
    with socket.socket() as sock:
        found["sendto"] = outcome(sock.sendto, b"x", MSG_FASTOPEN, target)
        found["sendmsg"] = outcome(sock.sendmsg, [b"x"], [], MSG_FASTOPEN, target)
        at = ctypes.addressof(header)
        found["sendmmsg"] = raw("sendmmsg", sock.fileno(), at, 1, MSG_FASTOPEN)
        found["high bits"] = raw("sendmmsg", sock.fileno(), at, 1, MSG_FASTOPEN | 1 << 40)
        found["option"] = outcome(sock.setsockopt, 6, 30, 1)
    with tcp() as sock:
        sock.connect(("127.0.0.1", granted))
        found["granted sendto"] = outcome(sock.sendto, b"x", 0, ("127.0.0.1", granted))
        found["granted sendmsg"] = outcome(sock.sendmsg, [b"hello"])
        found["out of band"] = outcome(sock.send, b"x", MSG_OOB)
        found["nodelay"] = outcome(sock.setsockopt, 6, 1, 1)
    return found


def listen_while_connecting(slow):
    """Make a socket that is in SYN_SENT into a listener."""
    found = {}
    sock = socket.socket()
    sock.setblocking(False)
    done = threading.Event()

    def connecting():
        found["connect"] = address_call("connect", sock, sockaddr("127.0.0.1", slow))
        done.set()

    thread = threading.Thread(target=connecting, daemon=True)
    thread.start()
    done.wait(1)
    number = sock.fileno()
    found["before"] = [outcome(sock.shutdown, socket.SHUT_RDWR), raw("listen", number, 8)]
    found["name"] = outcome(sock.getsockname) == "ok" and list(sock.getsockname())
    print("listened", flush=True)
    done.wait(14)
    found["after"] = [outcome(sock.shutdown, socket.SHUT_RDWR), raw("listen", number, 8)]
    print("listened again", flush=True)
    time.sleep(1)
    return found


def listen_again(listen):
    """Shut the granted listener down and listen on it again."""
    sock = tcp()
    sock.bind(("127.0.0.1", listen))
    sock.listen(8)
    before = sock.getsockname()
    shut = outcome(sock.shutdown, socket.SHUT_RDWR)
    again = raw("listen", sock.fileno(), 8)
    after = sock.getsockname()
    print("listening", flush=True)
    accepted, _ = sock.accept()
    accepted.sendall(b"from inside")
    accepted.close()
    return {"before": list(before), "shutdown": shut, "again": again, "after": list(after)}


def serve(host, port):
    """Bind, listen and answer one connection, if one comes within two seconds."""
    sock = tcp(host)
    sock.settimeout(2)
    found = {"bind": outcome(sock.bind, (host, port))}
    found["listen"] = outcome(sock.listen, 8)
    found["name"] = list(sock.getsockname())[:2]
    print("listening", flush=True)
    try:
        accepted, _ = sock.accept()
        accepted.sendall(b"from inside")
        accepted.close()
        found["accepted"] = True
    except socket.timeout:
        found["accepted"] = False
    return found


def udp(host, port):
    """A datagram to the host; and one to ourselves, which arrives."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        found["sendto"] = outcome(sock.sendto, b"escaped", (host, port))
        found["connect"] = outcome(sock.connect, (host, port))
        found["send"] = outcome(sock.send, b"escaped")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(5)
        own.bind(("127.0.0.1", 0))
        own.sendto(b"x", own.getsockname())
        found["own"] = own.recv(10).decode()
    return found


def opened(*what):
    return outcome(lambda: socket.socket(*what).close())


def families():
    """Sockets of every family; and those of the three that there are."""
    found = {}
    for family in range(46):
        kinds = [opened(family, kind) for kind in (1, 2, 3, 5)]
        found[str(family)] = kinds
    protocols = {}
    for name, kind, protocol in (
        ("MPTCP", 1, 262),
        ("SCTP", 1, 132),
        ("DCCP", 6, 33),
        ("UDPLITE", 2, 136),
        ("ICMP", 2, 1),
        ("raw ICMP", 3, 1),
        ("TCP", 1, 6),
        ("UDP", 2, 17),
    ):
        protocols[name] = opened(2, kind, protocol)
    return {"families": found, "protocols": protocols}


def abstract(name):
    """The host's abstract socket, and one of our own."""
    with socket.socket(socket.AF_UNIX) as sock:
        hosts = outcome(sock.connect, "\0" + name)
    server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    server.bind("\0" + name)
    server.listen(1)
    return {"host": hosts, "own": outcome(client.connect, "\0" + name)}


def malformed(granted):
    """Requests that no program makes; then one that must still be served."""
    found = {}
    sock = socket.socket()
    good = ctypes.create_string_buffer(sockaddr("127.0.0.1", granted), 16)
    # The last 16 bytes of a page, with nothing mapped behind it.
    libc.mmap.restype = ctypes.c_void_p
    page = libc.mmap(None, ctypes.c_size_t(8192), 3, 0x22, -1, ctypes.c_long(0))
    libc.munmap(ctypes.c_void_p(page + 4096), ctypes.c_size_t(4096))
    ctypes.memmove(page + 4096 - 8, good, 8)
    for call in ("bind", "connect"):
        at, fd = ctypes.addressof(good), sock.fileno()
        found[call] = {
            "null": raw(call, fd, 0, 16),
            "length 0": raw(call, fd, at, 0),
            "length -1": raw(call, fd, at, -1),
            "length 2**31": raw(call, fd, at, 1 << 31),
            "length 129": raw(call, fd, at, 129),
            "fd -1": raw(call, -1, at, 16),
            "fd 4000": raw(call, 4000, at, 16),
            "not a socket": raw(call, 1, at, 16),
            "unmapped end": raw(call, fd, page + 4096 - 8, 16),
            "kernel address": raw(call, fd, -4096, 16),
        }
    found["listen"] = {
        "fd -1": raw("listen", -1, 1),
        "not a socket": raw("listen", 1, 1),
        "backlog -1": raw("listen", sock.fileno(), -1),
    }
    with tcp() as last:
        found["served"] = outcome(last.connect, ("127.0.0.1", granted))
    return found


def timed(granted):
    """How long a granted connect takes, in seconds, while others wait."""
    started = time.monotonic()
    result = connect(["127.0.0.1", granted])[0]
    return {"result": result, "seconds": time.monotonic() - started}


def flood(threads, seconds):
    """Requests from many threads at once, as fast as they are answered."""
    tries, until = [0] * threads, time.monotonic() + seconds

    def request(which):
        while time.monotonic() < until:
            with socket.socket() as sock:
                outcome(sock.connect, ("127.0.0.1", 9))
            tries[which] += 1

    running = [threading.Thread(target=request, args=(which,)) for which in range(threads)]
    for thread in running:
        thread.start()
    print("flooding", flush=True)
    for thread in running:
        thread.join()
    return {"tries": sum(tries)}


def hold(slow):
    """A connect that nobody answers."""
    print("connecting", flush=True)
    return connect(["127.0.0.1", slow])


if __name__ == "__main__":
    main(globals())
