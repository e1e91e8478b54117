"""HTTP/2 streams on the Python package `h2`, for h2_client.py and h2_bridge.py."""

import asyncio
import ssl

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

WINDOW = 4 << 20


class Reset(Exception):
    """The server has reset a stream with `code`, or the connection has ended."""

    def __init__(self, code):
        super().__init__(f"reset with {code}")
        self.code = code


class Connection:
    """One TCP connection for requests."""

    @classmethod
    async def open(cls, host, port, tls=False):
        """Connects and waits for the server's settings. Uses TLS without checking the certificate, or clear
        text with prior knowledge."""
        context = None
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
        self = cls()
        self.reader, self.writer = await asyncio.open_connection(host, port, ssl=context)
        if tls:
            assert self.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.streams = {}
        self.lost = False
        self.changed = asyncio.Event()
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(WINDOW)
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
        self.flush()
        self.task = asyncio.create_task(self.receive())
        settings = asyncio.get_running_loop().create_future()
        self.settings = settings
        await settings
        return self

    @property
    def allows_extended_connect(self):
        return self.h2.remote_settings.enable_connect_protocol == 1

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.writer.write(data)

    async def receive(self):
        try:
            while data := await self.reader.read(1 << 16):
                for event in self.h2.receive_data(data):
                    self.take(event)
                self.flush()
        except (OSError, h2.exceptions.ProtocolError):
            pass
        finally:
            self.lost = True
            for stream in self.streams.values():
                stream.events.put_nowait(Reset("the connection's end"))
            self.wake()

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        match event:
            case h2.events.RemoteSettingsChanged():
                if not self.settings.done():
                    self.settings.set_result(None)
                self.wake()
            case h2.events.WindowUpdated():
                self.wake()
            case h2.events.ResponseReceived() if stream:
                stream.headers.set_result(event.headers)
            case h2.events.DataReceived() if stream:
                stream.events.put_nowait((event.data, event.flow_controlled_length))
            case h2.events.StreamEnded() if stream:
                stream.ended = True
                stream.events.put_nowait(None)
            case h2.events.StreamReset() if stream:
                stream.reset_by_server = event.error_code
                if not stream.headers.done():
                    stream.headers.set_exception(Reset(event.error_code))
                stream.events.put_nowait(Reset(event.error_code))
                self.wake()

    def wake(self):
        self.changed.set()
        self.changed = asyncio.Event()

    async def request(self, headers, end=False):
        """Sends a request. `headers` is a list of pairs, pseudo-headers first."""
        stream = Stream(self, self.h2.get_next_available_stream_id())
        self.streams[stream.id] = stream
        self.h2.send_headers(stream.id, headers, end_stream=end)
        self.flush()
        return stream

    async def close(self):
        self.writer.close()
        await self.task


class Stream:
    """One request, its answer, and their bodies."""

    def __init__(self, connection, id):
        self.connection = connection
        self.id = id
        self.headers = asyncio.get_running_loop().create_future()
        self.events = asyncio.Queue()
        self.ended = False
        self.ours_ended = False
        self.reset_by_server = None

    @property
    def over(self):
        """Returns whether both halves have ended, or either side has reset the stream."""
        return (self.ended and self.ours_ended) or self.reset_by_server is not None

    async def answer(self):
        """Returns the status and the other fields."""
        headers = dict(await self.headers)
        return int(headers.pop(":status")), headers

    async def send(self, data):
        """Sends bytes within the server's windows."""
        connection = self.connection
        view = memoryview(data)
        while view:
            if connection.lost or self.reset_by_server is not None:
                raise Reset(self.reset_by_server)
            room = min(
                connection.h2.local_flow_control_window(self.id),
                connection.h2.max_outbound_frame_size,
            )
            if room <= 0:
                await connection.changed.wait()
                continue
            connection.h2.send_data(self.id, bytes(view[:room]))
            connection.flush()
            await connection.writer.drain()
            view = view[room:]

    async def receive(self):
        """Returns the next bytes, or `None` at the end."""
        event = await self.events.get()
        if isinstance(event, Reset):
            raise event
        if event is None:
            return None
        data, length = event
        try:
            self.connection.h2.acknowledge_received_data(length, self.id)
        except h2.exceptions.ProtocolError:
            pass  # the stream has been closed meanwhile
        self.connection.flush()
        return data

    async def rest(self):
        parts = []
        while (data := await self.receive()) is not None:
            parts.append(data)
        return b"".join(parts)

    def end(self):
        self.ours_ended = True
        self.connection.h2.end_stream(self.id)
        self.connection.flush()

    def reset(self, code=8):
        """Resets the stream, by default with CANCEL."""
        self.ended = self.ours_ended = True
        self.connection.h2.reset_stream(self.id, code)
        self.connection.flush()
