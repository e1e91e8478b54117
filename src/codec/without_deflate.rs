//! Replaces the module `deflate` when the feature `deflate` is off. Its types have the same methods, but no values.
//! So the other modules need no `cfg`.

#[cfg(feature = "hub")]
use std::convert::Infallible;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::{Mask, Violation, assembly::Assembly};
use crate::{handshake::extension::Unacceptable, words::Message};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deflate {}

impl Deflate {
    pub(crate) fn accept(&self, _: &HeaderMap) -> Option<(Deflation, HeaderValue)> {
        match *self {}
    }

    pub(crate) fn offer(&self) -> Option<HeaderValue> {
        match *self {}
    }

    pub(crate) fn confirm(&self, _: &HeaderMap) -> Result<Option<Deflation>, Unacceptable> {
        match *self {}
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deflation {}

#[cfg(feature = "hub")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Form(Infallible);

#[cfg(feature = "hub")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sharing {}

#[cfg(feature = "hub")]
impl Sharing {
    pub(crate) const fn form(self) -> Form {
        match self {}
    }

    pub(crate) const fn applies_to(self, _: usize) -> bool {
        match self {}
    }
}

impl Deflation {
    #[cfg(feature = "hub")]
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        match *self {}
    }

    pub(crate) fn applies_to(&self, _: usize) -> bool {
        match *self {}
    }
}

#[derive(Debug)]
pub(super) enum Inflation {}

impl Inflation {
    pub(super) fn new(deflation: Deflation) -> Self {
        match deflation {}
    }

    pub(super) fn append(
        &mut self,
        _: &[u8],
        _: &mut Mask,
        _: &mut Assembly,
        _: usize,
    ) -> Result<usize, Violation> {
        match *self {}
    }

    pub(super) fn finish(&mut self, _: &mut Assembly, _: usize) -> Result<(), Violation> {
        match *self {}
    }

    pub(super) fn begin_joining(&mut self, _: Box<Assembly>) {
        match *self {}
    }

    pub(super) fn join(&mut self) -> Result<Option<Message>, Violation> {
        match *self {}
    }

    pub(super) fn is_paused(&self) -> bool {
        match *self {}
    }

    pub(super) fn set_budget(&mut self, _: usize) {
        match *self {}
    }

    pub(super) fn budget(&self) -> usize {
        match *self {}
    }

    pub(super) fn take_work(&mut self) -> usize {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Compression {}

impl Compression {
    pub(crate) fn new(deflation: Deflation) -> Self {
        match deflation {}
    }

    #[cfg(feature = "hub")]
    pub(crate) fn in_form(form: Form) -> Box<Self> {
        match form.0 {}
    }

    pub(crate) fn compress(&mut self, _: &[u8], _: &mut usize) -> Poll<Option<Bytes>> {
        match *self {}
    }

    #[cfg(test)]
    pub(crate) fn compress_at_once(&mut self, _: &[u8]) -> Option<Bytes> {
        match *self {}
    }
}
