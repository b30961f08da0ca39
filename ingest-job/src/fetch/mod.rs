//! Requests to the source, page by page: authentication, pagination, timeouts, rate limit and retries.

mod auth;
mod body;
mod error;
mod error_rules;
mod headers;
mod pagination;
mod pause;
mod placeholders;
mod quote;
mod rate_limit;
mod redirects;
mod request;
mod source;
mod timeouts;

pub(crate) use self::pagination::Note;
pub use self::{
    pagination::text_at,
    placeholders::fill_placeholders,
    source::{FetchedPage, Source},
};

#[cfg(test)]
mod tests;
