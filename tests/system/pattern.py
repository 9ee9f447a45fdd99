"""A byte stream that both ends of a transfer know: every position holds a byte that depends on it
in a way that a shifted, repeated or missing piece cannot imitate."""
import hashlib
import random


class Pattern:
    # A prime number of bytes, so that no power-of-two error lands on the same byte again.
    BLOCK = 1048573

    def __init__(self, seed=1):
        self.block = random.Random(seed).randbytes(self.BLOCK)

    def bytes(self, size):
        return (self.block * (size // self.BLOCK + 1))[:size]

    def pieces(self, size):
        """The stream in blocks."""
        while size >= self.BLOCK:
            yield self.block
            size -= self.BLOCK
        if size:
            yield self.block[:size]

    def digest(self, size):
        digest = hashlib.sha256()
        for piece in self.pieces(size):
            digest.update(piece)
        return digest.hexdigest()
