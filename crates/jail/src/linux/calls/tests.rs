use super::{
    EXTRACT, FOREIGN, List, NAMES, RECOGNISE, SEAL, WORKER_CPU, WORKER_GPU, allow_list, entries, number, parse,
    refuse_list,
};
use crate::Filter;
use std::collections::BTreeSet;

const FILES: [(&str, &str); 6] = [
    ("worker-cpu", WORKER_CPU),
    ("worker-gpu", WORKER_GPU),
    ("extract", EXTRACT),
    ("recognise", RECOGNISE),
    ("seal", SEAL),
    ("foreign", FOREIGN),
];
/// Lists that a process of ours can be sealed under.
const FILTERS: [Filter; 3] = [Filter::WorkerCpu, Filter::WorkerGpu, Filter::Extract];
const ALL: [Filter; 4] = [Filter::WorkerCpu, Filter::WorkerGpu, Filter::Extract, Filter::Recognise];

fn lists() -> Vec<(&'static str, List)> {
    FILES.into_iter().map(|(name, text)| (name, parse(text).unwrap())).collect()
}

#[test]
fn every_entry_says_why() {
    for (name, list) in lists() {
        assert!(list.about.len() > 40, "{name} doesn't say what it is for");
        for entry in list.allow.iter().chain(&list.refuse) {
            assert!(entry.why.len() >= 8 && entry.why.ends_with('.'), "{name}: `{}` has no reason", entry.call);
            if let Some(call) = entry.why.strip_prefix("As ").and_then(|rest| rest.split([',', '.', ':']).next()) {
                let explained = lists().iter().any(|(_, list)| {
                    list.allow
                        .iter()
                        .chain(&list.refuse)
                        .any(|other| other.call == call && !other.why.starts_with("As "))
                });
                assert!(explained, "{name}: `{}` refers to `{call}`, which explains nothing", entry.call);
            }
        }
    }
}

#[test]
fn each_file_does_one_thing() {
    for (name, list) in lists() {
        let refuses = ["seal", "foreign"].contains(&name);
        assert_eq!(list.allow.is_empty(), refuses, "{name}");
        assert_eq!(list.refuse.is_empty(), !refuses, "{name}");
        assert_eq!(list.extends_worker_cpu, name == "worker-gpu", "{name}");
    }
}

#[test]
fn no_entry_stands_twice() {
    for (name, list) in lists() {
        let mut seen = BTreeSet::new();
        for entry in list.allow.iter().chain(&list.refuse) {
            assert!(seen.insert(format!("{} {:?}", entry.call, entry.when)), "{name}: `{}` stands twice", entry.call);
        }
    }
}

/// What a seal refuses and no list allows would be dead text.
#[test]
fn the_seal_refuses_only_what_a_list_allows() {
    let allowed: BTreeSet<_> =
        FILTERS.into_iter().flat_map(|filter| entries(filter).unwrap()).map(|entry| entry.call).collect();
    for entry in parse(SEAL).unwrap().refuse {
        assert!(allowed.contains(&entry.call), "`{}` is allowed by no list", entry.call);
    }
}

/// After the seal, no call that is left takes a path; drivers may ask what kind of file system one lies in.
#[test]
fn a_sealed_process_names_no_file() {
    let sealed: BTreeSet<_> =
        parse(SEAL).unwrap().refuse.into_iter().filter(|entry| entry.when.is_empty()).map(|entry| entry.call).collect();
    let paths = [
        "open",
        "openat",
        "stat",
        "lstat",
        "newfstatat",
        "statx",
        "access",
        "faccessat",
        "faccessat2",
        "readlink",
        "readlinkat",
        "statfs",
        "chdir",
        "getxattr",
        "lgetxattr",
        "listxattr",
        "name_to_handle_at",
        "inotify_add_watch",
    ];
    for filter in FILTERS {
        for entry in entries(filter).unwrap().iter().filter(|entry| paths.contains(&entry.call.as_str())) {
            let driver = filter == Filter::WorkerGpu && entry.call == "statfs";
            assert!(driver || sealed.contains(&entry.call), "{} leaves `{}`", filter.name(), entry.call);
        }
    }
}

