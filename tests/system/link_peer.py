# SPDX-License-Identifier: Apache-2.0
"""The other end of a daemon's link, scripted: a WebSocket server or client that speaks common/proto/link.h,
and a reader of the file log. Plain sockets and threads, so that a test says exactly what goes over the wire."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import queue
import socket
import struct
import threading
import time

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Keyring:
    def __init__(self, path):
        self.path, self.key = path, os.urandom(32)
        pathlib.Path(path).write_text(f"1 {self.key.hex()}\n")
        os.chmod(path, 0o600)

    @classmethod
    def of(cls, path):
        """One that is there already, by its first key."""
        ring = cls.__new__(cls)
        ring.path, ring.key = path, bytes.fromhex(pathlib.Path(path).read_text().split()[1])
        return ring

    def token(self, label, kind=2, lifetime=600):
        payload = struct.pack("<BBBBq16s16s", 1, kind, 0, 0, int(time.time()) + lifetime, b"", b"") + label.encode()
        signed = b"dbx1." + base64.urlsafe_b64encode(payload).rstrip(b"=")
        mac = hmac.new(self.key, signed, hashlib.sha256).digest()
        return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


class Peer:
    """One open link. Messages that are no answers go to `inbox` as (header, blob)."""

    def __init__(self, sock, client, on_request=None, authorization=""):
        self.sock, self.client = sock, client
        self.inbox, self.answers, self.rid = queue.Queue(), {}, 0
        self.lock, self.closed = threading.Lock(), threading.Event()
        self.on_request, self.authorization = on_request, authorization
        threading.Thread(target=self._read, daemon=True).start()

    def _exact(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise ConnectionError("closed")
            data += more
        return data

    def _frame(self):
        a, b = self._exact(2)
        n = b & 127
        if n == 126:
            n = struct.unpack(">H", self._exact(2))[0]
        elif n == 127:
            n = struct.unpack(">Q", self._exact(8))[0]
        mask = self._exact(4) if b & 128 else None
        data = self._exact(n)
        if mask:
            data = bytes(c ^ mask[i & 3] for i, c in enumerate(data))
        return a & 128, a & 15, data

    def _read(self):
        message = b""
        try:
            while True:
                fin, op, data = self._frame()
                if op == 9:
                    self._send(10, data)
                elif op == 8:
                    break
                elif op in (0, 1, 2):
                    message += data
                    if fin:
                        self._take(message)
                        message = b""
        except (OSError, ConnectionError, ValueError):
            pass
        finally:  # whatever a test's handler raised is shown by the thread, and the link is gone
            self.closed.set()
            self.sock.close()
            for q in list(self.answers.values()):
                q.put(({"error": {"kind": "unavail"}}, b""))

    def _take(self, message):
        n = struct.unpack("<I", message[:4])[0]
        header, blob = json.loads(message[4:4 + n]), message[4 + n:]
        if "re" in header:
            self.answers[header["re"]].put((header, blob))
            return
        if self.on_request:
            answer = self.on_request(header, blob)
            if answer is not None and header.get("rid"):
                self.send({"re": header["rid"], **answer})
        self.inbox.put((header, blob))

    def _send(self, op, data):
        head = bytes([128 | op])
        bit = 128 if self.client else 0
        if len(data) < 126:
            head += bytes([bit | len(data)])
        elif len(data) < 65536:
            head += bytes([bit | 126]) + struct.pack(">H", len(data))
        else:
            head += bytes([bit | 127]) + struct.pack(">Q", len(data))
        if self.client:
            head += bytes(4)  # a mask of zeros masks nothing, and is valid
        with self.lock:
            self.sock.sendall(head + data)

    def send(self, header, blob=b""):
        text = json.dumps(header).encode()
        self._send(2, struct.pack("<I", len(text)) + text + blob)

    def request(self, op, blob=b"", timeout=60, **fields):
        self.rid += 1
        rid, q = self.rid, queue.Queue()
        self.answers[rid] = q
        self.send({"op": op, "rid": rid, **fields}, blob)
        return q.get(timeout=timeout)[0]

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _read_head(sock):
    head = b""
    while b"\r\n\r\n" not in head:
        more = sock.recv(1)
        if not more:
            raise ConnectionError(head.decode(errors="replace"))
        head += more
    lines = head.decode().split("\r\n")
    return lines[0], {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if line)}


def connect(port, path, token):
    sock = socket.create_connection(("127.0.0.1", port), timeout=60)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: devbox.link.v1\r\n"
                  f"Authorization: Bearer {token}\r\n\r\n").encode())
    first, _ = _read_head(sock)
    if " 101 " not in first:
        raise ConnectionRefusedError(first)
    sock.settimeout(None)
    return Peer(sock, client=True)


class Listener:
    """Accepts links; each accepted one is in `peers`. on_request(header, blob) -> answer or None."""

    def __init__(self, on_request):
        self.on_request, self.peers = on_request, queue.Queue()
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            try:
                _, headers = _read_head(sock)
                answer = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()).decode()
                sock.sendall((f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              f"Sec-WebSocket-Accept: {answer}\r\nSec-WebSocket-Protocol: devbox.link.v1\r\n\r\n").encode())
            except (OSError, ConnectionError):  # killed meanwhile
                sock.close()
                continue
            peer = Peer(sock, False, self.on_request, headers.get("authorization", ""))
            self.open.append(peer)
            self.peers.put(peer)

    def close(self):
        with contextlib.suppress(OSError):  # it was closed before
            self.sock.shutdown(socket.SHUT_RDWR)  # close alone leaves who accepts there for ever
        self.sock.close()
        for p in self.open:
            p.close()


TYPES = {1: "stdout", 2: "stderr", 3: "pty", 4: "status", 5: "end", 6: "gap"}


def read_log(folder, sandbox_id):
    """All records of a sandbox, decoded; the order is the log's."""
    key, records = bytes.fromhex(sandbox_id.replace("-", "")), []
    for seg in sorted(pathlib.Path(folder).glob("[0-9][0-9]/*.seg")):
        data, at = seg.read_bytes(), 0
        while at + 32 <= len(data):
            magic, n, _, _, k = struct.unpack_from("<IIII16s", data, at)
            if magic != 0x31474C44 or at + 32 + n > len(data):
                break
            if k == key:
                value = data[at + 32:at + 32 + n]
                _, _, kind, flags, length, seq, ts, proc, off = struct.unpack_from("<BBBBIQq16sQ", value)
                assert length == len(value) - 48
                records.append({"type": TYPES[kind], "phase": "compile" if flags & 1 else "run", "seq": seq, "ts": ts,
                                "process": proc, "offset": off, "data": value[48:]})
            at += 32 + n
    return records
