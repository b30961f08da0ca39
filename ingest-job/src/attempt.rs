//! One attempt of a run, page by page from the source to the topic.

use tokio_util::sync::CancellationToken;
use userpipeline_api::{RunKind, document::IngestPipeline, placeholder::Values};
use userpipeline_record::{RawForm, RecordSchema};
use userpipeline_stores::{Secrets, StoreError};

use crate::{
    cursor::{self, Cursor},
    fetch::{FetchedPage, Note, Source, fill_placeholders},
    land::Landing,
    ledger::Ledger,
    outcome::{Failure, FetchEnd, INCOMPLETE, PIPELINE_INVALID, SOURCE_REFUSED, Success, decide, remaining_items},
    page::MappedPage,
    publish::Publisher,
};

pub struct Attempt<'a> {
    pipeline: &'a IngestPipeline,
    ledger: &'a mut Ledger,
    schema: RecordSchema,
    raw_form: RawForm,
    values: Values,
    cursor: Option<Cursor>,
    source: Source,
    landing: Landing,
    publisher: Publisher,
    /// Without the item's values: it becomes part of the status.
    first_reject: Option<String>,
    /// From the first page.
    note: Option<Note>,
    /// The record limit excluded items of the last page.
    is_cut: bool,
    /// Fetched while the page before was published.
    next: Option<Result<FetchedPage, FetchEnd>>,
}

impl<'a> Attempt<'a> {
    /// Opens source and stores, and publishes what interrupted runs left.
    pub async fn start(
        pipeline: &'a IngestPipeline,
        mut values: Values,
        secrets: &Secrets,
        ledger: &'a mut Ledger,
    ) -> Result<Self, Failure> {
        let schema = read_schema(pipeline, secrets)?;
        let cursor = load_cursor(pipeline, &values, ledger).await?;
        values.cursor = cursor.as_ref().map(|cursor| cursor.sent().to_owned());
        let source = Source::new(&fill_placeholders(&pipeline.source, &values)?, secrets)?;
        let mut publisher = Publisher::open(pipeline, &schema, secrets, &ledger.client).await?;
        let landing = Landing::prepare(&ledger.client, &ledger.key.pipeline, &pipeline.landing_table, &schema).await?;
        publisher.publish_pending(ledger).await?;
        if ledger.counts.published > 0 {
            tracing::info!(
                published = ledger.counts.published,
                "published the pending rows of interrupted runs"
            );
        }
        Ok(Self {
            pipeline,
            ledger,
            raw_form: RawForm::of(&schema, pipeline.raw),
            schema,
            values,
            cursor,
            source,
            landing,
            publisher,
            first_reject: None,
            note: None,
            is_cut: false,
            next: None,
        })
    }

    /// Fetches, lands and publishes pages until the run ends.
    pub async fn run(mut self, stop: &CancellationToken) -> Result<Success, Failure> {
        let limit = self.pipeline.source.max_records_per_run;
        // With pages, each attempt restarts at the first one and fetches the items of earlier attempts again.
        let limit = if self.source.repeats() {
            remaining_items(limit, self.ledger.before)
        } else {
            limit
        };
        let end = loop {
            let left = limit - self.ledger.counts.items;
            if left <= 0 {
                break FetchEnd::RecordLimit;
            }
            let number = async || self.landing.number_request(&self.ledger.client).await;
            let page = match self.next.take() {
                Some(_) if stop.is_cancelled() => Err(FetchEnd::Interrupted),
                Some(next) => next,
                None => self.source.next(stop, number).await,
            };
            let page = match page {
                Ok(page) => page,
                Err(end) => break end,
            };
            if let Some(end) = self.process(page, left, stop).await? {
                break end;
            }
        };
        self.finish(end).await
    }

    /// Lands and publishes a page. Returns the end of the run, if this was the last page.
    async fn process(&mut self, page: FetchedPage, left: i64, stop: &CancellationToken) -> Result<Option<FetchEnd>, Failure> {
        let limit = self.advance_cursor(&page, left)?;
        let FetchedPage {
            items,
            body,
            note,
            request,
        } = page;
        drop(body);
        self.note = self.note.take().or(note);
        let page = MappedPage::map(items, limit, &self.schema, self.pipeline.max_record, &self.raw_form);
        if self.first_reject.is_none() {
            self.first_reject = page.rejects.first().map(ToString::to_string);
        }
        let landed_before = self.ledger.counts.landed;
        if let Some(old) = self.ledger.use_rotated_files().await? {
            self.prepare_again().await?;
            // Only now: its lock says that this run is active.
            drop(old);
        }
        self.land(&page, request).await?;
        let items = page.items();
        // Its messages need memory, too.
        drop(page);
        self.publish(items, left, stop).await?;
        let counts = self.ledger.counts;
        tracing::info!(
            items,
            total_items = counts.items,
            total_landed = counts.landed,
            total_published = counts.published,
            "landed and published a page"
        );
        if self.source.repeats() && (items == 0 || !self.update_request(counts.landed > landed_before)?) {
            return Ok(Some(FetchEnd::Exhausted));
        }
        Ok(counts.should_abort(self.pipeline.max_rejected_ratio).then_some(FetchEnd::Aborted))
    }