/// Ways out of the process that no review should let in by accident.
#[test]
fn no_list_holds_a_way_out() {
    let never = [
        "socket",
        "socketpair",
        "connect",
        "bind",
        "listen",
        "accept",
        "accept4",
        "execve",
        "execveat",
        "fork",
        "vfork",
        "clone3",
        "kill",
        "tkill",
        "rt_sigqueueinfo",
        "rt_tgsigqueueinfo",
        "pidfd_open",
        "pidfd_getfd",
        "pidfd_send_signal",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "kcmp",
        "bpf",
        "perf_event_open",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "userfaultfd",
        "keyctl",
        "add_key",
        "request_key",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "unshare",
        "setns",
        "open_by_handle_at",
        "openat2",
        "creat",
        "mkdir",
        "mkdirat",
        "unlink",
        "unlinkat",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "mknod",
        "mknodat",
        "truncate",
        "chmod",
        "fchmod",
        "fchmodat",
        "chown",
        "fchown",
        "fchownat",
        "setuid",
        "setgid",
        "setreuid",
        "setresuid",
        "setgroups",
        "capset",
        "init_module",
        "finit_module",
        "kexec_load",
        "reboot",
        "personality",
        "modify_ldt",
        "iopl",
        "ioperm",
        "shmget",
        "msgget",
        "semget",
        "pkey_mprotect",
        "remap_file_pages",
        "vmsplice",
        "splice",
        "sendmmsg",
        "sendfile",
    ];
    for filter in ALL {
        for entry in entries(filter).unwrap() {
            // A program that isn't ours has to be become once; Landlock says which, and there is no other process.
            let becomes = filter == Filter::Recognise && entry.call == "execve";
            assert!(becomes || !never.contains(&entry.call.as_str()), "{} lists `{}`", filter.name(), entry.call);
        }
    }
}

/// Reading documents needs no more than running a model does.
#[test]
fn extract_is_narrower_than_the_worker() {
    let worker: BTreeSet<_> = entries(Filter::WorkerCpu).unwrap().into_iter().map(|entry| entry.call).collect();
    let extract: BTreeSet<_> = entries(Filter::Extract).unwrap().into_iter().map(|entry| entry.call).collect();
    assert!(extract.is_subset(&worker), "{:?}", extract.difference(&worker));
    assert!(extract.len() + 10 < worker.len());
}

#[test]
fn every_list_compiles_for_every_architecture() {
    for arch in ["x86_64", "aarch64"] {
        for filter in ALL {
            let program = allow_list(filter, arch).unwrap_or_else(|error| panic!("{arch} {}: {error}", filter.name()));
            assert!(program.calls > 20);
            // LIMIT: the kernel takes 4096 instructions.
            assert!(program.code.len() < 1000, "{} instructions", program.code.len());
        }
        assert!(refuse_list(SEAL, arch).unwrap().calls > 5);
        assert!(refuse_list(FOREIGN, arch).unwrap().calls > 5);
    }
}

#[test]
fn names_are_sorted_and_add_up() {
    assert!(NAMES.is_sorted());
    assert_eq!(number("PROT_EXEC|PROT_WRITE").unwrap(), 6);
    assert_eq!(number("16 | 1").unwrap(), 17);
    assert_eq!(number("OWN_PID").unwrap(), u64::from(std::process::id()));
    assert!(number("PROT_EVERYTHING").is_err());
}

#[test]
fn a_list_with_a_slip_is_refused() {
    for slip in [
        r#"{ "about": "", "allow": [{ "call": "read" }] }"#,
        r#"{ "about": "", "allow": [{ "call": "read", "why": "x", "wen": [] }] }"#,
        r#"{ "about": "", "allow": [{ "call": "read", "why": "x", "when": [{ "arg": 0, "is": "zero" }] }] }"#,
        r#"{ "about": "", "allowed": [] }"#,
    ] {
        assert!(parse(slip).is_err(), "{slip}");
    }
    for slip in [
        r#"{ "about": "", "allow": [{ "call": "raed", "why": "x" }] }"#,
        r#"{ "about": "", "allow": [{ "call": "read", "why": "x" }, { "call": "read", "why": "y" }] }"#,
        r#"{ "about": "", "allow": [{ "call": "read", "why": "x", "when": [{ "arg": 9, "is": "null" }] }] }"#,
    ] {
        let list = parse(slip).unwrap();
        assert!(super::compile(&list.allow, super::Kind::Allow, "x86_64").is_err(), "{slip}");
    }
}
