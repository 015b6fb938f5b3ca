//! Who is at the other end of a loopback connection, and who holds a port.
//!
//! Linux says which user each socket belongs to: by netlink about one, in `/proc/net/tcp` about all. Elsewhere nothing is known,
//! and nothing is claimed: then TCP is open to every user of the machine, which is why files and
//! management are never served there.

#[cfg(target_os = "linux")]
mod kernel;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The kernel hands its table out in pieces, so a row can be missed while others come and go.
const READS_MAX: u32 = 8;

/// One line of the kernel's table of TCP sockets.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    listening: bool,
    uid: u32,
    inode: u64,
}

/// The peer of a connection, by its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    User(u32),
    /// It has closed already, so nobody waits for a reply.
    Gone,
    /// The kernel lists connections, and this one isn't among them.
    Unlisted,
    /// The system doesn't tell of any connection.
    Unknown,
}

/// Finds the owner of the far end of an accepted loopback connection.
pub(crate) fn owner(peer: SocketAddr, own: SocketAddr) -> Peer {
    // A missing answer may mean that netlink is out of reach here, so the table has the last word.
    #[cfg(target_os = "linux")]
    if let Some((uid, inode)) = kernel::socket_of(canonical(peer), canonical(own)) {
        return found(uid, inode);
    }
    owner_in(tables, peer, own)
}

/// A socket that no program holds any more has no inode.
fn found(uid: u32, inode: u64) -> Peer {
    if inode == 0 { Peer::Gone } else { Peer::User(uid) }
}

fn owner_in(mut read: impl FnMut() -> Vec<String>, peer: SocketAddr, own: SocketAddr) -> Peer {
    for _ in 0..READS_MAX {
        let tables = read();
        if tables.is_empty() {
            return Peer::Unknown;
        }
        if let Some(row) = row_of(&tables, peer, own) {
            return found(row.uid, row.inode);
        }
    }
    Peer::Unlisted
}

/// INVARIANT: both whole addresses count, never the ports alone. Who binds our own port on another
/// loopback address has equal ports at both ends, and then our own end of the connection would be
/// taken for theirs.
fn row_of(tables: &[String], peer: SocketAddr, own: SocketAddr) -> Option<Row> {
    let (peer, own) = (canonical(peer), canonical(own));
    // Thousands of rows may lie there, of connections long closed: most are passed over unread.
    let port = format!(":{:04X} ", peer.port());
    let lines = tables.iter().flat_map(|table| table.lines()).filter(|line| line.contains(&port));
    lines.filter_map(parse).find(|row| row.local == peer && row.remote == own)
}

fn tables() -> Vec<String> {
    // A program may speak to 127.0.0.1 through an IPv6 socket.
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// One form for each address: IPv4 written as IPv6 becomes IPv4 again.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn parse(line: &str) -> Option<Row> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, state) = (endpoint(fields.next()?)?, endpoint(fields.next()?)?, fields.next()?);
    // tx:rx queues, timer, retransmits
    let mut fields = fields.skip(3);
    let uid = fields.next()?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Row { local, remote, listening: state == "0A", uid, inode })
}

fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    if !matches!(address.len(), 8 | 32) {
        return None;
    }
    let mut bytes = Vec::with_capacity(16);
    // The kernel prints 32-bit words in its own order.
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
}

/// Who holds a port, as far as this user may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    Program { name: String, pid: u32 },
    OtherUser(u32),
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Program { name, pid } => write!(f, "`{name}` (process {pid})"),
            Holder::OtherUser(uid) => write!(f, "a program of user {uid}"),
            Holder::Unknown => f.write_str("another program"),
        }
    }
}

/// Looks for the listener on `port`.
pub(crate) fn holder(port: u16) -> Holder {
    let tables = tables();
    let Some(row) = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(parse)
        .find(|row| row.listening && row.local.port() == port)
    else {
        return Holder::Unknown;
    };
    match program_of(row.inode) {
        Some((name, pid)) => Holder::Program { name, pid },
        None if row.uid != rustix::process::geteuid().as_raw() => Holder::OtherUser(row.uid),
        None => Holder::Unknown,
    }
}

