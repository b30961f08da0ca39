//! What the source responds, and the page that is read from it.

use reqwest::{StatusCode, Url, header::HeaderMap};

use super::position::Next;
use crate::{page::Item, raw_item::Body};

/// What the source responded.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Where it was requested, after redirects.
    pub url: Url,
    pub body: Body,
    pub meaning: Meaning,
}

/// What a response is for the pagination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meaning {
    #[default]
    Page,
    /// A page, although it reports errors.
    PageWithErrors,
    /// There are no more items.
    End,
}

/// A page as the pager reads it from an answer.
#[derive(Debug)]
pub struct ReadPage {
    pub items: Vec<Item>,
    pub next: Next,
    pub note: Option<Note>,
}

/// What a user should know about a run that may have succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub text: String,
    /// More may be at the source than the run reads.
    pub is_warning: bool,
}
