"""libpostern from Python: a Socket class as the standard library's, over the C interface.

Failures raise OSError with the errno that the library set.
"""
import ctypes
import os
import socket as kernel

_lib = ctypes.CDLL(os.environ.get("LIBPOSTERN", "libpostern.so.0"), use_errno=True)
_lib.postern_last_error.restype = ctypes.c_char_p
for _name in ("send", "sendto", "recv", "recvfrom"):
    getattr(_lib, "postern_" + _name).restype = ctypes.c_ssize_t
_lib.postern_send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_lib.postern_recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class SockaddrIn(ctypes.Structure):
    _fields_ = [("family", ctypes.c_uint16), ("port", ctypes.c_uint8 * 2),
                ("address", ctypes.c_uint8 * 4), ("zero", ctypes.c_uint8 * 8)]

    @classmethod
    def of(cls, host, port):
        return cls(kernel.AF_INET, (ctypes.c_uint8 * 2)(*port.to_bytes(2, "big")),
                   (ctypes.c_uint8 * 4)(*kernel.inet_aton(host)))

    def pair(self):
        return kernel.inet_ntoa(bytes(self.address)), int.from_bytes(bytes(self.port), "big")


class SockaddrIn6(ctypes.Structure):
    _fields_ = [("family", ctypes.c_uint16), ("port", ctypes.c_uint8 * 2),
                ("flow", ctypes.c_uint32), ("address", ctypes.c_uint8 * 16),
                ("scope", ctypes.c_uint32)]

    @classmethod
    def of(cls, host, port):
        return cls(kernel.AF_INET6, (ctypes.c_uint8 * 2)(*port.to_bytes(2, "big")), 0,
                   (ctypes.c_uint8 * 16)(*kernel.inet_pton(kernel.AF_INET6, host)), 0)

    def pair(self):
        return (kernel.inet_ntop(kernel.AF_INET6, bytes(self.address)),
                int.from_bytes(bytes(self.port), "big"))


def last_error():
    return (_lib.postern_last_error() or b"").decode()


def _checked(result, what):
    if result >= 0:
        return result
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), f"{what}: {last_error()}")


def attach(path=None):
    _checked(_lib.postern_attach(path.encode() if path else None), "attach")


def detach():
    _checked(_lib.postern_detach(), "detach")


class Socket:
    """One postern socket."""

    def __init__(self, kind=kernel.SOCK_STREAM, fd=None, family=kernel.AF_INET):
        self.family = family
        self.address = SockaddrIn6 if family == kernel.AF_INET6 else SockaddrIn
        self.fd = fd if fd is not None else _checked(
            _lib.postern_socket(family, kind, 0), "socket")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            _checked(_lib.postern_close(fd), "close")

    def setsockopt(self, level, option, value):
        data = value if isinstance(value, bytes) else int(value).to_bytes(4, "little")
        _checked(_lib.postern_setsockopt(self.fd, level, option, data, len(data)), "setsockopt")

    def settimeout(self, seconds):
        value = int(seconds).to_bytes(8, "little") + int(seconds % 1 * 1e6).to_bytes(8, "little")
        self.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVTIMEO, value)
        self.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDTIMEO, value)

    def bind(self, host, port):
        address = self.address.of(host, port)
        _checked(_lib.postern_bind(self.fd, ctypes.byref(address), ctypes.sizeof(address)), "bind")

    def listen(self, backlog=128):
        _checked(_lib.postern_listen(self.fd, backlog), "listen")

    def accept(self):
        address = self.address()
        length = ctypes.c_uint32(ctypes.sizeof(address))
        fd = _checked(_lib.postern_accept(self.fd, ctypes.byref(address), ctypes.byref(length)),
                      "accept")
        return Socket(fd=fd, family=self.family), address.pair()

    def connect(self, host, port):
        address = self.address.of(host, port)
        _checked(_lib.postern_connect(self.fd, ctypes.byref(address), ctypes.sizeof(address)),
                 "connect")

    def send(self, data, flags=kernel.MSG_NOSIGNAL):
        return _checked(_lib.postern_send(self.fd, bytes(data), len(data), flags), "send")

    def sendall(self, data):
        """`data`: bytes or a writable buffer, sent without a copy of it being made first."""
        if isinstance(data, bytes):
            start = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
        else:
            start = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
        sent = 0
        while sent < len(data):
            sent += _checked(
                _lib.postern_send(self.fd, start + sent, len(data) - sent, kernel.MSG_NOSIGNAL),
                "send")

    def recv_into(self, buffer, flags=0):
        start = ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
        return _checked(_lib.postern_recv(self.fd, start, len(buffer), flags), "recv")

    def recv(self, size, flags=0):
        buffer = bytearray(size)
        return bytes(buffer[:self.recv_into(buffer, flags)])

    def sendto(self, data, host, port):
        address = self.address.of(host, port)
        return _checked(_lib.postern_sendto(
            self.fd, bytes(data), ctypes.c_size_t(len(data)), 0, ctypes.byref(address),
            ctypes.sizeof(address)), "sendto")

    def recvfrom(self, size):
        buffer = ctypes.create_string_buffer(size)
        address = self.address()
        length = ctypes.c_uint32(ctypes.sizeof(address))
        got = _checked(_lib.postern_recvfrom(
            self.fd, buffer, ctypes.c_size_t(size), 0, ctypes.byref(address),
            ctypes.byref(length)), "recvfrom")
        return buffer.raw[:got], address.pair()

    def shutdown(self, how):
        _checked(_lib.postern_shutdown(self.fd, how), "shutdown")

    def getsockname(self):
        address = self.address()
        length = ctypes.c_uint32(ctypes.sizeof(address))
        _checked(_lib.postern_getsockname(self.fd, ctypes.byref(address), ctypes.byref(length)),
                 "getsockname")
        return address.pair()
