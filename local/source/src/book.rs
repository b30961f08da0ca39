//! What was asked and what was served, in bounded memory: for a test that asserts on it.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::fault::Kind;

/// Seeds with a book of their own; the one that was opened first goes.
const MAX_SEEDS: usize = 200;
/// Different pages remembered per seed; the oldest goes.
const MAX_SERVED: usize = 10_000;
/// A longer seed has no book of its own.
const MAX_SEED: usize = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counters {
    /// All requests, whatever came of them.
    pub(crate) requests: u64,
    /// Users in answers that were sent in full.
    pub(crate) users: u64,
    /// Requests that a fault has hit.
    pub(crate) faults: u64,
    pub(crate) faults_by_kind: BTreeMap<&'static str, u64>,
    /// Requests beyond the limit.
    pub(crate) limited: u64,
}

/// A page that was served, once or several times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Served {
    pub(crate) seed: String,
    pub(crate) page: u32,
    pub(crate) results: u32,
    pub(crate) times: u64,
    /// The query for `/admin/users` which gives the same users again.
    pub(crate) query: String,
}

#[derive(Debug, Default)]
struct Book {
    counters: Counters,
    served: VecDeque<Served>,
    last: Option<String>,
    dropped: u64,
}

/// One book per seed that was asked for, one for all requests without.
#[derive(Debug, Default)]
pub(crate) struct Books {
    total: Counters,
    by_seed: BTreeMap<String, Book>,
    opened: VecDeque<String>,
    unseeded: Book,
    /// Takes what finds no book.
    waste: Book,
}

impl Books {
    pub(crate) fn requested(&mut self, seed: Option<&str>) {
        self.count(seed, |counters| counters.requests += 1);
    }

    pub(crate) fn limited(&mut self, seed: Option<&str>) {
        self.count(seed, |counters| counters.limited += 1);
    }

    pub(crate) fn faulted(&mut self, seed: Option<&str>, kind: Kind) {
        self.count(seed, |counters| {
            counters.faults += 1;
            *counters.faults_by_kind.entry(kind.as_str()).or_default() += 1;
        });
    }

    /// `seed` is the one that was asked for, `served.seed` the one that was used.
    pub(crate) fn served(&mut self, seed: Option<&str>, served: Served) {
        let users = u64::from(served.results);
        self.count(seed, |counters| counters.users += users);
        let book = self.book(seed);
        book.last = Some(served.query.clone());
        let known = book.served.iter_mut().rev();
        if let Some(known) = known.into_iter().find(|known| known.query == served.query) {
            known.times += served.times;
            return;
        }
        if book.served.len() >= MAX_SERVED {
            book.served.pop_front();
            book.dropped += 1;
        }
        book.served.push_back(served);
    }

    /// The query that was served last.
    pub(crate) fn last(&self, seed: Option<&str>) -> Option<String> {
        self.read(seed).and_then(|book| book.last.clone())
    }

    /// What was served, in the order of its first time, and how much of it is forgotten.
    pub(crate) fn list(&self, seed: Option<&str>) -> (Vec<Served>, u64) {
        self.read(seed)
            .map_or_else(Default::default, |book| (book.served.iter().cloned().collect(), book.dropped))
    }

    pub(crate) fn total(&self) -> Counters {
        self.total.clone()
    }

    pub(crate) fn of_seed(&self, seed: &str) -> Counters {
        let book = self.by_seed.get(seed);
        book.map_or_else(Counters::default, |book| book.counters.clone())
    }

    pub(crate) fn by_seed(&self) -> BTreeMap<String, Counters> {
        let books = self.by_seed.iter();
        books.map(|(seed, book)| (seed.clone(), book.counters.clone())).collect()
    }

    fn count(&mut self, seed: Option<&str>, count: impl Fn(&mut Counters)) {
        count(&mut self.total);
        count(&mut self.book(seed).counters);
    }

    fn read(&self, seed: Option<&str>) -> Option<&Book> {
        match seed {
            None => Some(&self.unseeded),
            Some(seed) => self.by_seed.get(seed),
        }
    }

    fn book(&mut self, seed: Option<&str>) -> &mut Book {
        let Some(seed) = seed else {
            return &mut self.unseeded;
        };
        if seed.len() > MAX_SEED {
            self.waste = Book::default();
            return &mut self.waste;
        }
        if !self.by_seed.contains_key(seed) {
            if self.opened.len() >= MAX_SEEDS
                && let Some(oldest) = self.opened.pop_front()
            {
                self.by_seed.remove(&oldest);
            }
            self.opened.push_back(seed.to_owned());
        }
        self.by_seed.entry(seed.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(seed: &str, page: u32) -> Served {
        Served {
            seed: seed.into(),
            page,
            results: 10,
            times: 1,
            query: format!("seed={seed}&page={page}"),
        }
    }

    #[test]
    fn a_page_served_again_is_one_entry_with_its_times() {
        let mut books = Books::default();
        books.served(Some("abc"), page("abc", 1));
        books.served(Some("abc"), page("abc", 2));
        books.served(Some("abc"), page("abc", 1));

        let (served, dropped) = books.list(Some("abc"));
        let told: Vec<_> = served.iter().map(|one| (one.page, one.times)).collect();
        assert_eq!(told, [(1, 2), (2, 1)]);
        assert_eq!(dropped, 0);
        assert_eq!(books.last(Some("abc")).unwrap(), "seed=abc&page=1");
        assert_eq!(books.of_seed("abc").users, 30);
        assert_eq!(books.total().users, 30);
    }

    #[test]
    fn seeds_do_not_disturb_each_other() {
        let mut books = Books::default();
        books.requested(Some("abc"));
        books.requested(None);
        books.faulted(Some("xyz"), Kind::Hang);

        assert_eq!(books.of_seed("abc").requests, 1);
        assert_eq!(books.of_seed("abc").faults, 0);
        assert_eq!(books.of_seed("xyz").faults_by_kind["hang"], 1);
        assert_eq!(books.total().requests, 2);
        assert_eq!(books.list(Some("nobody")), (Vec::new(), 0));
    }

    #[test]
    fn memory_is_bounded_and_says_what_it_forgot() {
        let mut books = Books::default();
        for number in 0..10_003 {
            books.served(None, page("any", number));
        }
        let (served, dropped) = books.list(None);
        assert_eq!((served.len(), served[0].page, dropped), (MAX_SERVED, 3, 3));

        for number in 0..=MAX_SEEDS {
            books.requested(Some(&number.to_string()));
        }
        books.requested(Some(&"x".repeat(MAX_SEED + 1)));
        assert_eq!(books.by_seed().len(), MAX_SEEDS);
        assert_eq!(books.of_seed("0").requests, 0, "the first went");
        assert_eq!(books.total().requests, 202);
    }
}
