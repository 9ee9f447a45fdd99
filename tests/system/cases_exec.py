"""Sockets that a program inherits over exec: inetd's way, systemd's, a server that replaces itself."""
import os
import signal
import socket

from cases_programs import PYTHON, make_site, nginx_config, python_program
from harness import POSTERN, case, receive_exactly, run, spawn, wait_until
from pattern import Pattern

SOCKET_OF = """
        import socket
        def socket_of(number):
            return socket.socket(fileno=number)
"""


def sockets(world):
    return sum(row["state"] != "TIME-WAIT" for row in world.show("ss"))


def program_pair(world, parent, child):
    """A parent and the program that it executes; the child's path is the parent's first argument."""
    to = python_program(world, "child", child)
    return python_program(world, "parent", parent), to


@case(needs=("socat",))
def socat_executes_a_program_on_its_socket(world):
    """inetd: the connection is standard input and output of a program that reads and writes files."""
    world.start()
    world.program("socat", "TCP-LISTEN:7000,fork,reuseaddr", "EXEC:cat,nofork")
    world.wait_listening(7000)
    listening = sockets(world)
    for size in (1, 1000, 1_000_000):
        with world.connect(7000) as conn:
            data = Pattern(size).bytes(size)
            conn.sendall(data[:size // 2])
            conn.sendall(data[size // 2:])
            assert receive_exactly(conn, size) == data
            conn.shutdown(socket.SHUT_WR)
            assert conn.recv(1) == b"", "the end of cat is the end of the connection"
    wait_until(lambda: sockets(world) == listening, 10, "only the listener is left")


@case
def subprocess_is_given_a_connection(world):
    """Python's subprocess: as standard input, by pass_fds, and not at all where close-on-exec is set."""
    world.start()
    parent, child = program_pair(world, """
        import socket, subprocess, sys

        listener = socket.create_server(("0.0.0.0", 7000))
        print("ready", flush=True)
        while True:
            peer, _ = listener.accept()
            how = peer.recv(1)
            if how == b"0":
                done = subprocess.run([sys.executable, sys.argv[1], "0"], stdin=peer)
            elif how == b"p":
                done = subprocess.run([sys.executable, sys.argv[1], str(peer.fileno())],
                                      pass_fds=[peer.fileno()])
            elif how == b"e":                   # an environment of its own
                done = subprocess.run([sys.executable, sys.argv[1], "0"], stdin=peer, env={})
            elif how == b"n":                   # the program is not there
                try:
                    subprocess.run(["/no/such/program"], stdin=peer)
                except FileNotFoundError:
                    peer.sendall(b"no such program")
            else:
                done = subprocess.run([sys.executable, sys.argv[1], str(peer.fileno())],
                                      close_fds=False)
                peer.sendall(b"child ended with %d" % done.returncode)
            peer.close()
        """, SOCKET_OF + """
        import os, sys
        number = int(sys.argv[1])
        try:
            os.fstat(number)
        except OSError:
            sys.exit(3)
        peer = socket_of(number)
        peer.sendall(f"{peer.getpeername()[0]} {os.environ.get('POSTERN_INHERITED')}".encode())
        while data := peer.recv(65536):
            peer.sendall(data[::-1])
        """)
    app = world.program(PYTHON, parent, child).expect_ready()
    for how in b"0", b"p", b"e", b"0":
        with world.connect(7000) as conn:
            conn.sendall(how)
            assert receive_exactly(conn, 14) == b"192.0.2.1 None", how
            conn.sendall(b"drawer")
            assert receive_exactly(conn, 6) == b"reward"
            conn.shutdown(socket.SHUT_WR)
            assert conn.recv(1) == b""
    for how, answer in (b"c", b"child ended with 3"), (b"n", b"no such program"):
        with world.connect(7000) as conn:
            conn.sendall(how)
            assert receive_exactly(conn, 100) == answer
    wait_until(lambda: sockets(world) == 1, 10, "only the listener is left")
    assert app.process.poll() is None


@case
def listeners_by_LISTEN_FDS(world):
    """systemd: listening sockets from number 3 on, made by another program, which is replaced
    without a fork; one datagram socket among them, and one that stays behind."""
    world.start()
    parent, child = program_pair(world, """
        import os, socket, sys, threading

        for address in (("0.0.0.0", 7001), ("0.0.0.0", 7002)):
            os.set_inheritable(socket.create_server(address).detach(), True)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("0.0.0.0", 7003))
        os.set_inheritable(udp.fileno(), True)
        behind = socket.create_server(("0.0.0.0", 7004))

        def wait_for_ever():                    # a thread that is asleep in the library
            behind.accept()
        threading.Thread(target=wait_for_ever, daemon=True).start()
        print("made", flush=True)
        sys.stdin.readline()                    # a connection is waiting in the queue
        for to, fd in enumerate(sorted([3, 4, udp.fileno()]), 3):
            assert to == fd, (to, fd)
        os.execve(sys.executable, [sys.executable, sys.argv[1]],
                  {"LISTEN_FDS": "3", "LISTEN_PID": str(os.getpid())})
        """, SOCKET_OF + """
        import os, selectors
        assert os.environ["LISTEN_PID"] == str(os.getpid())
        loop = selectors.DefaultSelector()
        for number in range(3, 3 + int(os.environ["LISTEN_FDS"])):
            one = socket_of(number)
            loop.register(one, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            for key, _ in loop.select():
                if key.fileobj.type == socket.SOCK_DGRAM:
                    data, name = key.fileobj.recvfrom(2000)
                    key.fileobj.sendto(data[::-1], name)
                else:
                    peer, _ = key.fileobj.accept()
                    peer.sendall(b"%d" % peer.getsockname()[1])
                    peer.close()
        """)
    app = world.program(PYTHON, parent, child)
    assert app.line() == "made"
    early = world.connect(7001)
    wait_until(lambda: sockets(world) == 5, 10, "the connection is there")
    app.tell()
    app.expect_ready()
    with early:
        assert receive_exactly(early, 10) == b"7001", "what was queued is not lost"
    for port in 7001, 7002:
        for _ in range(3):
            with world.connect(port) as conn:
                assert receive_exactly(conn, 10) == b"%d" % port
    with world.udp(7003) as sock:
        sock.send(b"drawer")
        assert sock.recv(100) == b"reward"
    assert ":7004" not in world.cli("ss"), "close-on-exec closed it"
    app.kill()
    wait_until(lambda: sockets(world) == 0, 10, "nothing is left")


@case(seconds=120, needs=("nginx", "wrk", "curl"))
def nginx_is_upgraded(world):
    """Its way to replace the binary: the new master inherits the listener (and no LD_PRELOAD: nginx
    makes its environment), both serve, the old one leaves. No request is lost."""
    world.start()
    make_site(world)
    config = nginx_config(world, master_process="on", worker_processes="2")
    config.write_text(config.read_text().replace("daemon off;", "daemon on;"))
    world.program("/usr/sbin/nginx", "-c", config, "-e", world.scratch / "nginx.log")
    world.wait_listening(80)
    pid_file = world.scratch / "nginx.pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), 10, "nginx has written its pid")
    old = int(pid_file.read_text())
    new = None
    try:
        load = spawn(["wrk", "-t", "1", "-c", "8", "-d", "6s", "-H", "Connection: close",
                      f"http://{POSTERN}/"], stdout=-1, text=True)
        os.kill(old, signal.SIGUSR2)
        wait_until(lambda: (world.scratch / "nginx.pid.oldbin").exists() and pid_file.exists()
                   and pid_file.read_text().strip() not in ("", str(old)), 15, "a new master")
        new = int(pid_file.read_text())
        wait_until(lambda: len(run("pgrep", "-P", new, check=False).split()) >= 2, 10, "new workers")
        os.kill(old, signal.SIGQUIT)
        text, _ = load.communicate(timeout=30)
        assert "Socket errors" not in text and "Non-2xx" not in text, text
        wait_until(lambda: not os.path.exists(f"/proc/{old}"), 15, "the old master leaves")
        for _ in range(20):
            assert run("curl", "-sS", "--fail", f"http://{POSTERN}/") == "<p>Served by Postern.</p>\n"
    finally:
        for pid in filter(None, (new, old)):
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGTERM)
    wait_until(lambda: "LISTEN" not in world.cli("ss"), 10, "the listener is gone with the last process")


@case
def passing_a_socket_is_refused_aloud(world):
    """SCM_RIGHTS: EOPNOTSUPP and a message for a socket of Postern's, bound or new; descriptors of the
    kernel's are passed as ever."""
    world.start()
    program = python_program(world, "passing", """
        import errno, os, socket
        near, far = socket.socketpair()
        pipe = os.pipe()
        socket.send_fds(near, [b"x"], [pipe[1]])
        _, (passed,), _, _ = socket.recv_fds(far, 1, 1)
        os.write(passed, b"through")
        assert os.read(pipe[0], 100) == b"through"
        for one in socket.create_server(("0.0.0.0", 7000)), socket.socket():
            try:
                socket.send_fds(near, [b"x"], [one.fileno()])
            except OSError as error:
                print(error.errno == errno.EOPNOTSUPP, flush=True)
        """)
    app = world.program(PYTHON, program)
    assert [app.line(), app.line()] == ["True", "True"]
    assert app.process.wait(10) == 0
    text = (world.dir / f"{app.name}.err").read_text()
    assert text.count("cannot be passed to another process") == 1, text
