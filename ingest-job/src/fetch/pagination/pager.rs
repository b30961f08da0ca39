//! The pages of a run: what each has, and whether another one follows.

use std::{
    collections::HashSet,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher},
};

use reqwest::{StatusCode, header::LINK};
use userpipeline_api::{EmptyPage, Format, HttpSource, Pagination, PaginationType};
use userpipeline_record::{Expression, Outline, raw_at};

use super::{
    answer::{Answer, Meaning, Note, ReadPage},
    end_when, hints, next,
    no_items::{self, Evidence, Reading},
    position::{Next, Position},
    total,
};
use crate::{
    fetch::{
        body::{self, BodyError, Items},
        quote::reported_error,
    },
    outcome::{Failure, INCOMPLETE, PAGE_REPEATED, PIPELINE_INVALID, RESPONSE_INVALID},
    page::Item,
};

const FIELD: &str = "spec.source.http.pagination";
/// Where the items are in a response, by default.
const DEFAULT_ITEMS: &str = "/results";
/// A run fails after so many pages without items in a row.
const MAX_EMPTY_PAGES: u64 = 100;
/// And after so many, once the pages could have held all items of the declared total.
const MAX_EMPTY_PAGES_AFTER_TOTAL: u64 = 10;

/// Why an answer is not a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageError {
    /// The response is incomplete: the next one may not be.
    CutOff(String),
    /// The response does not match the spec, which a second one confirms.
    Wrong(Failure),
    /// Another response would be the same.
    Final(Failure),
}

/// Reads the pages of a run, in their order. An answer that is not a page changes nothing.
pub struct Pager {
    format: Format,
    pointer: String,
    /// The spec omits the pagination.
    is_default: bool,
    pagination: Pagination,
    end_when: Option<Expression>,
    pages: u64,
    items: u64,
    /// The most items that a page had.
    largest_page: u64,
    empty_in_a_row: u64,
    total: Option<u64>,
    /// Cursors and URLs that were requested, by hash.
    requested: HashSet<u64>,
    /// The items of the page before, by hash.
    last_page: Option<u64>,
}

/// What an answer says about the end.
struct Signs {
    next: Option<Position>,
    /// The value of `endWhen`.
    is_last: Option<bool>,
    total: Option<u64>,
}

impl Pager {
    pub fn new(http: &HttpSource) -> Result<Self, Failure> {
        let pagination = http.paging();
        let end_when = end_when::compile(&pagination).map_err(|e| Failure::configuration(PIPELINE_INVALID, e))?;
        Ok(Self {
            format: http.format,
            pointer: http.items.clone().unwrap_or_else(|| DEFAULT_ITEMS.to_owned()),
            is_default: http.pagination.is_none(),
            pagination,
            end_when,
            pages: 0,
            items: 0,
            largest_page: 0,
            empty_in_a_row: 0,
            total: None,
            requested: HashSet::new(),
            last_page: None,
        })
    }

    /// The position of the first page.
    pub fn first(&self) -> Position {
        next::first(&self.pagination)
    }

    /// Whether every request is the same.
    pub fn repeats(&self) -> bool {
        self.pagination.kind == PaginationType::Repeat
    }

    /// Whether this status ends the run.
    pub fn ends_on(&self, status: StatusCode) -> bool {
        self.pages > 0 && self.pagination.end_on_status.contains(&i32::from(status.as_u16()))
    }

    /// Reads the answer to the request of a position.
    pub fn read(&mut self, position: &Position, answer: &Answer) -> Result<ReadPage, PageError> {
        if answer.meaning == Meaning::End || self.ends_on(answer.status) {
            check_total(self.total, self.items, &format!("the source responded with {}", answer.status))?;
            return Ok(ReadPage {
                items: Vec::new(),
                next: Next::End,
                note: None,
            });
        }
        let found = if answer.status == StatusCode::NO_CONTENT {
            Items::Found(Vec::new())
        } else {
            body::items(&answer.body, self.format, &self.pointer).map_err(|error| match error {
                BodyError::CutOff(error) => PageError::CutOff(error),
                BodyError::Invalid(error) => wrong(error),
            })?
        };
        if answer.meaning == Meaning::Page {
            self.check_graphql_errors(answer).map_err(wrong)?;
        }
        let (items, signs) = match found {
            Items::Found(items) => {
                let signs = self.signs(position, answer, &items).map_err(wrong)?;
                (items, signs)
            }
            Items::None(found, problem) => (Vec::new(), self.without_items(found, &problem, position, answer)?),
        };
        let next = self.decide(position, answer, &signs, &items)?;
        let note = if self.pages == 0 { self.note(answer, items.len()) } else { None };
        self.record(position, answer, &signs, &items);
        Ok(ReadPage { items, next, note })
    }

    /// GraphQL responds with status 200, and with the data that it has.
    fn check_graphql_errors(&self, answer: &Answer) -> Result<(), String> {
        let has_errors = self.pointer.starts_with("/data/") && raw_at(&answer.body, "/errors/0").is_some();
        if has_errors {
            return Err(format!("the response has errors beside its data{}", reported_error(&answer.body)));
        }
        Ok(())
    }