fn program_of(inode: u64) -> Option<(String, u32)> {
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            if std::fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()) {
                let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some((name.trim().to_string(), pid));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of an address as this machine's kernel prints them.
    fn hex(ip: &str) -> String {
        let bytes = match ip.parse().expect("an address") {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let word = |word: &[u8]| u32::from_ne_bytes(word.try_into().expect("four bytes"));
        bytes.chunks(4).map(|bytes| format!("{:08X}", word(bytes))).collect()
    }

    fn line(local: (&str, u16), remote: (&str, u16), state: &str, uid: u32, inode: u64) -> String {
        format!(
            "   0: {}:{:04X} {}:{:04X} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0 20 4\n",
            hex(local.0),
            local.1,
            hex(remote.0),
            remote.1
        )
    }

    const OWN: (&str, u16) = ("127.0.0.1", 7777);

    /// The daemon is user 1000's. Its own end of each connection stands before the far one.
    fn sample() -> Vec<String> {
        let mut four =
            String::from("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid\n");
        four.push_str(&line(OWN, ("0.0.0.0", 0), "0A", 1000, 41));
        for (far, uid, inode) in [
            (("127.0.0.1", 0xC001), 1001, 42),
            (("127.0.0.1", 0xC002), 0, 0),
            // A stranger who bound our port on another loopback address: equal ports at both ends.
            (("127.0.0.2", 7777), 1003, 46),
            (("127.9.9.9", 7777), 1004, 48),
        ] {
            four.push_str(&line(OWN, far, "01", 1000, 90));
            four.push_str(&line(far, OWN, if inode == 0 { "06" } else { "01" }, uid, inode));
        }
        // A connection between others, with the same ports.
        four.push_str(&line(("127.0.0.3", 0xC005), ("127.0.0.4", 7777), "01", 1000, 50));
        let six = line(("::ffff:127.0.0.1", 0xC003), ("::ffff:127.0.0.1", 7777), "01", 1002, 44);
        vec![four, six]
    }

    #[test]
    fn the_owner_of_the_far_end_is_found() {
        let own: SocketAddr = "127.0.0.1:7777".parse().expect("address");
        for (peer, expected) in [
            ("127.0.0.1:49153", Peer::User(1001)),
            ("127.0.0.1:49154", Peer::Gone),
            ("127.0.0.1:49155", Peer::User(1002)),
            ("[::ffff:127.0.0.1]:49155", Peer::User(1002)),
            ("127.0.0.1:49156", Peer::Unlisted),
            ("127.0.0.2:7777", Peer::User(1003)),
            ("127.9.9.9:7777", Peer::User(1004)),
            ("127.0.0.1:7777", Peer::Unlisted),
            ("127.0.0.3:49157", Peer::Unlisted),
        ] {
            assert_eq!(owner_in(sample, peer.parse().expect("address"), own), expected, "{peer}");
        }
    }

    #[test]
    fn a_missed_row_is_looked_for_again_and_a_silent_system_knows_nothing() {
        let (peer, own) = ("127.0.0.1:49153".parse().expect("peer"), "127.0.0.1:7777".parse().expect("own"));
        let mut reads = 0;
        let late = || {
            reads += 1;
            if reads < READS_MAX { vec![String::new()] } else { sample() }
        };
        assert_eq!(owner_in(late, peer, own), Peer::User(1001));
        assert_eq!(owner_in(Vec::new, peer, own), Peer::Unknown);
    }

    #[test]
    #[cfg(target_os = "linux")]
    #[expect(clippy::disallowed_methods, reason = "the test itself is the far end")]
    fn this_process_is_seen_by_the_kernel() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let own = listener.local_addr().expect("address");
        let me = Peer::User(rustix::process::geteuid().as_raw());
        let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), own.port()));
        // Whoever was accepted must be found every time, for otherwise the owner is refused; other
        // connections come and go meanwhile, which is what makes the table's pieces miss rows.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
                let at = busy.local_addr().expect("address");
                for _ in 0..500 {
                    drop((std::net::TcpStream::connect(at), busy.accept()));
                }
            });
            for round in 0..100 {
                let client = std::net::TcpStream::connect(if round % 2 == 0 { own } else { mapped }).expect("connect");
                let (_stream, peer) = listener.accept().expect("accept");
                assert_eq!(owner(peer, own), me, "round {round}: {client:?}");
            }
        });
        let Holder::Program { pid, .. } = holder(own.port()) else { panic!("holder of our own port") };
        assert_eq!(pid, std::process::id());
    }

    #[test]
    fn a_line_that_is_cut_off_is_no_row() {
        for line in ["", "x", "0: 0100007F:1E61", "0: 01:ZZ 01:02 0A 0 0 0 0 0 0", "0: 01:01 01:02 0A 0 0 0 0 0 0 0 0"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
