//! A server with pages, of any style and end, that may fail or deceive.

use serde_json::{Value as Json, json};
use userpipeline_api::HttpSource;

use super::{super::Answer, answer};

/// How a page leads to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Page,
    /// From page 0.
    PageFromZero,
    Offset,
    Cursor,
    CursorInHeader,
    LastItem,
    Link,
    NextUrl,
}

/// How the spec declares the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No items, or no next cursor or URL.
    Natural,
    PageSize,
    HasMore,
    TotalPages,
    Total,
    TotalInHeader,
    /// 404 past the end.
    Status,
}

/// What a server does wrong, from some page on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    /// Every response is the first page.
    IgnoresPosition,
    /// It has no more items, but says that it has.
    Dries,
    /// An error, with status 200.
    ReportsError,
    /// An error without a body that can be read.
    Fails,
    /// Its total is too large.
    Exaggerates,
}

impl Style {
    pub const ALL: [Self; 8] = [
        Self::Page,
        Self::PageFromZero,
        Self::Offset,
        Self::Cursor,
        Self::CursorInHeader,
        Self::LastItem,
        Self::Link,
        Self::NextUrl,
    ];

    /// The response has the next cursor or URL.
    const fn has_next(self) -> bool {
        matches!(self, Self::Cursor | Self::CursorInHeader | Self::Link | Self::NextUrl)
    }
}

impl End {
    pub const ALL: [Self; 7] = [
        Self::Natural,
        Self::PageSize,
        Self::HasMore,
        Self::TotalPages,
        Self::Total,
        Self::TotalInHeader,
        Self::Status,
    ];

    const fn is_total(self) -> bool {
        matches!(self, Self::Total | Self::TotalInHeader)
    }
}

impl Sabotage {
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::IgnoresPosition,
        Self::Dries,
        Self::ReportsError,
        Self::Fails,
        Self::Exaggerates,
    ];
}

#[derive(Clone, Debug)]
pub struct Model {
    style: Style,
    end: End,
    sabotage: Sabotage,
    /// The first page that is sabotaged.
    at: usize,
    size: usize,
    /// Ids of items.
    pages: Vec<Vec<usize>>,
    count: usize,
    /// What happens to each request: a transient failure, or nothing.
    failures: Vec<u8>,
    requests: usize,
    /// It has answered the request with something else than JSON.
    was_wrong: bool,
}

