//! Pagination: how one page leads to the next, and where the last one is. Pure.

mod answer;
mod end_when;
mod hints;
mod link;
mod next;
mod no_items;
mod pager;
mod placement;
mod position;
mod total;

pub use self::{
    answer::{Answer, Meaning, Note},
    end_when::headers_json,
    next::text_at,
    pager::{PageError, Pager},
    placement::Placement,
    position::{Next, Position},
};

#[cfg(test)]
mod tests;
