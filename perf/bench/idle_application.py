"""idle_application.py LIBPOSTERN APP_SOCKET: attaches, opens a socket, says so, and waits for the end of
its standard input."""
import ctypes
import socket
import sys


def main():
    library = ctypes.CDLL(sys.argv[1], use_errno=True)
    if library.postern_attach(sys.argv[2].encode()) != 0:
        sys.exit("cannot attach")
    if library.postern_socket(socket.AF_INET, socket.SOCK_STREAM, 0) < 0:
        sys.exit("no socket")
    print("attached", flush=True)
    sys.stdin.read()


main()