    fn signs(&self, position: &Position, answer: &Answer, items: &[Item]) -> Result<Signs, String> {
        let is_last = self.end_when.as_ref();
        let is_last = is_last.map(|expression| end_when::is_last(expression, answer, items, self.page_number(position)));
        Ok(Signs {
            next: next::next(&self.pagination, position, answer, items)?,
            is_last: is_last.transpose()?,
            total: total::declared_total(&self.pagination, answer)?,
        })
    }

    /// The signs of a response that has no array of items, if it is an empty page.
    fn without_items(&self, found: body::NoItems, problem: &str, position: &Position, answer: &Answer) -> Result<Signs, PageError> {
        let signs = self.signs(position, answer, &[]);
        let has_next = matches!(&signs, Ok(Signs { next: Some(next), .. }) if is_from_answer(next));
        let has_end = matches!(&signs, Ok(signs) if signs.is_last.is_some() || signs.total.is_some());
        let evidence = Evidence {
            is_first: self.pages == 0,
            has_next,
            has_end,
            declares_end: self.pagination.has_declared_end(),
        };
        match no_items::read(found, problem, &Outline::of(&answer.body), evidence) {
            Reading::Empty => signs.map_err(wrong),
            Reading::Mistake(message) => Err(PageError::Final(Failure::configuration(RESPONSE_INVALID, message))),
            Reading::Wrong(message) => Err(wrong(message + &reported_error(&answer.body))),
        }
    }

    /// What follows a page.
    fn decide(&self, position: &Position, answer: &Answer, signs: &Signs, items: &[Item]) -> Result<Next, PageError> {
        if matches!(self.pagination.kind, PaginationType::Single | PaginationType::Repeat) {
            return Ok(signs.next.clone().map_or(Next::End, Next::At));
        }
        self.check_repeated_page(items)?;
        let fetched = self.fetched(items);
        let total = signs.total.or(self.total);
        let has_all = total.is_some_and(|total| fetched >= total);
        let is_short = self
            .pagination
            .page_size
            .is_some_and(|size| count(items) < u64::try_from(size).unwrap_or(0));
        if has_all || is_short || signs.is_last == Some(true) {
            check_total(total, fetched, "pagination.endWhen is true")?;
            return Ok(Next::End);
        }
        if items.is_empty() && self.empty_page() == EmptyPage::End {
            check_total(total, fetched, "it returned a page without items")?;
            return Ok(Next::End);
        }
        self.check_empty_pages(total, fetched, items)?;
        match &signs.next {
            None => self.end_without_next(signs.is_last, total, fetched, items),
            Some(next) => {
                let is_same = next == position || *next == Position::Url(answer.url.clone());
                if is_same && items.is_empty() && self.items > 0 {
                    // The source has nothing after the cursor.
                    return self.end_without_next(signs.is_last, total, fetched, items);
                }
                self.check_repeated_position(is_same, next)
            }
        }
    }

    /// The page has no next cursor or URL, or an offset cannot advance.
    fn end_without_next(&self, is_last: Option<bool>, total: Option<u64>, fetched: u64, items: &[Item]) -> Result<Next, PageError> {
        check_total(total, fetched, "the response has no next page")?;
        let from_items = self.pagination.cursor_from_last_item.is_some() || self.pagination.kind == PaginationType::Offset;
        // A source without any item has an end that no status announces.
        let has_none = self.pages == 0 && is_last.is_none();
        if from_items && items.is_empty() && !has_none {
            let hint = match self.pagination.kind {
                PaginationType::Offset => "set step, by which such a page advances the offset",
                _ => "a page without items has no last item: set emptyPage: End if it is the last page",
            };
            return Err(incomplete(format!(
                "a page without items is not the declared end of {FIELD}: {hint}"
            )));
        }
        if is_last == Some(false) {
            let message = format!("{FIELD}.endWhen is false, but the response has no next page: extend the expression if that is the end");
            return Err(incomplete(message));
        }
        Ok(Next::End)
    }

    /// `is_same`: the page leads to itself.
    fn check_repeated_position(&self, is_same: bool, next: &Position) -> Result<Next, PageError> {
        let is_known = is_same || (is_from_answer(next) && self.requested.contains(&hash(next)));
        if !is_known {
            return Ok(Next::At(next.clone()));
        }
        let what = match next {
            Position::Url(_) => "URL of the next page",
            Position::Cursor(_) => "cursor",
            _ => "position",
        };
        Err(repeated(format!(
            "page {} leads to a page that the run has already requested, by the same {what}: \
             check that the source reads the cursor ({FIELD}), or declare the end, for example with endWhen",
            self.pages + 1
        )))
    }

