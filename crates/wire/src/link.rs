//! Moving frames and descriptors over a Unix socket pair.

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use thiserror::Error;

/// LIMIT: the largest frame is a batch of embeddings or a prompt; a hostile length can't make us allocate more.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// LIMIT: a split model has at most this many parts per frame.
pub const FDS_MAX: usize = 32;

const HEADER_BYTES: usize = 8;
/// A single large frame shouldn't keep its memory for ever.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

#[derive(Debug, Error)]
pub enum WireError {
    #[error("the other side has closed the link")]
    Closed,
    #[error("frame of {0} bytes; at most {FRAME_BYTES_MAX} are allowed")]
    TooLarge(usize),
    #[error("{0} descriptors with one frame; at most {FDS_MAX} are allowed")]
    TooManyFds(usize),
    #[error("frame promised {promised} descriptors and brought {brought}")]
    FdsLost { promised: usize, brought: usize },
    #[error("frame header is not one of ours")]
    BadHeader,
    #[error("frame can't be read: {0}")]
    BadPayload(#[from] postcard::Error),
    #[error("link failed: {0}")]
    Io(#[from] io::Error),
}

/// A connected pair of links, close-on-exec: the daemon's end and the worker's end.
///
/// # Errors
/// When the system has no descriptor left.
pub fn pair() -> Result<(Link, Link), WireError> {
    let (a, b) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(io::Error::from)?;
    Ok((Link::new(a), Link::new(b)))
}

/// One end of a socket pair.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
}

/// The half that only sends. Cheap to hold in a thread of its own.
#[derive(Debug)]
pub struct Sender {
    stream: UnixStream,
    buffer: Vec<u8>,
}

/// The half that only receives.
#[derive(Debug)]
pub struct Receiver {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Link {
    pub fn new(fd: OwnedFd) -> Self {
        Self { stream: UnixStream::from(fd) }
    }

    pub fn into_fd(self) -> OwnedFd {
        self.stream.into()
    }

    /// # Errors
    /// When the system has no descriptor left.
    pub fn split(self) -> Result<(Sender, Receiver), WireError> {
        let other = self.stream.try_clone()?;
        Ok((Sender { stream: self.stream, buffer: Vec::new() }, Receiver { stream: other, buffer: Vec::new() }))
    }
}

impl Sender {
    /// Sends one frame; blocks while the other side's buffer is full.
    ///
    /// # Errors
    /// [`WireError::Closed`] when the other side is gone.
    pub fn send<T: Serialize>(&mut self, frame: &T) -> Result<(), WireError> {
        self.send_with_fds(frame, &[])
    }

    /// # Errors
    /// As [`Sender::send`]; [`WireError::TooManyFds`] above [`FDS_MAX`].
    pub fn send_with_fds<T: Serialize>(&mut self, frame: &T, fds: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        if fds.len() > FDS_MAX {
            return Err(WireError::TooManyFds(fds.len()));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        append(&mut buffer, frame, fds.len())?;
        send_all(self.stream.as_fd(), &buffer, fds)?;
        self.keep(buffer);
        Ok(())
    }

    /// Sends frames as one piece: the other side wakes once for all of them.
    ///
    /// # Errors
    /// As [`Sender::send`]; none is sent when one is too large.
    pub fn send_together<T: Serialize>(&mut self, frames: &[T]) -> Result<(), WireError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        frames.iter().try_for_each(|frame| append(&mut buffer, frame, 0))?;
        send_all(self.stream.as_fd(), &buffer, &[])?;
        self.keep(buffer);
        Ok(())
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= BUFFER_BYTES_KEPT {
            self.buffer = buffer;
        }
    }

    /// Wakes a [`Receiver`] of the other side with `Closed`, and our own too.
    pub fn close(&self) {
        // The other side may be gone already: then there is nothing left to close.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Adds a frame with its header.
fn append<T: Serialize>(buffer: &mut Vec<u8>, frame: &T, fds: usize) -> Result<(), WireError> {
    let start = buffer.len();
    buffer.resize(start + HEADER_BYTES, 0);
    *buffer = postcard::to_extend(frame, std::mem::take(buffer))?;
    let payload_bytes = buffer.len() - start - HEADER_BYTES;
    if payload_bytes > FRAME_BYTES_MAX {
        return Err(WireError::TooLarge(payload_bytes));
    }
    let length = u32::try_from(payload_bytes).map_err(|_| WireError::TooLarge(payload_bytes))?;
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4] = u8::try_from(fds).map_err(|_| WireError::TooManyFds(fds))?;
    Ok(())
}

fn send_all(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), WireError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut sent = 0;
    while sent < bytes.len() {
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if sent == 0 && !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(WireError::TooManyFds(fds.len()));
        }
        match sendmsg(socket, &[IoSlice::new(&bytes[sent..])], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(n) => sent += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Err(WireError::Closed),
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
    Ok(())
}

impl Receiver {
    /// Blocks for the next frame; descriptors that came with it are close-on-exec.
    ///
    /// # Errors
    /// [`WireError::Closed`] at a clean end; any other error means that the link can't be used further.
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), WireError> {
        let mut header = [0_u8; HEADER_BYTES];
        let mut fds = Vec::new();
        self.fill(&mut header, &mut fds, true)?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let promised = usize::from(header[4]);
        if header[5..] != [0, 0, 0] {
            return Err(WireError::BadHeader);
        }
        if length > FRAME_BYTES_MAX {
            return Err(WireError::TooLarge(length));
        }
        if promised > FDS_MAX {
            return Err(WireError::TooManyFds(promised));
        }
        let mut payload = std::mem::take(&mut self.buffer);
        payload.clear();
        payload.resize(length, 0);
        let filled = self.fill(&mut payload, &mut fds, false);
        self.buffer = payload;
        filled?;
        if fds.len() != promised {
            return Err(WireError::FdsLost { promised, brought: fds.len() });
        }
        let frame = postcard::from_bytes(&self.buffer)?;
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok((frame, fds))
    }

    fn fill(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, at_start: bool) -> Result<(), WireError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut filled = 0;
        while filled < bytes.len() {
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                self.stream.as_fd(),
                &mut [IoSliceMut::new(&mut bytes[filled..])],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            );
            let message = match received {
                Ok(message) => message,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::CONNRESET) => return Err(WireError::Closed),
                Err(errno) => return Err(io::Error::from(errno).into()),
            };
            for item in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = item {
                    fds.extend(received);
                }
            }
            if fds.len() > FDS_MAX {
                return Err(WireError::TooManyFds(fds.len()));
            }
            if message.bytes == 0 {
                let clean = at_start && filled == 0;
                return Err(if clean {
                    WireError::Closed
                } else {
                    io::Error::from(io::ErrorKind::UnexpectedEof).into()
                });
            }
            filled += message.bytes;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
