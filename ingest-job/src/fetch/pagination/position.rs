//! Where a page is in the source.

use reqwest::Url;

/// The position of a page in the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    First,
    /// A page number or an offset.
    Number(i64),
    Cursor(Token),
    /// The URL of a page, from the response before it.
    Url(Url),
}

/// A cursor as the source wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub text: String,
    /// Written without quotes.
    pub is_number: bool,
}

/// What follows a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    At(Position),
    End,
}
