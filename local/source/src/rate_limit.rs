//! Limits the users per client address and window as the real API does: windows begin at the same time for every client, and
//! the request that exceeds the limit is still answered; the next one is not.

use std::{collections::HashMap, net::IpAddr, time::Duration};

#[derive(Debug)]
pub(crate) struct RateLimit {
    /// 0: no limit.
    users: u64,
    window: Duration,
    current_window: u128,
    users_by_client: HashMap<IpAddr, u64>,
}

/// The users that a client has received in this window.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exceeded(pub(crate) u64);

impl RateLimit {
    pub(crate) fn new(users: u64, window: Duration) -> Self {
        Self {
            users,
            window,
            current_window: 0,
            users_by_client: HashMap::new(),
        }
    }

    /// Counts a request. `now` is the time since the server started.
    pub(crate) fn admit(&mut self, client: IpAddr, users: u32, now: Duration) -> Result<(), Exceeded> {
        if self.users == 0 {
            return Ok(());
        }
        let window = now.as_nanos() / self.window.as_nanos().max(1);
        if window != self.current_window {
            self.current_window = window;
            self.users_by_client.clear();
        }
        let received = self.users_by_client.entry(client.to_canonical()).or_default();
        if *received >= self.users {
            return Err(Exceeded(*received));
        }
        *received += u64::from(users);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    #[test]
    fn a_client_is_refused_once_it_has_reached_the_limit() {
        // Seconds since the start, client, requested users, and the users received where the request is refused.
        let requests = [
            (0, "10.0.0.1", 5_000, None),
            (1, "10.0.0.1", 5_000, None),
            (2, "10.0.0.1", 5_000, None),
            (3, "10.0.0.1", 4_999, None),
            // One user below the limit, so this request is still answered in full.
            (4, "10.0.0.1", 5_000, None),
            (5, "10.0.0.1", 1, Some(24_999)),
            // A refusal does not count.
            (6, "10.0.0.1", 1, Some(24_999)),
            // Another client has its own count; the same address mapped to IPv6 is the same client.
            (7, "10.0.0.2", 5_000, None),
            (8, "::ffff:10.0.0.1", 1, Some(24_999)),
            (299, "10.0.0.1", 1, Some(24_999)),
            // The next window.
            (300, "10.0.0.1", 5_000, None),
        ];
        let mut limit = RateLimit::new(20_000, WINDOW);
        for (second, client, users, refused) in requests {
            let answer = limit.admit(client.parse().unwrap(), users, Duration::from_secs(second));
            let expected = refused.map_or(Ok(()), |received| Err(Exceeded(received)));
            assert_eq!(answer, expected, "{client} at {second} s");
        }
    }

    #[test]
    fn a_limit_of_0_admits_every_request() {
        let mut limit = RateLimit::new(0, WINDOW);
        for _ in 0..100 {
            let client = "10.0.0.1".parse().unwrap();
            assert_eq!(limit.admit(client, 5_000, Duration::ZERO), Ok(()));
        }
    }
}
