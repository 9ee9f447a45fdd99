"""Runs under `postern run` and checks how it waits: poll, select and epoll over sockets of Postern's
and the kernel's at once. Its argument is the address of an echo server. Prints a line for each check
that passed; an exception ends it."""
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import termios
import threading
import time

SERVER = (sys.argv[1], int(sys.argv[2]))


def connected():
    return socket.create_connection(SERVER, timeout=20)


def echo(sock, data=b"x"):
    """Sends and waits until the answer can be read."""
    sock.sendall(data)
    assert select.select([sock], [], [], 10)[0] == [sock]


def available(sock):
    count = bytearray(4)
    fcntl.ioctl(sock, termios.FIONREAD, count)
    return int.from_bytes(count, "little")


def events_of(epoll, timeout=5.0):
    return dict(epoll.poll(timeout))


def level_and_data_already_there():
    a = connected()
    echo(a, b"abc")
    with select.epoll() as ep:
        ep.register(a, select.EPOLLIN)
        for left in (3, 2, 1):
            assert events_of(ep) == {a.fileno(): select.EPOLLIN}
            assert available(a) == left
            a.recv(1)
        assert events_of(ep, 0.05) == {}


def edge():
    a = connected()
    with select.epoll() as ep:
        ep.register(a, select.EPOLLIN | select.EPOLLET)
        a.sendall(b"x")
        assert events_of(ep) == {a.fileno(): select.EPOLLIN}
        assert events_of(ep, 0.05) == {}, "an edge is told once"
        a.sendall(b"y")
        assert events_of(ep) == {a.fileno(): select.EPOLLIN}
        assert a.recv(10) == b"xy"


def one_shot():
    a = connected()
    with select.epoll() as ep:
        ep.register(a, select.EPOLLIN | select.EPOLLONESHOT)
        a.sendall(b"x")
        assert events_of(ep) == {a.fileno(): select.EPOLLIN}
        a.sendall(b"y")
        assert events_of(ep, 0.05) == {}
        ep.modify(a, select.EPOLLIN | select.EPOLLONESHOT)
        assert events_of(ep) == {a.fileno(): select.EPOLLIN}


def errors_of_epoll_ctl():
    a, ep = connected(), select.epoll()

    def fails(code, call, *arguments):
        try:
            call(*arguments)
        except OSError as error:
            assert error.errno == code, (call, error)
            return
        raise AssertionError(f"{call} did not fail")
    fails(errno.ENOENT, ep.modify, a.fileno(), select.EPOLLIN)
    ep.register(a, select.EPOLLIN)
    fails(errno.EEXIST, ep.register, a.fileno(), select.EPOLLIN)
    ep.unregister(a)
    fails(errno.ENOENT, ep.modify, a.fileno(), select.EPOLLIN)
    fails(errno.EINVAL, ep.register, a.fileno(), select.EPOLLEXCLUSIVE | select.EPOLLONESHOT)
    ep.register(a, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    a.sendall(b"x")
    assert events_of(ep) == {a.fileno(): select.EPOLLIN}
    a.close()
    assert events_of(ep, 0.02) == {}, "a closed socket leaves its sets"


def both_kinds():
    a = connected()
    near, far = socket.socketpair()
    with select.epoll() as ep:
        ep.register(a, select.EPOLLIN)
        ep.register(near, select.EPOLLIN)
        for _ in range(50):
            far.send(b"k")
            assert events_of(ep) == {near.fileno(): select.EPOLLIN}
            near.recv(1)
            a.sendall(b"p")
            assert events_of(ep) == {a.fileno(): select.EPOLLIN}
            a.recv(1)
        far.send(b"k")
        echo(a)
        seen = {}
        while len(seen) < 2:
            seen |= events_of(ep)
        threading.Timer(0.1, far.send, (b"k",)).start()
        near.recv(1)
        a.recv(1)
        assert events_of(ep) == {near.fileno(): select.EPOLLIN}, "woken out of its sleep"


def busy_postern_does_not_starve_the_kernel():
    a = connected()
    near, far = socket.socketpair()
    with select.epoll() as ep:
        ep.register(a, select.EPOLLIN | select.EPOLLOUT)  # always ready
        ep.register(near, select.EPOLLIN)
        far.send(b"k")
        deadline = time.monotonic() + 5
        while near.fileno() not in dict(ep.poll(1, maxevents=1)):
            assert time.monotonic() < deadline


def nested():
    a = connected()
    inner, outer = select.epoll(), select.epoll()
    inner.register(a, select.EPOLLIN)
    outer.register(inner.fileno(), select.EPOLLIN)
    assert events_of(outer, 0.02) == {}
    threading.Timer(0.1, a.sendall, (b"x",)).start()
    assert events_of(outer) == {inner.fileno(): select.EPOLLIN}
    assert events_of(inner) == {a.fileno(): select.EPOLLIN}
    assert select.select([inner], [], [], 5)[0] == [inner]
    a.recv(1)
    assert events_of(inner, 0.02) == {}
    assert select.select([inner], [], [], 0.05)[0] == []


def several_threads_in_one_set():
    socks = {s.fileno(): s for s in (connected() for _ in range(16))}
    ep, got, lock = select.epoll(), [], threading.Lock()
    stop = threading.Event()

    def worker():
        while not stop.is_set():
            for fd, _ in ep.poll(0.2, maxevents=2):
                data = socks[fd].recv(100)
                ep.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
                with lock:
                    got.append(data)
    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)  # they sleep in an empty set
    for fd in socks:
        ep.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
    for turn in range(30):
        for sock in socks.values():
            sock.sendall(b"%04d" % turn)
        deadline = time.monotonic() + 10
        while sum(map(len, got)) < 4 * len(socks) * (turn + 1):
            assert time.monotonic() < deadline, (turn, len(got))
            time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()


