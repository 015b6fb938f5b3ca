//! Asks the kernel about one connection, by netlink's `sock_diag` (`man 7 sock_diag`).
//!
//! `/proc/net/tcp` says the same, but the kernel walks over all its buckets to print it: milliseconds
//! for each connection, even when hardly any exist.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
/// `struct nlmsghdr`
const HEADER_BYTES: usize = 16;
/// Of `struct inet_diag_msg`: four bytes, the addresses, three numbers, then user and inode.
const ENDS_AT: usize = HEADER_BYTES + 4;
const UID_AT: usize = HEADER_BYTES + 4 + 48 + 12;
const INODE_AT: usize = UID_AT + 4;
/// Of `struct inet_diag_req_v2`: behind four bytes and the states.
const REQUEST_ENDS_AT: usize = HEADER_BYTES + 8;
/// Two ports and two addresses of 16 bytes.
const ENDS_BYTES: usize = 2 * 2 + 2 * 16;
/// LIMIT: the kernel answers at once; if it didn't, the table is read instead.
const ANSWER_MS: u64 = 200;

/// User and inode of the socket with these ends. `None`: there is none, or this kernel can't be asked.
pub(super) fn socket_of(local: SocketAddr, remote: SocketAddr) -> Option<(u32, u64)> {
    let request = request(local, remote)?;
    let kernel =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG)).ok()?;
    sockopt::set_socket_timeout(&kernel, sockopt::Timeout::Recv, Some(Duration::from_millis(ANSWER_MS))).ok()?;
    send(&kernel, &request, SendFlags::empty()).ok()?;
    let mut answer = [0; 512];
    let (_, length) = recv(&kernel, answer.as_mut_slice(), RecvFlags::empty()).ok()?;
    read(answer.get(..length)?, request.get(REQUEST_ENDS_AT..REQUEST_ENDS_AT + ENDS_BYTES)?)
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2` with both ends filled in.
fn request(local: SocketAddr, remote: SocketAddr) -> Option<Vec<u8>> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const IPPROTO_TCP: u8 = 6;
    const LENGTH: u32 = 72;
    let family = match (local.ip(), remote.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => AF_INET,
        (IpAddr::V6(_), IpAddr::V6(_)) => AF_INET6,
        _ => return None,
    };
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and sender: one question, one answer.
    bytes.extend([0; 8]);
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    // All states.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    for end in [local, remote] {
        let mut address = [0; 16];
        match end.ip() {
            IpAddr::V4(ip) => address[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => address = ip.octets(),
        }
        bytes.extend(address);
    }
    // Any interface, any cookie.
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    Some(bytes)
}

/// INVARIANT: the socket that is told of has both ends that were asked for. Where there is no such
/// connection, the kernel tells of whoever listens on that port instead.
fn read(answer: &[u8], ends: &[u8]) -> Option<(u32, u64)> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    // Anything else is an error: most often that there is no such socket.
    if kind != SOCK_DIAG_BY_FAMILY || answer.get(ENDS_AT..ENDS_AT + ENDS_BYTES)? != ends {
        return None;
    }
    Some((number(UID_AT)?, u64::from(number(INODE_AT)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "both ends of a connection are this test's own")]
    fn the_kernel_knows_both_ends_of_a_connection_and_no_other() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (far, _) = listener.accept().expect("it arrives");
        let (one, other) = (near.local_addr().expect("bound"), far.local_addr().expect("bound"));
        let uid = rustix::process::geteuid().as_raw();
        let (here, there) = (socket_of(one, other), socket_of(other, one));
        let (Some(here), Some(there)) = (here, there) else { panic!("{here:?} {there:?}") };
        assert_eq!((here.0, there.0), (uid, uid));
        assert!(here.1 != 0 && there.1 != 0 && here.1 != there.1, "{here:?} {there:?}");
        // Nobody speaks from the listener's own port to `one`; only the listener is there.
        assert_eq!(socket_of(listener.local_addr().expect("bound"), (Ipv4Addr::LOCALHOST, 1).into()), None);
        let stranger = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), one.port()));
        assert_eq!(socket_of(stranger, other), None);
    }

    #[test]
    fn an_answer_that_is_short_or_an_error_is_none() {
        let mut answer = vec![0; 88];
        answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer[UID_AT..UID_AT + 4].copy_from_slice(&1000_u32.to_ne_bytes());
        answer[INODE_AT..INODE_AT + 4].copy_from_slice(&7_u32.to_ne_bytes());
        let ends = [3; ENDS_BYTES];
        assert_eq!(read(&answer, &ends), None);
        answer[ENDS_AT..ENDS_AT + ENDS_BYTES].copy_from_slice(&ends);
        assert_eq!(read(&answer, &ends), Some((1000, 7)));
        for length in 0..INODE_AT + 4 {
            assert_eq!(read(&answer[..length], &ends), None);
        }
        answer[4] = 2;
        assert_eq!(read(&answer, &ends), None);
    }
}
