//! A stream that frames are read from and written to.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{input::Input, io::Io};
use crate::codec::{Load, Outgoing, ReadBuffers, Role};

/// The buffers that one write can take.
const SLICES: usize = 32;

/// A stream, and the frames that are being written to it.
#[derive(Debug)]
pub(super) struct Engine<IO> {
    io: IO,
    /// The stream itself may hold back some of what it was given.
    unflushed: bool,
    /// Empty: to be read into. There during a poll.
    buffer: Option<Box<Input>>,
    /// Frames that are being written.
    pub(super) output: Outgoing,
}

impl<IO: Io> Engine<IO> {
    pub(super) fn new(io: IO, role: Role) -> Self {
        let contiguous = !io.is_write_vectored();
        Self {
            io,
            output: Outgoing::new(role, contiguous),
            buffer: None,
            unflushed: false,
        }
    }

    /// Returns whether the stream takes one buffer at a time, so that frames are best contiguous.
    pub(super) fn is_contiguous(&self) -> bool {
        !self.io.is_write_vectored()
    }

    /// Takes a buffer to read into.
    pub(super) fn keep(&mut self, buffer: Option<Box<Input>>) {
        if let Some(buffer) = buffer {
            self.buffer = Some(buffer);
        }
    }

    /// Reads once. Ready with what came, `None` at the end of the stream.
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

    /// Reads once to the place of a large payload, and returns how many bytes came, none at the end
    /// of the stream.
    pub(super) fn poll_read_large(
        &mut self,
        cx: &mut Context<'_>,
        mut rooms: ReadBuffers<'_>,
    ) -> Poll<io::Result<usize>> {
        self.io.poll_read_vectored(cx, rooms.slices())
    }

    /// Reads bytes, throws them away, and returns how many they were.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buffer = self.buffer.get_or_insert_with(Input::shared);
        buffer.poll_fill(&mut self.io, cx)
    }

    /// Writes some of the output. Ready with what that made room for, which is nothing when there
    /// is nothing left to write.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Load>> {
        if self.output.is_empty() {
            if self.unflushed {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Ready(Ok(Load::default()));
        }
        let written = match self.output.only_slice() {
            Some(slice) => ready!(self.io.poll_write_eagerly(cx, slice))?,
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let slices = self.output.slices(&mut slices);
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?
            }
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        Poll::Ready(Ok(self.output.advance(written)))
    }

    /// Writes some of the output to a TCP socket that is not known to be writable, and returns what
    /// that made room for.
    pub(super) fn write_without_readiness(&mut self) -> io::Result<Load> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let written = self
            .io
            .write_without_readiness(self.output.slices(&mut slices))?;
        self.unflushed |= written > 0;
        Ok(self.output.advance(written))
    }

    /// Ready when the peer has ended its half of the stream, with an error when it is gone, as far
    /// as the stream knows without being read.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_gone(cx)
    }

    /// Returns whether the stream is one of TCP.
    pub(super) fn is_tcp(&self) -> bool {
        self.io.tcp().is_some()
    }

    /// Ends the writing half of the stream, which leaves the reading half open.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Gives the shared buffers back; to be called when a poll ends.
    pub(super) fn rest(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            buffer.give_back();
        }
        self.output.release_memory();
    }
}
