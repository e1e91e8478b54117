//! Connects to the addresses of a host, and uses the first connection.
//!
//! Source: [RFC 8305 §4 and §5](https://www.rfc-editor.org/rfc/rfc8305#section-4).

use std::{error::Error, fmt, future::Future, io, net::SocketAddr, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// The time between the starts of two attempts: the Connection Attempt Delay of RFC 8305 §5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Resolves `host` and connects to one of its addresses.
pub(super) async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?;
    race(interleave(addresses), TcpStream::connect).await
}

/// Alternates IPv4 and IPv6 addresses, beginning with the family of the first address.
///
/// Keeps the order within a family, because the resolver has sorted it (RFC 6724).
fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.into_iter().collect();
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (same, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first_is_v4);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    while same.len() + other.len() > 0 {
        mixed.extend(same.next());
        mixed.extend(other.next());
    }
    mixed
}

/// Returns the first connection to one of `addresses`, and drops all other attempts.
///
/// The next attempt starts 250 ms after the previous one, or as soon as an attempt fails.
async fn race<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut addresses = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = addresses.next() {
            let attempt = connect(address);
            attempts.push(async move { attempt.await.map_err(|error| (address, error)) });
        }
        let ended = if addresses.len() == 0 {
            attempts.next().await
        } else {
            match timeout(ATTEMPT_DELAY, attempts.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(failure)) => failures.push(failure),
            None => return Err(Unreachable { failures }.into()),
        }
    }
}

/// The error if no address could be connected.
#[derive(Debug)]
struct Unreachable {
    /// Ordered by the time of the failure.
    failures: Vec<(SocketAddr, io::Error)>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failures.is_empty() {
            return f.write_str("the host has no address");
        }
        for (index, (address, error)) in self.failures.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

impl Error for Unreachable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let (_, error) = self.failures.first()?;
        Some(error)
    }
}

impl From<Unreachable> for io::Error {
    fn from(unreachable: Unreachable) -> Self {
        let first = unreachable.failures.first();
        let kind = first.map_or(io::ErrorKind::NotFound, |(_, error)| error.kind());
        Self::new(kind, unreachable)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending, io::ErrorKind};

    use tokio::time::{Instant, sleep};

    use super::*;

    /// The duration of an attempt in milliseconds, and its result.
    type Outcome = (u64, Result<(), ErrorKind>);

    const NEVER: u64 = u64::MAX;

    fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], number as u16))
    }

    /// Races attempts with these outcomes. Returns the result, its time, and the start time of each attempt.
    async fn raced(outcomes: &[Outcome]) -> (io::Result<usize>, u64, Vec<u64>) {
        let begin = Instant::now();
        let since = || begin.elapsed().as_millis() as u64;
        let begun = RefCell::new(Vec::new());
        let result = race((0..outcomes.len()).map(address).collect(), |address| {
            begun.borrow_mut().push(since());
            let number = usize::from(address.port());
            let (after, outcome) = outcomes[number];
            async move {
                if after == NEVER {
                    return pending().await;
                }
                sleep(Duration::from_millis(after)).await;
                outcome.map(|()| number).map_err(io::Error::from)
            }
        })
        .await;
        (result, since(), begun.into_inner())
    }

    const DEAD: Outcome = (NEVER, Ok(()));
    const REFUSED: Outcome = (1, Err(ErrorKind::ConnectionRefused));

    #[tokio::test(start_paused = true)]
    async fn tries_the_next_address_after_250_ms() {
        let (result, took, begun) = raced(&[DEAD, (10, Ok(()))]).await;
        assert_eq!((result.unwrap(), took), (1, 260));
        assert_eq!(begun, [0, 250]);
        let (result, took, begun) = raced(&[DEAD, DEAD, DEAD, (0, Ok(()))]).await;
        assert_eq!((result.unwrap(), took), (3, 750));
        assert_eq!(begun, [0, 250, 500, 750]);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_the_next_address_at_once_when_one_fails() {
        let (result, took, begun) = raced(&[REFUSED, REFUSED, (5, Ok(()))]).await;
        assert_eq!((result.unwrap(), took), (2, 7));
        assert_eq!(begun, [0, 1, 2]);
        // A late failure of an earlier attempt starts the next one, and the 250 ms count from there.
        let late = (300, Err(ErrorKind::HostUnreachable));
        let (_, _, begun) = raced(&[late, DEAD, DEAD, (0, Ok(()))]).await;
        assert_eq!(begun, [0, 250, 300, 550]);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_no_other_address_if_the_first_one_answers_soon() {
        let (result, took, begun) = raced(&[(249, Ok(())), (0, Ok(()))]).await;
        assert_eq!((result.unwrap(), took), (0, 249));
        assert_eq!(begun, [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn uses_a_slow_first_address_if_the_second_one_is_slower() {
        let (result, took, _) = raced(&[(400, Ok(())), (200, Ok(()))]).await;
        assert_eq!((result.unwrap(), took), (0, 400));
    }

    #[tokio::test(start_paused = true)]
    async fn drops_all_other_attempts() {
        struct Held<'a>(&'a RefCell<usize>);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                *self.0.borrow_mut() -= 1;
            }
        }

        let held = RefCell::new(0);
        let won = race((0..3).map(address).collect(), |address| {
            *held.borrow_mut() += 1;
            let held = Held(&held);
            async move {
                if address.port() < 2 {
                    pending::<()>().await;
                }
                Ok(held)
            }
        });
        let won = won.await.unwrap();
        assert_eq!(*held.borrow(), 1, "only the winner is left");
        drop(won);
    }

    #[tokio::test(start_paused = true)]
    async fn names_each_address_and_its_failure_when_all_fail() {
        let unreachable = (0, Err(ErrorKind::HostUnreachable));
        let (result, ..) = raced(&[REFUSED, unreachable]).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(
            error.to_string(),
            "192.0.2.1:0: connection refused; 192.0.2.1:1: host unreachable"
        );
        let (result, ..) = raced(&[]).await;
        assert_eq!(result.unwrap_err().to_string(), "the host has no address");
    }

    #[test]
    fn alternates_address_families() {
        let mixed = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap());
            let mixed = interleave(addresses.collect::<Vec<_>>());
            mixed.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            mixed(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]),
            ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]
        );
        assert_eq!(
            mixed(&["1.0.0.1:1", "1.0.0.2:1", "[::1]:1"]),
            ["1.0.0.1:1", "[::1]:1", "1.0.0.2:1"]
        );
        assert_eq!(mixed(&["[::2]:1", "[::1]:1"]), ["[::2]:1", "[::1]:1"]);
        assert_eq!(mixed(&[]), [""; 0]);
    }
}
