//! Records requests and served pages in bounded memory, so that tests can assert on them.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::fault::FaultKind;

/// The oldest seed is dropped first.
const MAX_SEEDS: usize = 200;
/// Distinct pages per seed; the oldest is dropped first.
const MAX_SERVED: usize = 10_000;
/// Bytes. A longer seed is not recorded by itself.
const MAX_SEED_LENGTH: usize = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counters {
    /// All requests, refused and failed ones included.
    pub(crate) requests: u64,
    /// Users in complete answers.
    pub(crate) users: u64,
    /// Requests that received a fault.
    pub(crate) faults: u64,
    pub(crate) faults_by_kind: BTreeMap<&'static str, u64>,
    /// Requests refused by the rate limit.
    pub(crate) limited: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ServedPage {
    pub(crate) seed: String,
    pub(crate) page: u32,
    pub(crate) results: u32,
    pub(crate) times: u64,
    /// The query for `/admin/users` that yields the same users again.
    pub(crate) query: String,
}

#[derive(Debug, Default)]
struct SeedLog {
    counters: Counters,
    pages: VecDeque<ServedPage>,
    last_query: Option<String>,
    dropped: u64,
}

/// One log per requested seed, and one for all requests without a seed.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    total: Counters,
    by_seed: BTreeMap<String, SeedLog>,
    seeds_by_age: VecDeque<String>,
    unseeded: SeedLog,
    /// Written for seeds that are too long, and never read.
    discarded: SeedLog,
}

impl RequestLog {
    pub(crate) fn requested(&mut self, seed: Option<&str>) {
        self.count(seed, |counters| counters.requests += 1);
    }

    pub(crate) fn limited(&mut self, seed: Option<&str>) {
        self.count(seed, |counters| counters.limited += 1);
    }

    pub(crate) fn faulted(&mut self, seed: Option<&str>, kind: FaultKind) {
        self.count(seed, |counters| {
            counters.faults += 1;
            *counters.faults_by_kind.entry(kind.as_str()).or_default() += 1;
        });
    }

    /// `seed` is the requested one, `served.seed` the one the server used.
    pub(crate) fn served(&mut self, seed: Option<&str>, served: ServedPage) {
        let users = u64::from(served.results);
        self.count(seed, |counters| counters.users += users);
        let log = self.log(seed);
        log.last_query = Some(served.query.clone());
        let mut recorded = log.pages.iter_mut().rev();
        if let Some(recorded) = recorded.find(|page| page.query == served.query) {
            recorded.times += served.times;
            return;
        }
        if log.pages.len() >= MAX_SERVED {
            log.pages.pop_front();
            log.dropped += 1;
        }
        log.pages.push_back(served);
    }

    pub(crate) fn last_query(&self, seed: Option<&str>) -> Option<String> {
        self.read(seed).and_then(|log| log.last_query.clone())
    }

    /// The served pages in the order in which they were first served, and the number of dropped ones.
    pub(crate) fn served_pages(&self, seed: Option<&str>) -> (Vec<ServedPage>, u64) {
        self.read(seed)
            .map_or_else(Default::default, |log| (log.pages.iter().cloned().collect(), log.dropped))
    }

    pub(crate) fn total(&self) -> Counters {
        self.total.clone()
    }

    pub(crate) fn of_seed(&self, seed: &str) -> Counters {
        let log = self.by_seed.get(seed);
        log.map_or_else(Counters::default, |log| log.counters.clone())
    }

    pub(crate) fn by_seed(&self) -> BTreeMap<String, Counters> {
        let logs = self.by_seed.iter();
        logs.map(|(seed, log)| (seed.clone(), log.counters.clone())).collect()
    }

    fn count(&mut self, seed: Option<&str>, count: impl Fn(&mut Counters)) {
        count(&mut self.total);
        count(&mut self.log(seed).counters);
    }

    fn read(&self, seed: Option<&str>) -> Option<&SeedLog> {
        match seed {
            None => Some(&self.unseeded),
            Some(seed) => self.by_seed.get(seed),
        }
    }

    fn log(&mut self, seed: Option<&str>) -> &mut SeedLog {
        let Some(seed) = seed else {
            return &mut self.unseeded;
        };
        if seed.len() > MAX_SEED_LENGTH {
            self.discarded = SeedLog::default();
            return &mut self.discarded;
        }
        if !self.by_seed.contains_key(seed) {
            if self.seeds_by_age.len() >= MAX_SEEDS
                && let Some(oldest) = self.seeds_by_age.pop_front()
            {
                self.by_seed.remove(&oldest);
            }
            self.seeds_by_age.push_back(seed.to_owned());
        }
        self.by_seed.entry(seed.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(seed: &str, page: u32) -> ServedPage {
        ServedPage {
            seed: seed.into(),
            page,
            results: 10,
            times: 1,
            query: format!("seed={seed}&page={page}"),
        }
    }

    #[test]
    fn a_page_that_is_served_twice_is_one_entry_with_a_count_of_2() {
        let mut log = RequestLog::default();
        log.served(Some("abc"), page("abc", 1));
        log.served(Some("abc"), page("abc", 2));
        log.served(Some("abc"), page("abc", 1));

        let (served, dropped) = log.served_pages(Some("abc"));
        let counts: Vec<_> = served.iter().map(|page| (page.page, page.times)).collect();
        assert_eq!(counts, [(1, 2), (2, 1)]);
        assert_eq!(dropped, 0);
        assert_eq!(log.last_query(Some("abc")).unwrap(), "seed=abc&page=1");
        assert_eq!(log.of_seed("abc").users, 30);
        assert_eq!(log.total().users, 30);
    }

    #[test]
    fn each_seed_is_counted_by_itself() {
        let mut log = RequestLog::default();
        log.requested(Some("abc"));
        log.requested(None);
        log.faulted(Some("xyz"), FaultKind::Hang);

        assert_eq!(log.of_seed("abc").requests, 1);
        assert_eq!(log.of_seed("abc").faults, 0);
        assert_eq!(log.of_seed("xyz").faults_by_kind["hang"], 1);
        assert_eq!(log.total().requests, 2);
        assert_eq!(log.served_pages(Some("unknown")), (Vec::new(), 0));
    }

    #[test]
    fn memory_is_bounded_and_dropped_pages_are_counted() {
        let mut log = RequestLog::default();
        for number in 0..10_003 {
            log.served(None, page("any", number));
        }
        let (served, dropped) = log.served_pages(None);
        assert_eq!((served.len(), served[0].page, dropped), (MAX_SERVED, 3, 3));

        for number in 0..=MAX_SEEDS {
            log.requested(Some(&number.to_string()));
        }
        log.requested(Some(&"x".repeat(MAX_SEED_LENGTH + 1)));
        assert_eq!(log.by_seed().len(), MAX_SEEDS);
        assert_eq!(log.of_seed("0").requests, 0, "the oldest seed is dropped");
        assert_eq!(log.total().requests, 202);
    }
}
