//! The stream of a connection, and the frames that are being written to it.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncReadExt, net::TcpStream};

#[cfg(feature = "hub")]
use super::lender;
use super::{input::Input, io::Io};
use crate::codec::{Begun, Load, Outgoing, ReadInto, Role};

/// The most buffers of one write.
const SLICES: usize = 32;
/// The most bytes of one read into a final buffer, for streams other than TCP: they may zero all of it first.
const MAX_NOT_TCP: usize = 64 * 1024;

/// A stream, and the frames that are being written to it.
#[derive(Debug)]
pub(super) struct Engine<IO> {
    io: IO,
    /// Bytes were written since the last flush of the stream.
    unflushed: bool,
    /// The buffer for the next read. Held only during a poll.
    buffer: Option<Box<Input>>,
    /// Frames that are being written.
    pub(super) output: Outgoing,
    /// Follows the frames that are written, if the output may have to be cut.
    begun: Option<Box<Begun>>,
}

impl<IO: Io> Engine<IO> {
    pub(super) fn new(io: IO, role: Role) -> Self {
        let contiguous = !io.is_write_vectored();
        Self {
            io,
            output: Outgoing::new(role, contiguous),
            buffer: None,
            unflushed: false,
            begun: None,
        }
    }

    /// Returns whether the stream writes one buffer at a time. Frames are then better contiguous.
    pub(super) fn is_contiguous(&self) -> bool {
        !self.io.is_write_vectored()
    }

    /// Sets the buffer for the next read, unless it is `None`.
    pub(super) fn set_buffer(&mut self, buffer: Option<Box<Input>>) {
        if let Some(buffer) = buffer {
            self.buffer = Some(buffer);
        }
    }

    /// Reads once. Ready with the input, or with `None` at the end of the stream.
    #[inline]
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Box<Input>>>> {
        let buffer = self.buffer.get_or_insert_with(Input::shared);
        Poll::Ready(Ok(match ready!(buffer.poll_fill(&mut self.io, cx))? {
            0 => None,
            _ => self.buffer.take(),
        }))
    }

    /// Reads once into the memory of a large payload. Ready with the number of bytes, 0 at
    /// the end of the stream.
    pub(super) fn poll_read_large(
        &mut self,
        cx: &mut Context<'_>,
        into: ReadInto<'_>,
    ) -> Poll<io::Result<usize>> {
        match into {
            ReadInto::Gathered(mut buffers) => self.io.poll_read_vectored(cx, buffers.slices()),
            ReadInto::Final(mut buffer) => {
                if self.io.tcp().is_none() {
                    buffer.set_limit(buffer.limit().min(MAX_NOT_TCP));
                }
                pin!(self.io.read_buf(&mut buffer)).poll(cx)
            }
        }
    }

    /// Reads once and discards the bytes. Ready with their number, 0 at the end of the stream.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buffer = self.buffer.get_or_insert_with(Input::shared);
        buffer.poll_fill(&mut self.io, cx)
    }

    /// Writes some of the output. Ready with the load that was written, which is empty once all
    /// output is written and flushed.
    #[inline]
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Load>> {
        if self.output.is_empty() {
            if self.unflushed {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Ready(Ok(Load::default()));
        }
        let written = match self.output.only_slice() {
            Some(slice) => ready!(self.io.poll_write_eagerly(cx, &[IoSlice::new(slice)]))?,
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let slices = self.output.slices(&mut slices);
                ready!(self.io.poll_write_eagerly(cx, slices))?
            }
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        Poll::Ready(Ok(self.advance(written)))
    }

    /// Writes some of the output to a TCP socket that is not reported as writable. Returns the load
    /// that was written.
    pub(super) fn write_without_readiness(&mut self) -> io::Result<Load> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let written = self
            .io
            .write_without_readiness(self.output.slices(&mut slices))?;
        self.unflushed |= written > 0;
        Ok(self.advance(written))
    }

    fn advance(&mut self, written: usize) -> Load {
        if let Some(begun) = &mut self.begun {
            let mut slices = [IoSlice::new(&[]); SLICES];
            begun.note(self.output.slices(&mut slices), written);
        }
        self.output.advance(written)
    }

    /// Follows frames from now on. Call it before anything is written.
    pub(super) fn follow_frames(&mut self) {
        self.begun = Some(Box::default());
    }

    /// Drops the output, except for the rest of the frame that is being written if it has at most `limit` bytes.
    /// Returns whether that rest was kept, or no frame was being written.
    pub(super) fn drop_output(&mut self, limit: usize) -> bool {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let slices = self.output.slices(&mut slices);
        let rest = self.begun.as_ref().map_or(0, |begun| begun.rest_of(slices));
        self.output.keep(if rest <= limit { rest } else { 0 });
        rest <= limit
    }

    /// Ready when the peer has ended its half of the stream or is gone; see [`Io::poll_gone`].
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_gone(cx)
    }

    /// Returns the TCP stream, if this is one.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        self.io.tcp()
    }

    /// Returns whether nothing is to be written, and nobody follows the frames that are written.
    pub(super) fn is_quiet(&self) -> bool {
        self.output.is_empty() && self.begun.is_none()
    }

    /// Returns whether the stream is a TCP stream.
    pub(super) fn is_tcp(&self) -> bool {
        self.io.tcp().is_some()
    }

    /// Ends the writing half of the stream. The reading half stays open.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Lends the stream, if it is TCP and nothing is left to write. It has to be [taken back](Self::take_back) before
    /// anything else.
    #[cfg(feature = "hub")]
    pub(super) fn lend(&mut self) -> Option<lender::Stream> {
        // Frames that others write could not be followed.
        let may_lend = self.output.is_empty() && self.begun.is_none();
        may_lend.then(|| self.io.lend())?
    }

    /// Takes the lent stream back.
    #[cfg(feature = "hub")]
    pub(super) fn take_back(&mut self, stream: lender::Stream) {
        self.io.take_back(stream);
    }

    /// Gives the shared buffers back. Call it at the end of each poll.
    pub(super) fn give_back_buffers(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            buffer.give_back();
        }
        self.output.release_memory();
    }
}