impl Model {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        style: Style,
        end: End,
        sabotage: Sabotage,
        count: usize,
        size: usize,
        holes: &[usize],
        at: usize,
        failures: Vec<u8>,
    ) -> Self {
        let all: Vec<usize> = (1..=count).collect();
        let mut pages: Vec<Vec<usize>> = all.chunks(size).map(<[usize]>::to_vec).collect();
        // Pages without items, where the response can say that there is more.
        let can_say = style.has_next() || !matches!(end, End::Natural | End::PageSize);
        if can_say && end != End::PageSize && !matches!(style, Style::Offset | Style::LastItem) {
            // Not behind the last item: a total does not say it.
            let last = pages.len();
            holes
                .iter()
                .filter(|hole| **hole < last)
                .for_each(|hole| pages.insert(*hole, Vec::new()));
        }
        let can_dry = end == End::HasMore || end.is_total();
        let applies = match sabotage {
            Sabotage::Dries => can_dry && at < pages.len() && pages[at..].iter().any(|page| !page.is_empty()),
            Sabotage::Exaggerates => end.is_total(),
            // Pages without items are equal on any server.
            Sabotage::IgnoresPosition => pages.first().is_some_and(|page| !page.is_empty()),
            _ => true,
        };
        Self {
            style,
            end,
            sabotage: if applies { sabotage } else { Sabotage::None },
            at,
            size,
            pages,
            count,
            failures,
            requests: 0,
            was_wrong: false,
        }
    }

    pub fn is_honest(&self) -> bool {
        self.sabotage == Sabotage::None
    }

    pub fn items(&self) -> Vec<Json> {
        self.pages.iter().flatten().map(|id| json!({"id": id})).collect()
    }

    pub fn necessary_requests(&self) -> usize {
        self.pages.len().max(1)
    }

    pub fn source(&self) -> HttpSource {
        let mut pagination = match self.style {
            Style::Page => json!({"type": "Page", "parameter": "p"}),
            Style::PageFromZero => json!({"type": "Page", "parameter": "p", "start": 0}),
            Style::Offset => json!({"type": "Offset", "parameter": "p"}),
            Style::Cursor => json!({"type": "Cursor", "parameter": "p", "cursorFrom": "/meta/next"}),
            Style::CursorInHeader => json!({"type": "Cursor", "parameter": "p", "cursorFromHeader": "X-Next"}),
            Style::LastItem => json!({"type": "Cursor", "parameter": "p", "cursorFromLastItem": "/id"}),
            Style::Link => json!({"type": "Link"}),
            Style::NextUrl => json!({"type": "NextUrl", "nextUrlFrom": "/meta/next"}),
        };
        match self.end {
            End::Natural => {}
            End::PageSize => pagination["pageSize"] = json!(self.size),
            End::HasMore => pagination["endWhen"] = json!("!answer.meta.has_more"),
            End::TotalPages => pagination["endWhen"] = json!("page >= answer.meta.pages"),
            End::Total => pagination["totalFrom"] = json!("/meta/total"),
            End::TotalInHeader => pagination["totalFromHeader"] = json!("x-total"),
            End::Status => pagination["endOnStatus"] = json!([404]),
        }
        serde_json::from_value(json!({"url": "http://a/?s=1", "items": "/data", "pagination": pagination})).unwrap()
    }

    /// The response to a request. None: the server cannot be reached any more.
    pub fn respond(&mut self, url: &str) -> Option<Answer> {
        let failure = self.failures.get(self.requests).copied();
        self.requests += 1;
        match failure {
            Some(1) => return Some(answer(200, &[], "{\"data\": [{\"id\": 1},")),
            // Not twice for a page: a run gives up then.
            Some(2) if !self.was_wrong => {
                self.was_wrong = true;
                return Some(answer(200, &[], "<html>busy</html>"));
            }
            _ => self.was_wrong = false,
        }
        let url: reqwest::Url = url.parse().unwrap();
        let parameter = url.query_pairs().find(|(name, _)| name == "p").map(|(_, value)| value.into_owned());
        let page = parameter.map_or(0, |value| self.page_of(value.parse().unwrap()));
        self.page(page)
    }

    fn page_of(&self, value: usize) -> usize {
        match self.style {
            Style::Page => value - 1,
            Style::Offset | Style::LastItem => value.div_ceil(self.size),
            _ => value,
        }
    }

    fn page(&self, page: usize) -> Option<Answer> {
        let is_sabotaged = page >= self.at;
        match self.sabotage {
            Sabotage::Fails if is_sabotaged => return None,
            Sabotage::ReportsError if is_sabotaged => return Some(answer(200, &[], "{\"error\": {\"code\": 4}}")),
            _ => {}
        }
        let page = if self.sabotage == Sabotage::IgnoresPosition { 0 } else { page };
        if page >= self.pages.len() && page > 0 && self.end == End::Status {
            return Some(answer(404, &[], "{}"));
        }
        let is_dry = self.sabotage == Sabotage::Dries && is_sabotaged;
        let ids = self.pages.get(page).filter(|_| !is_dry).cloned().unwrap_or_default();
        let has_more = page + 1 < self.pages.len() || is_dry;
        let next = has_more.then(|| page + 1);
        let total = self.count + usize::from(self.sabotage == Sabotage::Exaggerates);
        let mut headers = vec![("x-total", total.to_string())];
        let mut meta = json!({"has_more": has_more, "pages": self.pages.len(), "total": total});
        match (self.style, next) {
            (Style::Cursor, next) => meta["next"] = json!(next),
            (Style::CursorInHeader, Some(next)) => headers.push(("x-next", next.to_string())),
            (Style::Link, Some(next)) => headers.push(("link", format!("<http://a/?s=1>; rel=first, <?p={next}>; rel=\"next\""))),
            (Style::Link, None) => headers.push(("link", "<http://a/?s=1>; rel=first".to_owned())),
            (Style::NextUrl, Some(next)) => meta["next"] = json!(format!("http://a/?s=1&p={next}")),
            _ => {}
        }
        let data: Vec<Json> = ids.iter().map(|id| json!({"id": id})).collect();
        Some(answer(200, &headers, &json!({"meta": meta, "data": data}).to_string()))
    }
}
