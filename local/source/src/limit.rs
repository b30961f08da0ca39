//! So many users per address and window, as the real API counts: windows begin at fixed times for everybody, and the request that
//! goes beyond the limit is still answered; the next one is not.

use std::{collections::HashMap, net::IpAddr, time::Duration};

#[derive(Debug)]
pub(crate) struct Limit {
    /// 0: no limit.
    users: u64,
    window: Duration,
    current: u128,
    asked: HashMap<IpAddr, u64>,
}

/// The users an address has had in this window, where these are enough.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exceeded(pub(crate) u64);

impl Limit {
    pub(crate) fn new(users: u64, window: Duration) -> Self {
        Self {
            users,
            window,
            current: 0,
            asked: HashMap::new(),
        }
    }

    /// Counts a request. `now` is the time since the start.
    pub(crate) fn admit(&mut self, who: IpAddr, users: u32, now: Duration) -> Result<(), Exceeded> {
        if self.users == 0 {
            return Ok(());
        }
        let window = now.as_nanos() / self.window.as_nanos().max(1);
        if window != self.current {
            self.current = window;
            self.asked.clear();
        }
        let asked = self.asked.entry(who.to_canonical()).or_default();
        if *asked >= self.users {
            return Err(Exceeded(*asked));
        }
        *asked += u64::from(users);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    #[test]
    fn an_address_is_refused_once_it_has_had_its_users() {
        // Seconds since the start, address, users asked for: refused with so many?
        let story = [
            (0, "10.0.0.1", 5_000, None),
            (1, "10.0.0.1", 5_000, None),
            (2, "10.0.0.1", 5_000, None),
            (3, "10.0.0.1", 4_999, None),
            // One user short of the limit, so this one still is answered in full.
            (4, "10.0.0.1", 5_000, None),
            (5, "10.0.0.1", 1, Some(24_999)),
            // A refusal does not count.
            (6, "10.0.0.1", 1, Some(24_999)),
            // Another address has its own count; the same one in IPv6 dress has not.
            (7, "10.0.0.2", 5_000, None),
            (8, "::ffff:10.0.0.1", 1, Some(24_999)),
            (299, "10.0.0.1", 1, Some(24_999)),
            // The next window.
            (300, "10.0.0.1", 5_000, None),
        ];
        let mut limit = Limit::new(20_000, WINDOW);
        for (second, who, users, refused) in story {
            let answer = limit.admit(who.parse().unwrap(), users, Duration::from_secs(second));
            let expected = refused.map_or(Ok(()), |had| Err(Exceeded(had)));
            assert_eq!(answer, expected, "{who} at {second} s");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_no_limit() {
        let mut limit = Limit::new(0, WINDOW);
        for _ in 0..100 {
            let who = "10.0.0.1".parse().unwrap();
            assert_eq!(limit.admit(who, 5_000, Duration::ZERO), Ok(()));
        }
    }
}
