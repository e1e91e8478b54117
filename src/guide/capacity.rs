//! Capacity: how many connections and rooms one machine holds (feature `hub`).
//!
//! All figures were measured on Linux, with a server of one thread. The commands are below.
//!
//! # 10,000 members in one room
//!
//! | | |
//! | --- | --- |
//! | resident memory of the connections and memberships | 23 MiB |
//! | `send` of 100 bytes returns after | 30 µs |
//! | the server's CPU time for all members | 78 ms |
//! | the last member has the message after | 79 ms |
//!
//! Each member needs a write to its socket. Messages of a burst share the writes. Over TCP the room writes itself, so
//! the task of a member that only listens is not woken. `benches/README.md` has the deliveries per second of one core.
//!
//! # Memory of idle connections
//!
//! Each is a TCP connection under axum, with [`without_request`](crate::WebSocketLayer::without_request), in bytes:
//!
//! | A connection in | Allocated | Resident |
//! | --- | ---: | ---: |
//! | no room | 1,677 | 2,129 |
//! | a room with all others | 1,859 | 2,256 |
//! | ten rooms with all others | 3,105 | 3,518 |
//! | a room of its own | 2,244 | 2,589 |
//!
//! So a membership costs about 140 bytes, the first one of a TCP connection 45 more, and a room another 385. A MiB
//! holds 1,850 rooms with a member each. Add the
//! value of the member, and the variables that the handler holds across an `.await`.
//!
//! The kernel needs another 4.5 KB for each connection. It is not a part of the process: `Slab` in `/proc/meminfo` has
//! it.
//!
//! # Memory of slow members
//!
//! A room keeps its backlog once, and each slow member has at most 64 KiB in its own outbox. Measured in memory, on
//! connections that hold 4 KiB:
//!
//! | | At most |
//! | --- | ---: |
//! | one of 200 members is stopped, 5,000 messages of 100 bytes a second for a minute | 390 KiB |
//! | 300 of 1,000 members are stopped, messages of 1 KiB | 3.4 MiB; 19 MiB wait in outboxes, which share their frames |
//!
//! Members that stop at different messages share less: the memory of many slow clients is at most that of their
//! outboxes. A smaller [`max_outbox`](crate::Config::max_outbox) or
//! [`Connections::max_buffered`](crate::Connections::max_buffered) bounds it.
//!
//! # Limits of the machine
//!
//! | Limit | Usual value | To see and to raise it |
//! | --- | --- | --- |
//! | [`Connections::max_connections`](crate::Connections::max_connections) | 10,000 | the 10,001st gets a 503 |
//! | open files of a process | 1,024 | `ulimit -n`, `LimitNOFILE=` of systemd; `accept` fails with "too many open files" |
//! | connections that wait for `accept` | 4,096 | `sysctl net.core.somaxconn`, and the argument of `listen`; `ss -ltn`, column `Recv-Q` |
//! | ports of one client, or of a proxy, to one address of the server | 28,232 | `sysctl net.ipv4.ip_local_port_range`; more addresses or ports of the server |
//! | memory of TCP, in pages of 4 KiB | a share of all memory | `sysctl net.ipv4.tcp_mem`; `/proc/net/sockstat`, field `mem` |
//!
//! A server's port is no limit: all its connections share it. An idle connection has empty buffers in the kernel. A
//! slow one fills its send buffer, up to 4 MiB (`sysctl net.ipv4.tcp_wmem`). `ss -tm` shows it for each connection: in
//! `skmem`, `t` has the waiting bytes and `tb` the limit.
//!
//! # Measure it yourself
//!
//! ```text
//! ulimit -n 20000
//! cargo test --release --features hub --test hub_capacity -- 10000
//! cargo test --release --features hub --test hub_memory
//! ```
