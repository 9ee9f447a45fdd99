"""Who may attach, what they may bind, and what they are told."""
import socket

from harness import case, run


AS_NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--")


def bind(world, port, *more, user="nobody"):
    return world.app("bind", "--port", port, *more, user=user)


@case
def unlisted_user_is_refused(world):
    world.start()
    result = bind(world, 8080, user="games").result()
    assert result["attach"] and result["errno"] == "EACCES", result
    assert "access" in result["message"], result


@case
def nobody_may_attach_without_access_section(world):
    world.start(access=None)
    for user in ("nobody", "games", "root"):
        result = bind(world, 8080, user=user).result()
        assert result["attach"] and result["errno"] == "EACCES", (user, result)


@case
def port_that_is_not_allowed(world):
    world.start(access=[{"user": "nobody", "bind": ["tcp/80", "udp/5000-5010"]}])
    assert bind(world, 80).result()["bound"][1] == 80
    assert bind(world, 5005, "--udp").result()["bound"][1] == 5005
    for port, more in ((81, ()), (5005, ()), (80, ("--udp",)), (5011, ("--udp",))):
        result = bind(world, port, *more).result()
        assert result["errno"] == "EACCES", (port, more, result)


@case
def ephemeral_port_is_always_allowed(world):
    world.start(access=[{"user": "nobody", "bind": []}])
    assert bind(world, 0).result()["bound"][1] > 0
    assert bind(world, 0, "--udp").result()["bound"][1] > 0


@case
def each_user_has_its_own_ports(world):
    world.start(access=[{"user": "nobody", "bind": ["tcp/80"]}, {"user": "games", "bind": ["tcp/81"]}])
    assert bind(world, 80).result()["bound"][1] == 80
    assert bind(world, 81, user="games").result()["bound"][1] == 81
    assert bind(world, 81).result()["errno"] == "EACCES"
    assert bind(world, 80, user="games").result()["errno"] == "EACCES"


@case
def group_is_enough(world):
    world.start(access=[{"group": "nogroup", "bind": ["tcp/80"]}])
    assert bind(world, 80, user="games").result()["bound"][1] == 80


@case
def port_in_use(world):
    world.start()
    assert bind(world, 8080).result()["bound"][1] == 8080
    assert bind(world, 8080).result()["errno"] == "EADDRINUSE"
    assert bind(world, 8080, "--udp").result()["bound"][1] == 8080, "UDP has ports of its own"
    assert bind(world, 8080, "--udp").result()["errno"] == "EADDRINUSE"


@case
def address_that_is_not_ours(world):
    world.start()
    assert bind(world, 8080, "--host", "192.0.2.99").result()["errno"] == "EADDRNOTAVAIL"


@case
def applications_are_limited(world):
    world.start(access=[{"user": "nobody", "bind": ["tcp/any"], "applications": 2}])
    assert bind(world, 8080).result()["bound"]
    assert bind(world, 8081).result()["bound"]
    result = bind(world, 8082).result()
    assert result["attach"] and result["errno"] == "EAGAIN", result


ATTACH = """
import socket, struct, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.settimeout(10)
sock.connect(sys.argv[1])
sock.send(struct.pack("=IIHHIQ32s", 1, 0x4e525350, int(sys.argv[2]), 0, 0, 0, b"stranger"))
reply = sock.recv(4096)
print(struct.unpack_from("=I", reply, 4)[0], reply[32:192].split(b"\\0")[0].decode())
"""


@case
def wrong_abi_version_is_refused_with_both(world):
    world.start()
    text = run(*AS_NOBODY, "python3", "-c", ATTACH, world.app_socket, 99)
    code, message = text.split(" ", 1)
    assert int(code) == 71, f"EPROTO: {text}"
    assert "99" in message and "1" in message.replace("99", ""), message


@case
def nonsense_on_the_attach_socket_is_survived(world):
    daemon = world.start()
    for size in (0, 1, 3, 55, 57, 4096, 100_000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(world.app_socket))
            try:
                sock.send(bytes(range(256)) * (size // 256) + bytes(size % 256))
            except OSError:
                pass
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(world.app_socket))
        assert bind(world, 8080).result()["bound"], "a silent caller does not block the others"
    assert daemon.alive()


@case
def operators_socket_is_for_the_operator(world):
    world.start()
    cli = world.staging.bin / "postern"
    run(*AS_NOBODY, cli, "--help")
    try:
        run(*AS_NOBODY, cli, "ss", "--socket", world.control_socket)
    except AssertionError:
        return
    raise AssertionError("an application may steer posternd")
