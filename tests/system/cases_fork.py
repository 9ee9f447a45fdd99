"""Processes that share an attachment: forked servers over postern.h, the kernel as their client."""
import os
import signal
import threading

from harness import case, receive_exactly, receive_to_end, wait_until
from pattern import Pattern

KIB = 1024


def exchange(world, port, size):
    """Sends `size` bytes of the pattern, expects them back, then the end after a half-close."""
    data = Pattern().bytes(size)
    with world.connect(port) as sock:
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        assert receive_exactly(sock, size) == data
        sender.join()
        sock.shutdown(1)
        sock.settimeout(10)
        total, _, error = receive_to_end(sock)
        assert total == 0 and error is None, (total, error)


def sockets(world):
    return sum(row["state"] != "TIME-WAIT" for row in world.show("ss"))


@case(seconds=120)
def a_child_for_each_connection(world):
    """The parent accepts and closes its copy; the child serves, and its _exit is the close."""
    world.start()
    world.example("forking_echo", "each", 7000).expect_ready()
    listening = sockets(world)
    for _ in range(10):
        exchange(world, 7000, 64 * KIB)
    threads = [threading.Thread(target=exchange, args=(world, 7000, 256 * KIB)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exchange(world, 7000, 1000)
    wait_until(lambda: sockets(world) == listening, 10, "only the listener is left")


@case(seconds=120)
def workers_share_a_listener(world):
    """A killed worker takes its own connection with it, and nothing of the others'."""
    world.start()
    app = world.example("forking_echo", "workers", 7000, 3).expect_ready()
    workers = [int(app.line()) for _ in range(3)]
    held = [world.connect(7000) for _ in range(3)]  # each worker serves one at a time
    for sock in held:
        sock.sendall(b"who")
        assert receive_exactly(sock, 3) == b"who"
    os.kill(workers[0], signal.SIGKILL)
    lost = []
    for sock in held:
        sock.settimeout(2)
        try:
            sock.sendall(b"still there?")
            reply = sock.recv(100)
        except (ConnectionError, TimeoutError):
            reply = b""
        if not reply:
            lost.append(sock)
    assert len(lost) == 1, f"{len(lost)} of three connections ended with one worker"
    for sock in held:
        sock.close()
    for _ in range(20):
        exchange(world, 7000, 10 * KIB)
    app.kill()  # the workers die with it
    wait_until(lambda: sockets(world) == 0, 10, "nothing is left of the family")