    /// Publishes a page of `items`, and meanwhile fetches the next one if there is one whatever happens to this one.
    async fn publish(&mut self, items: usize, left: i64, stop: &CancellationToken) -> Result<(), StoreError> {
        let is_last = left <= i64::try_from(items).unwrap_or(i64::MAX)
            || self.source.repeats() && items == 0
            || self.ledger.counts.should_abort(self.pipeline.max_rejected_ratio);
        let is_next_known = self.cursor.is_none() && !self.landing.has_request_numbers();
        let publish = self.publisher.publish_pending(self.ledger);
        if is_last || !is_next_known {
            return publish.await;
        }
        let fetch = async { Ok(self.source.next(stop, async || Ok(0)).await) };
        let ((), next) = tokio::try_join!(publish, fetch)?;
        self.next = Some(next);
        Ok(())
    }

    /// Returns how many items of the page are mapped. With a cursor it is all of them, because the cursor advances past them.
    fn advance_cursor(&mut self, page: &FetchedPage, left: i64) -> Result<i64, Failure> {
        let Some(cursor) = &mut self.cursor else {
            self.is_cut = !self.source.repeats() && i64::try_from(page.items.len()).unwrap_or(i64::MAX) > left;
            return Ok(left);
        };
        cursor
            .advance(&page.items, &page.body)
            .map_err(|e| Failure::configuration(SOURCE_REFUSED, format!("spec.source.http.cursor: {e}")))?;
        Ok(i64::MAX)
    }

    /// On the ledger's new connection.
    async fn prepare_again(&mut self) -> Result<(), StoreError> {
        let Ledger { client, key, .. } = &*self.ledger;
        self.landing = Landing::prepare(client, &key.pipeline, &self.pipeline.landing_table, &self.schema).await?;
        self.publisher.prepare(client).await
    }

    async fn land(&mut self, page: &MappedPage, request: i64) -> Result<(), StoreError> {
        // Items that fail the run by their number of rejects must be fetched again once the cause is fixed.
        let has_too_many_rejects = self
            .ledger
            .counts
            .with(page.items(), page.rejects.len())
            .has_too_many_rejects(self.pipeline.max_rejected_ratio);
        let stores_cursor = self.source.repeats() && !has_too_many_rejects;
        let cursor = self.cursor.as_ref().filter(|_| stores_cursor);
        self.landing.land(self.ledger, page, request, cursor).await
    }

    /// Puts the advanced cursor into the next request. Returns false at the end of the source: the cursor did not advance.
    fn update_request(&mut self, page_had_new_records: bool) -> Result<bool, Failure> {
        let Some(cursor) = &mut self.cursor else { return Ok(true) };
        if cursor.update_request() {
            self.values.cursor = Some(cursor.sent().to_owned());
            self.source
                .update_request(&fill_placeholders(&self.pipeline.source, &self.values)?)?;
            return Ok(true);
        }
        if page_had_new_records {
            // Without the cursor's value, which may be personal data.
            let message = "spec.source.http.cursor: a page had new records, but the cursor did not advance, because more items have its value than a page holds: request larger pages";
            return Err(Failure::configuration(INCOMPLETE, message));
        }
        Ok(false)
    }

    async fn finish(self, end: FetchEnd) -> Result<Success, Failure> {
        let end = match end {
            FetchEnd::RecordLimit | FetchEnd::TimeUp | FetchEnd::RateLimited { .. } if self.is_cut || self.source.may_have_more() => {
                FetchEnd::Incomplete(Box::new(end))
            }
            end => end,
        };
        let Ledger {
            client,
            key,
            before,
            counts,
            ..
        } = self.ledger;
        let ratio = self.pipeline.max_rejected_ratio;
        let message = decide(end, *before, *counts, self.first_reject.as_deref(), ratio)?;
        let message = match &self.note {
            Some(note) if !note.is_warning => format!("{message}; {}", note.text),
            _ => message,
        };
        let warning = self.note.filter(|note| note.is_warning).map(|note| note.text);
        let Some(cursor) = self.cursor else {
            return Ok(Success { message, warning });
        };
        // With pages, the cursor is stored only now, after the last one. A repeated request has stored it with each page.
        let transaction = client.transaction().await.map_err(|e| cursor::failed(&e))?;
        cursor.store(&transaction, key).await?;
        transaction.commit().await.map_err(|e| cursor::failed(&e))?;
        let message = format!("{message}; {}", cursor.summary());
        Ok(Success { message, warning })
    }
}

/// The record, with the keys of its masks.
fn read_schema(pipeline: &IngestPipeline, secrets: &Secrets) -> Result<RecordSchema, Failure> {
    let invalid = |problems| Failure::configuration(PIPELINE_INVALID, problems);
    let mut schema = RecordSchema::read(pipeline.record.as_ref()).map_err(invalid)?;
    let problems = schema.read_mask_keys(|secret, field| secrets.value(&secret.name, &secret.key, field))?;
    if problems.is_empty() {
        Ok(schema)
    } else {
        Err(invalid(problems.join("; ")))
    }
}

async fn load_cursor(pipeline: &IngestPipeline, values: &Values, ledger: &Ledger) -> Result<Option<Cursor>, Failure> {
    let Some(spec) = &pipeline.source.cursor else { return Ok(None) };
    if values.kind == RunKind::Backfill {
        let message = "a pipeline with spec.source.http.cursor fetches only what is new and has no past intervals: delete the back-fill";
        return Err(Failure::configuration(PIPELINE_INVALID, message));
    }
    let cursor = Cursor::load(&ledger.client, &ledger.key.pipeline, &values.arguments, spec).await?;
    Ok(Some(cursor))
}
