//! Requests to the source, page by page: authentication, pagination, timeouts, rate limit and retries.

mod auth;
mod body;
mod error;
mod headers;
mod paging;
mod placeholders;
mod rate_limit;
mod redirects;
mod request;
mod source;
mod timeouts;

pub use self::{paging::text_at, placeholders::fill_placeholders, request::FetchedPage, source::Source};

#[cfg(test)]
mod tests;