    fn check_repeated_page(&self, items: &[Item]) -> Result<(), PageError> {
        if items.is_empty() || self.last_page != Some(hash_items(items)) {
            return Ok(());
        }
        let page = self.pages + 1;
        Err(repeated(format!(
            "page {page} has the same items as page {}: the source ignores the position that {FIELD} sends, \
             or returns its last page again; check where the position is sent, or declare the end, for example with pageSize, endWhen or totalFrom",
            page - 1
        )))
    }

    /// Ends a run that only collects empty pages.
    fn check_empty_pages(&self, total: Option<u64>, fetched: u64, items: &[Item]) -> Result<(), PageError> {
        if !items.is_empty() {
            return Ok(());
        }
        let empty = self.empty_in_a_row + 1;
        let pages = self.pages + 1;
        let may_hold = |total: u64| self.largest_page > 0 && pages.saturating_mul(self.largest_page) >= total;
        if empty >= MAX_EMPTY_PAGES_AFTER_TOTAL && total.is_some_and(may_hold) {
            return check_total(total, fetched, &format!("the source returned {empty} pages without items in a row"));
        }
        if empty < MAX_EMPTY_PAGES {
            return Ok(());
        }
        Err(incomplete(format!(
            "the source returned {empty} pages without items in a row, and the declared end of {FIELD} was not reached"
        )))
    }

    /// The number of items up to this page, those before the first page included.
    fn fetched(&self, items: &[Item]) -> u64 {
        let first_page = if self.pages == 0 { count(items) } else { self.largest_page };
        total::items_before_first(&self.pagination, &self.first(), first_page) + self.items + count(items)
    }

    fn empty_page(&self) -> EmptyPage {
        let follows_answer = matches!(
            self.pagination.kind,
            PaginationType::Cursor | PaginationType::Link | PaginationType::NextUrl
        ) && self.pagination.cursor_from_last_item.is_none();
        let default = if follows_answer || self.pagination.has_declared_end() {
            EmptyPage::Continue
        } else {
            EmptyPage::End
        };
        self.pagination.empty_page.unwrap_or(default)
    }

    /// The number of the page in the source, counted from 1.
    fn page_number(&self, position: &Position) -> i64 {
        match (self.pagination.kind, position) {
            (PaginationType::Page, Position::Number(number)) => number + i64::from(self.pagination.start == Some(0)),
            _ => i64::try_from(self.pages + 1).unwrap_or(i64::MAX),
        }
    }

    fn note(&self, answer: &Answer, items: usize) -> Option<Note> {
        let lacks_link = self.pagination.kind == PaginationType::Link && !answer.headers.contains_key(LINK);
        if !lacks_link && !self.is_default {
            return None;
        }
        let hint = hints::looks_paged(answer, items);
        let link = lacks_link.then(|| "the first response had no header Link, so the run has one page".to_owned());
        let text = match (&link, &hint) {
            (Some(link), Some(hint)) => format!("{link}; {hint}"),
            (None, Some(hint)) => format!("spec.source.http.pagination is not set, so the run has one page; {hint}"),
            (link, None) => link.clone()?,
        };
        Some(Note {
            text,
            is_warning: hint.is_some(),
        })
    }

    fn record(&mut self, position: &Position, answer: &Answer, signs: &Signs, items: &[Item]) {
        self.pages += 1;
        self.items += count(items);
        self.largest_page = self.largest_page.max(count(items));
        self.empty_in_a_row = if items.is_empty() { self.empty_in_a_row + 1 } else { 0 };
        self.total = signs.total.or(self.total);
        if matches!(self.pagination.kind, PaginationType::Single | PaginationType::Repeat) {
            return;
        }
        match position {
            Position::First => self.requested.insert(hash(&Position::Url(answer.url.clone()))),
            position => self.requested.insert(hash(position)),
        };
        if !items.is_empty() {
            self.last_page = Some(hash_items(items));
        }
    }
}

fn check_total(total: Option<u64>, fetched: u64, end: &str) -> Result<(), PageError> {
    match total.filter(|total| fetched < *total) {
        None => Ok(()),
        Some(total) => Err(incomplete(format!(
            "the source has {total} items ({FIELD}.totalFrom or totalFromHeader), but only {fetched} were fetched when {end}"
        ))),
    }
}

const fn is_from_answer(position: &Position) -> bool {
    matches!(position, Position::Cursor(_) | Position::Url(_))
}

fn count(items: &[Item]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn hash_items(items: &[Item]) -> u64 {
    // Quick, because each byte of a run is hashed. Only a source that wants its runs to fail would search for collisions.
    let mut hasher = foldhash::quality::FixedState::default().build_hasher();
    for item in items {
        match item {
            Item::Json(raw) => raw.get().hash(&mut hasher),
            Item::InvalidLine(line) => line.hash(&mut hasher),
        }
    }
    hasher.finish()
}

fn wrong(message: impl Into<String>) -> PageError {
    PageError::Wrong(Failure::configuration(RESPONSE_INVALID, message))
}

fn incomplete(message: String) -> PageError {
    PageError::Final(Failure::configuration(INCOMPLETE, message))
}

fn repeated(message: String) -> PageError {
    PageError::Final(Failure::configuration(PAGE_REPEATED, message))
}
