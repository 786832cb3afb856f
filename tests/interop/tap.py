"""A TCP proxy that reads along as far as HTTP/2's frames: how many streams a client opened, and what was compressed.

Clients hide both. A retry shows as a further stream, and compression as the first byte of a message. It can also lose a
reply: the first connection breaks when the gateway's first reply comes, and the client gets none of it.
"""

import socket
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS = 0, 1
PADDED = 0x8


class Frames:
    """Reads one direction of a connection, piece by piece."""

    def __init__(self, preface: bytes = b""):
        self.pending = bytearray()
        self.preface = len(preface)
        self.streams: set[int] = set()  # with HEADERS
        self.compressed: dict[int, bool] = {}  # by stream, for its first message

    def feed(self, piece: bytes) -> None:
        self.pending += piece
        if self.preface:
            if len(self.pending) < self.preface:
                return
            del self.pending[: self.preface]
            self.preface = 0
        while len(self.pending) >= 9:
            length = int.from_bytes(self.pending[:3], "big")
            if len(self.pending) < 9 + length:
                return
            kind, flags = self.pending[3], self.pending[4]
            stream = int.from_bytes(self.pending[5:9], "big") & 0x7FFFFFFF
            self.frame(kind, flags, stream, bytes(self.pending[9 : 9 + length]))
            del self.pending[: 9 + length]

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            self.streams.add(stream)
        elif kind == DATA:
            if flags & PADDED:
                payload = payload[1:]
            if payload:
                self.compressed.setdefault(stream, payload[0] == 1)


class Tap:
    """Listens on a port of its own, and passes everything on to `target`."""

    def __init__(self, target: str, reply_lost: bool = False):
        self.reply_lost = reply_lost
        host, port = target.rsplit(":", 1)
        self.target = (host, int(port))
        self.connections: list[tuple[Frames, Frames]] = []  # from the client, from the gateway
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> "Tap":
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        for end in self.sockets:
            end.close()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
                gateway = socket.create_connection(self.target)
            except OSError:
                return
            self.sockets += [client, gateway]
            sent, answered = Frames(PREFACE), Frames()
            loses = self.reply_lost and not self.connections
            self.connections.append((sent, answered))
            threading.Thread(target=pump, args=(client, gateway, sent, False), daemon=True).start()
            threading.Thread(target=pump, args=(gateway, client, answered, loses), daemon=True).start()

    @property
    def streams(self) -> int:
        """How many calls were made, retries included."""
        return sum(len(sent.streams) for sent, _ in self.connections)

    @property
    def requests_compressed(self) -> set[bool]:
        return {compressed for sent, _ in self.connections for compressed in sent.compressed.values()}

    @property
    def replies_compressed(self) -> set[bool]:
        return {compressed for _, answered in self.connections for compressed in answered.compressed.values()}


def pump(source: socket.socket, sink: socket.socket, frames: Frames, loses_reply: bool) -> None:
    try:
        while piece := source.recv(65536):
            frames.feed(piece)
            if loses_reply and frames.streams:
                break  # the reply has begun: nobody gets this piece, nor what would follow
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
