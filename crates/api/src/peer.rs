//! Who is at the other end of a loopback connection, and who holds a port.
//!
//! Linux says in `/proc/net/tcp` which user each socket belongs to. Elsewhere nothing is known,
//! and nothing is claimed: then TCP is open to every user of the machine, which is why files and
//! management are never served there.

use std::fmt;
use std::net::SocketAddr;

/// One line of the kernel's table of TCP sockets.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    local: (Vec<u8>, u16),
    remote: (Vec<u8>, u16),
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
    /// The system doesn't tell.
    Unknown,
}

/// Finds the owner of the far end of an accepted loopback connection.
pub(crate) fn owner(peer: SocketAddr, own: SocketAddr) -> Peer {
    // The kernel hands the table out in pieces, so a row can be missed while others come and go.
    for _ in 0..3 {
        match find_owner(&tables(), peer, own) {
            Peer::Unknown => {}
            known => return known,
        }
    }
    Peer::Unknown
}

fn find_owner(tables: &[String], peer: SocketAddr, own: SocketAddr) -> Peer {
    let found = tables.iter().flat_map(|table| table.lines()).filter_map(parse).find(|row| {
        row.local.1 == peer.port()
            && row.remote.1 == own.port()
            && is_loopback(&row.local.0)
            && is_loopback(&row.remote.0)
    });
    match found {
        None => Peer::Unknown,
        Some(row) if row.inode == 0 => Peer::Gone,
        Some(row) => Peer::User(row.uid),
    }
}

fn tables() -> Vec<String> {
    // A program may speak to 127.0.0.1 through an IPv6 socket.
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// 127.0.0.0/8, ::1, or the former written as IPv6. The kernel prints 32-bit words in its own order.
fn is_loopback(address: &[u8]) -> bool {
    match address {
        [127, _, _, _] => true,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, _, _, _] => true,
        [rest @ .., 1] => rest.len() == 15 && rest.iter().all(|byte| *byte == 0),
        _ => false,
    }
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

fn endpoint(text: &str) -> Option<(Vec<u8>, u16)> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    Some((bytes, u16::from_str_radix(port, 16).ok()?))
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
        .find(|row| row.listening && row.local.1 == port)
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

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:1E61 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41 1 0 100 0 0 10 0\n\
   1: 0100007F:C001 0100007F:1E61 01 00000000:00000000 00:00000000 00000000  1001        0 42 1 0 20 4 30 10 -1\n\
   2: 0100007F:1E61 0100007F:C001 01 00000000:00000000 00:00000000 00000000  1000        0 43 1 0 20 4 30 10 -1\n\
   3: 0100007F:C002 0100007F:1E61 06 00000000:00000000 03:00000F6B 00000000     0        0 0 3 0\n";
    const TABLE6: &str = "   0: 0000000000000000FFFF00000100007F:C003 0000000000000000FFFF00000100007F:1E61 01 \
00000000:00000000 00:00000000 00000000  1002        0 44 1 0 20 4 30 10 -1\n";

    #[test]
    fn the_owner_of_the_far_end_is_found() {
        let tables = [TABLE.to_string(), TABLE6.to_string()];
        let own: SocketAddr = "127.0.0.1:7777".parse().expect("address");
        for (port, expected) in
            [(0xC001, Peer::User(1001)), (0xC002, Peer::Gone), (0xC003, Peer::User(1002)), (0xC004, Peer::Unknown)]
        {
            let peer = SocketAddr::from(([127, 0, 0, 1], port));
            assert_eq!(find_owner(&tables, peer, own), expected, "{port:x}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    #[expect(clippy::disallowed_methods, reason = "the test itself is the far end")]
    fn this_process_is_seen_by_the_kernel() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let own = listener.local_addr().expect("address");
        let client = std::net::TcpStream::connect(own).expect("connect");
        let peer = owner(client.local_addr().expect("address"), own);
        assert_eq!(peer, Peer::User(rustix::process::geteuid().as_raw()));
        let Holder::Program { pid, .. } = holder(own.port()) else { panic!("holder of our own port") };
        assert_eq!(pid, std::process::id());
    }

    #[test]
    fn a_line_that_is_cut_off_is_no_row() {
        for line in ["", "x", "0: 0100007F:1E61", "0: 01:ZZ 01:02 0A 0 0 0 0 0 0"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
