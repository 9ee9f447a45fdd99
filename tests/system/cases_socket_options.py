"""What unmodified programs see of a connection beside its bytes: urgent data, TCP_INFO, pacing."""
import socket
import time

from cases_programs import PYTHON, python_program
from harness import LINUX, case, note, receive_to_end
from pattern import Pattern

# Offsets in struct tcp_info of linux/tcp.h.
READ_INFO = """
        def info(sock):
            raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            four = lambda at: int.from_bytes(raw[at:at + 4], "little")
            eight = lambda at: int.from_bytes(raw[at:at + 8], "little")
            return {"size": len(raw), "state": raw[0], "retransmits": raw[2], "options": raw[5],
                    "snd_mss": four(16), "unacked": four(24), "pmtu": four(60), "rtt": four(68),
                    "snd_ssthresh": four(76), "snd_cwnd": four(80), "total_retrans": four(100),
                    "pacing_rate": eight(104), "max_pacing_rate": eight(112),
                    "bytes_acked": eight(120), "bytes_received": eight(128),
                    "notsent_bytes": four(144), "min_rtt": four(148), "delivery_rate": eight(160),
                    "busy_time": eight(168), "bytes_sent": eight(200), "bytes_retrans": eight(208)}
"""


@case
def urgent_data_wakes_unmodified_programs(world):
    """select's exceptional set and epoll's EPOLLPRI, MSG_OOB both ways, and the mark by ioctl."""
    world.start()
    program = python_program(world, "urgent", f"""
        import fcntl, select, socket
        sock = socket.create_connection(("{LINUX}", 9000))
        print("ready", flush=True)
        at_mark = lambda: int.from_bytes(fcntl.ioctl(sock, 0x8905, bytes(4)), "little")
        seen = select.select([], [], [sock], 10)
        epoll = select.epoll()
        epoll.register(sock, select.EPOLLPRI)
        print(seen[2] == [sock], epoll.poll(10) == [(sock.fileno(), select.EPOLLPRI)])
        print(sock.recv(100), at_mark(), sock.recv(1, socket.MSG_OOB), epoll.poll(0))
        print(sock.recv(100), at_mark(), flush=True)
        sock.send(b"xyz!", socket.MSG_OOB)
        sock.recv(1)
        """)
    with world.listen(9000) as server:
        app = world.program(PYTHON, program)
        sock, _ = server.accept()
    with sock:
        sock.settimeout(10)
        sock.sendall(b"abc")
        sock.send(b"!", socket.MSG_OOB)
        sock.sendall(b"def")
        assert sock.recv(100) == b"xyz"
        sock.settimeout(None)  # with a limit Python polls for POLLIN first
        assert sock.recv(1, socket.MSG_OOB) == b"!"
    app.expect_ready()
    said = [app.line() for _ in range(3)]
    assert said == ["True True", "b'abc' 1 b'!' []", "b'def' 0"], said


@case
def tcp_info_of_a_transfer(world):
    world.start()
    size = 1_000_000
    program = python_program(world, "informed", f"""
        import json, socket
        {READ_INFO}
        sock = socket.create_connection(("{LINUX}", 9000))
        print("ready", flush=True)
        sock.sendall(bytes({size}))
        sock.recv(1)
        print(json.dumps(info(sock)), flush=True)
        sock.recv(1)
        """)
    with world.listen(9000) as server:
        app = world.program(PYTHON, program)
        sock, _ = server.accept()
    with sock:
        sock.settimeout(10)
        left = size
        while left:
            left -= len(sock.recv(1 << 16))
        time.sleep(0.1)
        sock.sendall(b"!")
        told = app.expect_ready().result()
    note(told)
    assert told["size"] >= 220 and told["state"] == 1 and told["options"] & 7 == 7, told
    assert told["bytes_acked"] == size and told["bytes_received"] == 1, told
    assert told["bytes_sent"] == size + told["bytes_retrans"], told
    assert told["unacked"] == told["notsent_bytes"] == told["retransmits"] == 0, told
    assert told["snd_mss"] == 1448 and told["pmtu"] == 1500 and told["snd_cwnd"] >= 10, told
    assert 0 < told["min_rtt"] <= told["rtt"] < 1_000_000, told
    assert told["delivery_rate"] > 0 and told["busy_time"] < 10_000_000, told
    assert told["pacing_rate"] == told["max_pacing_rate"] == 2**64 - 1, told


@case
def so_max_pacing_rate_holds(world):
    """RFC 9293 knows no pacing; a program that asks for 2 MB/s is not faster."""
    world.start()
    size, rate = 1_500_000, 2_000_000
    program = python_program(world, "paced", f"""
        import socket
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, 47, {rate})
        print(sock.getsockopt(socket.SOL_SOCKET, 47), flush=True)
        sock.connect(("{LINUX}", 9000))
        print("ready", flush=True)
        data = bytes({size})
        sock.sendall(data)
        """)
    with world.listen(9000) as server:
        app = world.program(PYTHON, program)
        sock, _ = server.accept()
    with sock:
        sock.settimeout(20)
        begin = time.monotonic()
        total, digest, error = receive_to_end(sock)
        taken = time.monotonic() - begin
    assert error is None and total == size, (error, total)
    note(f"{total / taken / 1e6:.2f} MB/s of {rate / 1e6:.0f}")
    assert taken > 0.8 * size / rate, "faster than it may"
    assert app.line() == str(rate)
