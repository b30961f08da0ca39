//! Pagination: how one page leads to the next, and where the last one is.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one page leads to the next, and where the last one is.
///
/// The end is declared by any of `pageSize`, `endWhen`, `endOnStatus`, `totalFrom` and `totalFromHeader`. With
/// a declared end, a page without items does not end a run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.parameter), has(self.header), has(self.bodyPointer), has(self.formField)].filter(given, given).size() == (self.type in ['Page', 'Offset', 'Cursor'] ? 1 : 0)")
        .message("spec.source.http.pagination.parameter is required with types Page, Offset and Cursor, and not allowed with others; header, bodyPointer or formField may take its place"),
    validation = Rule::new("[has(self.cursorFrom), has(self.cursorFromHeader), has(self.cursorFromLastItem)].filter(given, given).size() == (self.type == 'Cursor' ? 1 : 0)")
        .message("spec.source.http.pagination.cursorFrom is required with type Cursor, and not allowed with others; cursorFromHeader or cursorFromLastItem may take its place"),
    validation = Rule::new("has(self.nextUrlFrom) == (self.type == 'NextUrl')")
        .message("spec.source.http.pagination.nextUrlFrom is required with type NextUrl, and not allowed with others"),
    validation = Rule::new("!has(self.start) || self.type in ['Page', 'Offset']")
        .message("spec.source.http.pagination.start is allowed only with types Page and Offset"),
    validation = Rule::new("!has(self.step) || self.type == 'Offset'")
        .message("spec.source.http.pagination.step is allowed only with type Offset"),
    validation = Rule::new("!(has(self.pageSize) || has(self.endWhen) || has(self.endOnStatus) || has(self.totalFrom) || has(self.totalFromHeader) || has(self.emptyPage)) || self.type in ['Page', 'Offset', 'Cursor', 'Link', 'NextUrl']")
        .message("spec.source.http.pagination.pageSize, endWhen, endOnStatus, totalFrom, totalFromHeader and emptyPage need a type with pages: Page, Offset, Cursor, Link or NextUrl"),
    validation = Rule::new("!has(self.totalFrom) || !has(self.totalFromHeader)")
        .message("spec.source.http.pagination must not have both totalFrom and totalFromHeader"),
    validation = Rule::new("!has(self.pageSize) || !(has(self.endWhen) || has(self.totalFrom) || has(self.totalFromHeader))")
        .message("spec.source.http.pagination.pageSize excludes endWhen, totalFrom and totalFromHeader: in endWhen, write size(items) < 100"),
    validation = Rule::new("!has(self.emptyPage) || self.emptyPage != 'Continue' || has(self.endWhen) || has(self.endOnStatus) || has(self.totalFrom) || has(self.totalFromHeader) || (self.type in ['Cursor', 'Link', 'NextUrl'] && !has(self.cursorFromLastItem))")
        .message("spec.source.http.pagination.emptyPage: Continue needs a declared end: set endWhen, endOnStatus, totalFrom or totalFromHeader"),
)]
pub struct Pagination {
    /// How one page leads to the next.
    #[serde(default, rename = "type")]
    pub kind: PaginationType,
    /// Query parameter for page, offset or cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub parameter: Option<String>,
    /// Header for page, offset or cursor, instead of `parameter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')")
        .message("spec.source.http.pagination.header must contain only letters, digits and '-'"))]
    pub header: Option<String>,
    /// JSON pointer to page, offset or cursor in `body`, instead of `parameter`: `/variables/after`. Missing
    /// objects are created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.pagination.bodyPointer must be a JSON pointer such as /variables/after"))]
    pub body_pointer: Option<String>,
    /// Field for page, offset or cursor in `body`, a form (`application/x-www-form-urlencoded`), instead of
    /// `parameter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub form_field: Option<String>,
    /// First page or offset. Default: 1 for `Page`, 0 for `Offset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub start: Option<i64>,
    /// By how much each page advances the offset. Default: its number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub step: Option<i64>,
    /// JSON pointer to the next cursor in a response: `/meta/next`. Absent, null, false or an empty text: it was
    /// the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.pagination.cursorFrom must be a JSON pointer such as /meta/next"))]
    pub cursor_from: Option<String>,
    /// Header of a response that has the next cursor, instead of `cursorFrom`. Absent or empty: it was the last
    /// page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')")
        .message("spec.source.http.pagination.cursorFromHeader must contain only letters, digits and '-'"))]
    pub cursor_from_header: Option<String>,
    /// JSON pointer to the next cursor in the last item of a page, instead of `cursorFrom`: `/id`. Every item
    /// at the end of a page must have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.pagination.cursorFromLastItem must be a JSON pointer such as /id"))]
    pub cursor_from_last_item: Option<String>,
    /// JSON pointer to the URL of the next page in a response: `/links/next`, `/@odata.nextLink`. It may be
    /// relative. Absent, null, false or an empty text: it was the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.pagination.nextUrlFrom must be a JSON pointer such as /links/next"))]
    pub next_url_from: Option<String>,
    /// Number of items of a full page. A page with fewer items is the last one. It is not sent: use `query`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub page_size: Option<i64>,
    /// CEL expression. If it is true, the page is the last one: `!answer.has_more`, `page >=
    /// answer.total_pages`. It reads `answer` (the response), `items`, `page` (the page's number, counted from
    /// 1) and `headers` (of the response, names in lower case).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub end_when: Option<String>,
    /// Status codes that end a run after its first page: `[400, 404]`. Allowed are 204, and 400 to 499 except
    /// 401, 407, 408, 425 and 429.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8), inner(range(min = 204, max = 499)))]
    #[x_kube(validation = Rule::new("self.all(status, status == 204 || (status >= 400 && !(status in [401, 407, 408, 425, 429])))")
        .message("spec.source.http.pagination.endOnStatus may have 204, and 400 to 499 except 401, 407, 408, 425 and 429, which do not mean an end"))]
    pub end_on_status: Vec<i32>,
    /// JSON pointer to the total number of items in a response: `/meta/total`. A run ends once it has fetched
    /// so many items, and fails if the source ends earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.pagination.totalFrom must be a JSON pointer such as /meta/total"))]
    pub total_from: Option<String>,
    /// Header of a response that has the total number of items, instead of `totalFrom`: `X-Total-Count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')")
        .message("spec.source.http.pagination.totalFromHeader must contain only letters, digits and '-'"))]
    pub total_from_header: Option<String>,
    /// See [`EmptyPage`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_page: Option<EmptyPage>,
}

impl Pagination {
    /// Whether the spec declares where the last page is.
    pub const fn has_declared_end(&self) -> bool {
        self.page_size.is_some() || self.end_when.is_some() || !self.end_on_status.is_empty() || self.has_total()
    }

    /// Whether a response has the total number of items.
    pub const fn has_total(&self) -> bool {
        self.total_from.is_some() || self.total_from_header.is_some()
    }
}

/// How one page leads to the next.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaginationType {
    /// One request returns all items.
    #[default]
    Single,
    /// Each request is the same, and each response has other items. The run ends at a response without items.
    Repeat,
    /// By page number.
    Page,
    /// By the number of items so far.
    Offset,
    /// By a cursor in each response.
    Cursor,
    /// By the header `Link` with `rel="next"`, on the same server or one of `allowedHosts`. The run ends at a
    /// response without one.
    Link,
    /// By the URL of the next page in each response, on the same server or one of `allowedHosts`.
    NextUrl,
}

/// What a page without items means. Default: `Continue` with a declared end, and where the response has the
/// next cursor or URL; otherwise `End`.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmptyPage {
    /// It is the last one.
    End,
    /// More pages may follow.
    Continue,
}