def registered_before_connect():
    """As nginx does: the set holds the socket before it is Postern's."""
    a = socket.socket()
    a.setblocking(False)
    with select.epoll() as ep:
        ep.register(a, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        events_of(ep, 0)
        assert a.connect_ex(SERVER) == errno.EINPROGRESS
        assert events_of(ep)[a.fileno()] & select.EPOLLOUT
        assert a.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        a.send(b"x")
        while not events_of(ep)[a.fileno()] & select.EPOLLIN:
            pass
        assert a.recv(1) == b"x"


def poll_and_select_over_both():
    a = connected()
    near, far = socket.socketpair()
    poll = select.poll()
    poll.register(a, select.POLLIN)
    poll.register(near, select.POLLIN)
    begin = time.monotonic()
    assert poll.poll(50) == []
    assert time.monotonic() - begin >= 0.045
    for source, sink in ((far, near), (a, a)):
        threading.Timer(0.05, source.sendall, (b"x",)).start()
        assert poll.poll(5000) == [(sink.fileno(), select.POLLIN)]
        assert select.select([a, near], [], [], 5)[0] == [sink]
        assert select.select([a, near], [a], [], 5)[:2] == ([sink], [a])
        sink.recv(1)
    a.shutdown(socket.SHUT_WR)
    assert poll.poll(5000)[0][1] & select.POLLIN
    closed = a.fileno()
    a.close()
    assert dict(poll.poll(1000))[closed] == select.POLLNVAL


def numbers():
    a = connected()
    b = a.dup()
    with select.epoll() as ep:
        ep.register(a, select.EPOLLIN)
        ep.register(b, select.EPOLLIN)
        assert b.fileno() != a.fileno()
        echo(a)
        assert set(events_of(ep)) == {a.fileno(), b.fileno()}
        a.close()
        assert set(events_of(ep)) == {b.fileno()}
    assert b.recv(1) == b"x"
    c = os.dup2(b.fileno(), 200)
    b.close()
    os.write(c, b"still there")
    assert select.select([c], [], [], 5)[0] == [c]
    assert os.read(c, 100) == b"still there"
    assert fcntl.fcntl(c, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    assert fcntl.fcntl(c, fcntl.F_GETFL) & os.O_NONBLOCK
    os.dup2(0, c)  # what was there is closed
    os.close(c)
    undecided = socket.socket()
    again = undecided.dup()
    undecided.connect(SERVER)
    again.sendall(b"by the other number")
    assert undecided.recv(100) == b"by the other number"


def limits_and_what_is_not_ours():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    a = connected()
    for fd in range(500, 1024):
        try:
            os.close(fd)
        except OSError as error:
            assert error.errno == errno.EBADF
    os.closerange(500, soft)
    echo(a)
    a.recv(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (a.fileno() + 1, hard))
    try:
        socket.socket()
        raise AssertionError("the limit does not count")
    except OSError as error:
        assert error.errno == errno.EMFILE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        os.lseek(a.fileno(), 0, os.SEEK_CUR)
    except OSError as error:
        assert error.errno == errno.ESPIPE


def signals_interrupt():
    a = connected()
    hits = []
    signal.signal(signal.SIGALRM, lambda *_: hits.append(time.monotonic()))
    with select.epoll() as ep:
        ep.register(a, select.EPOLLIN)
        for wait in (lambda: ep.poll(0.4), lambda: select.select([a], [], [], 0.4)):
            begin = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            assert not any(wait())
            assert hits.pop() - begin < 0.35, "the handler ran while the call slept"
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def options_are_honest():
    for sock in (socket.socket(), connected()):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        for level, option in ((socket.SOL_SOCKET, socket.SO_BINDTODEVICE), (socket.SOL_SOCKET, 9999),
                              (socket.IPPROTO_TCP, 9999)):
            try:
                sock.setsockopt(level, option, 1)
                raise AssertionError("an option that is not served was taken")
            except OSError as error:
                assert error.errno == errno.ENOPROTOOPT, error


def loopback_is_the_kernels():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    client.sendall(b"x")
    assert peer.recv(1) == b"x"


def main():
    for check in (level_and_data_already_there, edge, one_shot, errors_of_epoll_ctl, both_kinds,
                  busy_postern_does_not_starve_the_kernel, nested, several_threads_in_one_set,
                  registered_before_connect, poll_and_select_over_both, numbers,
                  limits_and_what_is_not_ours, signals_interrupt, options_are_honest,
                  loopback_is_the_kernels):
        check()
        print(check.__name__, flush=True)
    print("done", flush=True)


main()
